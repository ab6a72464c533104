/* wait_select.c - the wait of stage 3 by select(2).
 * Does not: scale; each call tells the kernel everything anew, and looks at every fd. */
#include <sys/select.h>

#include "clients.h"

/* [stage3.wait] */
int wait_select(struct clients *clients, int timeout_ms)
{
    struct timeval timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
    fd_set readable, writable;
    int n = 0;

    FD_ZERO(&readable); /* the last call overwrote the sets */
    FD_ZERO(&writable);
    if (clients->accepting)
        FD_SET(clients->listener, &readable);
    for (int fd = 0; fd <= clients->max_fd; fd++) {
        struct conn *c = clients->by_fd[fd];

        if (c)
            FD_SET(fd, c->want == WANT_READ ? &readable : &writable);
    }

    if (select(clients->max_fd + 1, &readable, &writable, NULL,
               timeout_ms < 0 ? NULL : &timeout) == -1)
        return 0; /* EINTR: the sets say nothing */

    for (int fd = 0; fd <= clients->max_fd; fd++)
        if (FD_ISSET(fd, &readable) || FD_ISSET(fd, &writable))
            clients->ready[n++] = fd;
    return n;
}
