/* stage 2 - N processes, blocking calls: one client per process.
 * Does not: let a worker look at any other client before the present one is finished. */
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/options.h"
#include "base/stop.h"
#include "conn/conn.h"
#include "net/net.h"
#include "process/control.h"
#include "process/supervisor.h"

enum { FEATURES = OPTIONS_MASTER | OPTIONS_WORKERS };

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

/* Start worker `slot`. The listener is inherited: all workers sleep in accept4(2) on the
 * same queue, and the kernel wakes one of them for each client. fork(2). */
static pid_t spawn(int slot)
{
    pid_t pid = fork();

    if (pid == 0) {
        worker_begin(slot);
        worker_ready();
        event_loop();
        exit(EXIT_SUCCESS);
    }
    return pid;
}

int main(int argc, char **argv)
{
    opt = options_parse(argc, argv, FEATURES);
    control(&opt);
    conn_setup(&opt, true);
    listener = net_listen(&opt, 0);
    control_ready(&opt, FEATURES);
    supervise(&opt, spawn);
    control_end();
    return 0;
}
