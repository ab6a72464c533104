/* wait_poll.c - the wait of stage 3 by poll(2).
 * Does not: scale; each call tells the kernel everything anew, and looks at every fd. */
#include <poll.h>
#include <stdlib.h>

#include "clients.h"

int wait_poll(struct clients *clients, int timeout_ms)
{
    static struct pollfd *fds; /* one for each fd there may be */
    nfds_t watched = 0;
    int n = 0;

    if (fds == NULL)
        fds = calloc((size_t)clients->size, sizeof(*fds));
    if (clients->accepting)
        fds[watched++] = (struct pollfd){ .fd = clients->listener, .events = POLLIN };
    for (int fd = 0; fd <= clients->max_fd; fd++) {
        struct conn *c = clients->by_fd[fd];

        if (c)
            fds[watched++] =
                (struct pollfd){ .fd = fd,
                                 .events = c->want == WANT_READ ? POLLIN : POLLOUT };
    }

    if (poll(fds, watched, timeout_ms) == -1)
        return 0; /* EINTR */

    for (nfds_t i = 0; i < watched; i++)
        if (fds[i].revents != 0) /* POLLHUP and POLLERR come unasked */
            clients->ready[n++] = fds[i].fd;
    return n;
}
