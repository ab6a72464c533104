/* stage 6 - N processes, libevent's loop, a listener each: a handler that has to wait
 * leaves an event with the loop and returns; a callback answers.
 * Does not: help a client whose worker is busy; the others cannot take it over. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/options.h"
#include "base/stop.h"
#include "conn/conn.h"
#include "loop.h"
#include "net/net.h"
#include "process/control.h"
#include "process/supervisor.h"

enum { ACCEPT_BATCH = 64 };

enum { FEATURES = OPTIONS_MASTER | OPTIONS_WORKERS | OPTIONS_CALLBACKS };

static struct options opt;
static int listeners[MAX_WORKERS]; /* made by the parent, one per slot */
static int listener;               /* this worker's */
static struct event *events; /* by descriptor: of the clients, and of the listener */
static bool watching;        /* the listener */
static bool knock;           /* somebody is at it */

static void on_client(evutil_socket_t fd, short what, void *arg);

/* [stage6.watch] */
/* Tell the loop what `c` waits for; the loop remembers it. Of one who waits for an answer
 * only the end is of interest, which the kernel tells unasked; but libevent hands it on
 * to readers and writers alone, and of a reset says nothing to EV_CLOSED. So as a writer,
 * to whom each change is told once (EV_ET): a reader would be told of each byte. */
static void watch(struct conn *c)
{
    struct event *event = &events[c->fd];
    short what = c->want == WANT_READ    ? EV_READ
                 : c->want == WANT_WRITE ? EV_WRITE
                                         : EV_WRITE | EV_ET;

    event_del(event);
    event_assign(event, loop, c->fd, (short)(what | EV_PERSIST), on_client, c);
    c->watched = c->want;
    if (event_add(event, NULL) == -1)
        c->want = WANT_CLOSE;
}

/* Watch the listener, or look away while nobody can be let in. True: it was watched until
 * now, and a wake-up that no other worker got may have come. */
static bool watch_listener(bool on)
{
    struct event *event = &events[listener];

    if (on == watching)
        return false;
    if ((on ? event_add(event, NULL) : event_del(event)) == -1)
        die(EXIT_SYSTEM, "libevent cannot watch the listener");
    watching = on;
    return !on;
}

static void step(struct conn *c)
{
    if (c->want == WANT_READ || c->want == WANT_REPLY)
        conn_fill(c);
    else if (c->want == WANT_WRITE)
        conn_drain(c);
}

/* [stage6.serve] */
/* Do for one client what can be done now, then go back to the loop. */
static void serve(struct conn *c)
{
    step(c);
    if (c->want != c->watched && c->want != WANT_CLOSE)
        watch(c);
    if (c->want == WANT_CLOSE) {
        event_del(&events[c->fd]);
        conn_close(c);
    }
}

static void on_client(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    serve(arg);
}

static void on_knock(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    knock = true;
}

static void accept_clients(void)
{
    for (int i = 0; i < ACCEPT_BATCH && conn_count < opt.max_connections; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct conn *c = fd == -1 ? NULL : conn_open(fd);

        if (c) {
            event_assign(&events[fd], loop, fd, 0, on_client, c);
            watch(c);
            if (c->want == WANT_CLOSE)
                conn_close(c);
        } else if (!net_accept_failed())
            break;
    }
}

/* [stage6.loop] */
static void event_loop(void)
{
    while (!stopping || conn_count > 0 || watching) {
        bool paused = net_paused();
        int timeout_ms = paused ? NET_PAUSE_MS : conn_timeout_ms();
        struct conn *c;

        knock = watch_listener(!stopping && !paused && conn_count < opt.max_connections);
        loop_wait(knock ? 0 : timeout_ms); /* which calls back on_client() and others */
        if (knock)
            accept_clients(); /* last: those who are here come first */
        while ((c = conn_expired()))
            serve(c);
    }
}

/* [stage6.spawn] */
/* Start worker `slot` on the listener that the parent keeps for that slot: if the worker
 * dies, its successor inherits the same queue. fork(2), socket(7). */
static pid_t spawn(int slot)
{
    pid_t pid = fork();

    if (pid == 0) {
        worker_begin(slot);
        listener = listeners[slot];
        loop_begin();
        events = calloc((size_t)options_max_fds(), sizeof(*events));
        if (events == NULL)
            die(EXIT_SYSTEM, "no memory for events");
        event_assign(&events[listener], loop, listener, EV_READ | EV_PERSIST, on_knock,
                     NULL);
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
    net_listen_reuseport(&opt, SOCK_NONBLOCK, listeners, opt.workers);
    control_ready(&opt, FEATURES);
    supervise(&opt, spawn);
    control_end();
    return 0;
}
