/* stage 6 - stage 4's processes on libevent's loop: a handler that has to wait leaves an
 * event there and returns; who else is here is served, and a callback answers.
 * Does not: help anybody while a handler computes; the loop stands still. */
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
static struct event *listener;     /* this worker's */
static struct event *alarm_clock;  /* for the deadlines of connections */
static struct event *events;       /* of the clients, by descriptor */
static bool watching;              /* the listener */
static bool knock;                 /* somebody is at it */

struct event_base *loop;

static void on_client(evutil_socket_t fd, short what, void *arg);

/* [stage6.watch] */
/* Tell the loop what `c` waits for. Of one who waits for an answer only the end is of
 * interest. The kernel tells that unasked, but libevent only to who waits to read or
 * write: so to write, and each change is told once (EV_ET). To read would be woken by each
 * byte that comes meanwhile; and EV_CLOSED is not told of a reset. */
static void watch(struct conn *c)
{
    struct event *event = &events[c->fd];
    short what = c->want == WANT_READ    ? EV_READ
                 : c->want == WANT_WRITE ? EV_WRITE
                                         : EV_WRITE | EV_ET;

    if (event_initialized(event))
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
    if (on == watching)
        return false;
    if ((on ? event_add(listener, NULL) : event_del(listener)) == -1)
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

static void accept_clients(void)
{
    for (int i = 0; i < ACCEPT_BATCH && conn_count < opt.max_connections; i++) {
        int fd =
            accept4(event_get_fd(listener), NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct conn *c = fd == -1 ? NULL : conn_open(fd);

        if (c) {
            watch(c);
            if (c->want == WANT_CLOSE)
                conn_close(c);
        } else if (!net_accept_failed())
            break;
    }
}

static void on_knock(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    knock = true;
}

static void on_alarm(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg; /* all that it is for is to wake the loop */
}

/* [stage6.wait] */
/* Let libevent wait, and call back for all that has come. timeout_ms: -1: no bound. */
static void wait_for_events(int timeout_ms)
{
    struct timeval timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };

    if (timeout_ms > 0)
        event_add(alarm_clock, &timeout);
    event_base_loop(loop, timeout_ms == 0 ? EVLOOP_NONBLOCK : EVLOOP_ONCE);
}

/* [stage6.loop] */
static void event_loop(void)
{
    while (!stopping || conn_count > 0 || watching) {
        bool paused = net_paused();
        int timeout_ms = paused ? NET_PAUSE_MS : conn_timeout_ms();
        struct conn *c;

        knock = watch_listener(!stopping && !paused && conn_count < opt.max_connections);
        wait_for_events(knock ? 0 : timeout_ms);
        if (knock)
            accept_clients(); /* last: those who are here come first */
        while ((c = conn_expired()))
            serve(c);
    }
}

/* In a signal handler. libevent goes on waiting after EINTR, unless it is told not to; in
 * a process of one thread that sets a flag, and no more. */
static void leave_loop(void)
{
    event_base_loopbreak(loop);
}

/* After fork(2): parent and child must not share what the kernel watches. */
static void make_loop(int fd)
{
    loop = event_base_new();
    events = calloc((size_t)options_max_fds(), sizeof(*events));
    if (loop == NULL || events == NULL)
        die(EXIT_SYSTEM, "no memory for an event loop");
    listener = event_new(loop, fd, EV_READ | EV_PERSIST, on_knock, NULL);
    alarm_clock = evtimer_new(loop, on_alarm, NULL);
    if (listener == NULL || alarm_clock == NULL)
        die(EXIT_SYSTEM, "no memory for an event loop");
    stop_interrupts = leave_loop;
}

/* Start worker `slot` on the listener that the parent keeps for that slot: if the worker
 * dies, its successor inherits the same queue. fork(2), socket(7). */
static pid_t spawn(int slot)
{
    pid_t pid = fork();

    if (pid == 0) {
        worker_begin(slot);
        make_loop(listeners[slot]);
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
