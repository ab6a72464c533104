/* stage 4 - N processes, epoll(7), a listener each: many clients per process.
 * Does not: help a client whose worker is busy; the others cannot take it over. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/options.h"
#include "base/stop.h"
#include "conn/conn.h"
#include "net/net.h"
#include "process/control.h"
#include "process/supervisor.h"

enum { ACCEPT_BATCH = 64, EDGE_ROUNDS = 16, MAX_EVENTS = 256 };

enum { FEATURES = OPTIONS_MASTER | OPTIONS_WORKERS | OPTIONS_EPOLL };

static struct options opt;
static int listeners[MAX_WORKERS]; /* made by the parent, one per slot */
static int listener;               /* this worker's */
static int epoll;
static bool watching; /* the listener */

/* [stage4.watch] */
/* Tell the kernel what `c` waits for; the kernel remembers it. epoll_ctl(2). */
static void watch(struct conn *c, int op)
{
    struct epoll_event event = { .data.ptr = c };

    if (opt.trigger == TRIGGER_EDGE)
        event.events = EPOLLIN | EPOLLOUT | EPOLLET; /* each change is told once */
    else
        event.events = c->want == WANT_READ ? EPOLLIN : EPOLLOUT;
    c->watched = c->want;
    if (epoll_ctl(epoll, op, c->fd, &event) == -1)
        c->want = WANT_CLOSE;
}

/* Watch the listener, or look away while nobody can be let in. True: it was watched until
 * now, and a wake-up that no other worker got may have come. */
static bool watch_listener(bool on)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };

    if (opt.accept == ACCEPT_EXCLUSIVE)
        event.events |= EPOLLEXCLUSIVE; /* wake one worker, not all */
    if (on == watching)
        return false;
    if (epoll_ctl(epoll, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listener, &event) == -1)
        die(EXIT_SYSTEM, "epoll_ctl: %s", strerror(errno));
    watching = on;
    return !on;
}

static void step(struct conn *c)
{
    if (c->want == WANT_READ)
        conn_fill(c);
    else if (c->want == WANT_WRITE)
        conn_drain(c);
}

/* [stage4.serve] */
/* Do for one client what can be done now, then go back to the loop. */
static void serve(struct conn *c)
{
    int rounds = EDGE_ROUNDS;

    step(c);
    if (opt.trigger == TRIGGER_EDGE) { /* no second notice comes: on until EAGAIN */
        while (c->want != WANT_CLOSE && !c->would_block && --rounds > 0)
            step(c);
        if (rounds == 0)
            watch(c, EPOLL_CTL_MOD); /* others' turn; modifying gives notice again */
    } else if (c->want != c->watched && c->want != WANT_CLOSE)
        watch(c, EPOLL_CTL_MOD);
    if (c->want == WANT_CLOSE)
        conn_close(c);
}

static void accept_clients(void)
{
    for (int i = 0; i < ACCEPT_BATCH && conn_count < opt.max_connections; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct conn *c = fd == -1 ? NULL : conn_open(fd);

        if (c) {
            watch(c, EPOLL_CTL_ADD);
            if (c->want == WANT_CLOSE)
                conn_close(c);
        } else if (!net_accept_failed())
            break;
    }
}

/* [stage4.loop] */
static void event_loop(void)
{
    struct epoll_event ready[MAX_EVENTS];

    while (!stopping || conn_count > 0 || watching) {
        bool paused = net_paused();
        int timeout_ms = paused ? NET_PAUSE_MS : conn_timeout_ms();
        bool knock =
            watch_listener(!stopping && !paused && conn_count < opt.max_connections);
        struct conn *c;
        int n;

        n = epoll_wait(epoll, ready, MAX_EVENTS, knock ? 0 : timeout_ms);
        for (int i = 0; i < n; i++) {
            if (ready[i].data.ptr == NULL)
                knock = true;
            else
                serve(ready[i].data.ptr);
        }
        if (knock)
            accept_clients(); /* last: those who are here come first */
        while ((c = conn_expired()))
            serve(c);
    }
}

/* [stage4.spawn] */
/* Start worker `slot` on the listener that the parent keeps for that slot: if the worker
 * dies, its successor inherits the same queue. fork(2), socket(7). */
static pid_t spawn(int slot)
{
    pid_t pid = fork();

    if (pid == 0) {
        worker_begin(slot);
        listener = listeners[opt.accept == ACCEPT_REUSEPORT ? slot : 0];
        epoll = epoll_create1(EPOLL_CLOEXEC);
        if (epoll == -1)
            die(EXIT_SYSTEM, "epoll_create1: %s", strerror(errno));
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
    conn_setup(&opt, false);
    if (opt.accept == ACCEPT_REUSEPORT)
        net_listen_reuseport(&opt, SOCK_NONBLOCK, listeners, opt.workers);
    else
        listeners[0] = net_listen(&opt, SOCK_NONBLOCK);
    control_ready(&opt, FEATURES);
    supervise(&opt, spawn);
    control_end();
    return 0;
}
