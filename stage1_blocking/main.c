/* stage 1 - one process, blocking calls: one client at a time.
 * Does not: look at any other client before the present one is finished. */
#include <poll.h>
#include <sys/socket.h>

#include "base/options.h"
#include "base/stop.h"
#include "conn/conn.h"
#include "net/net.h"
#include "process/control.h"

static struct options opt;
static int listener;

/* [stage1.serve] */
/* Talk to one client, and come back when it is finished. */
static void serve(struct conn *c)
{
    while (c->want != WANT_CLOSE) {
        if (c->want == WANT_READ)
            conn_fill(c); /* sleeps in recv(2) */
        else
            conn_drain(c); /* sleeps in send(2) */
    }
    conn_close(c);
}

/* [stage1.loop] */
static void event_loop(void)
{
    while (!stopping) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC); /* sleeps here */
        struct conn *c = fd == -1 ? NULL : conn_open(fd);

        if (c)
            serve(c);
        else if (!net_accept_failed())
            poll(NULL, 0, NET_PAUSE_MS);
    }
}

int main(int argc, char **argv)
{
    opt = options_parse(argc, argv, 0);
    control(&opt);
    conn_setup(&opt, true);
    listener = net_listen(&opt, 0);
    control_ready(&opt, 0);
    event_loop();
    control_end();
    return 0;
}
