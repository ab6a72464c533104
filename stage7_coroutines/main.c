/* stage 7 - N processes, a coroutine per client: calls that block let others run.
 * Does not: take its turn from a handler that computes; it lets others run when it waits. */
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/options.h"
#include "base/stop.h"
#include "conn/conn.h"
#include "loop.h"
#include "net/net.h"
#include "process/control.h"
#include "process/supervisor.h"

enum { FEATURES = OPTIONS_MASTER | OPTIONS_WORKERS | OPTIONS_COROUTINES };

static struct options opt;
static int listeners[MAX_WORKERS]; /* made by the parent, one per slot */
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

static void client(void *c)
{
    serve(c);
}

/* [stage7.loop] */
static void event_loop(void)
{
    while (!stopping) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC); /* sleeps here */
        struct conn *c = fd == -1 ? NULL : conn_open(fd);

        if (c)
            loop_start(client, c, fd);
        else if (!net_accept_failed())
            poll(NULL, 0, NET_PAUSE_MS);
    }
}

/* [stage7.spawn] */
/* Start worker `slot` on the listener that the parent keeps for that slot. A call that
 * would sleep lets another coroutine run; the worker sleeps when all of them do. fork(2). */
static pid_t spawn(int slot)
{
    pid_t pid = fork();

    if (pid == 0) {
        worker_begin(slot);
        listener = listeners[slot];
        loop_setup(&opt);
        worker_ready();
        loop_run(event_loop);
        exit(EXIT_SUCCESS);
    }
    return pid;
}

int main(int argc, char **argv)
{
    opt = options_parse(argc, argv, FEATURES);
    control(&opt);
    conn_setup(&opt, true);
    net_listen_reuseport(&opt, SOCK_NONBLOCK, listeners, opt.workers);
    control_ready(&opt, FEATURES);
    supervise(&opt, spawn);
    control_end();
    return 0;
}
