/* stage 5 - N processes; in each a loop that only waits, by epoll(7), and threads that serve:
 * a handler that waits holds up its thread, not its process.
 * Does not: help when all threads wait; then all clients wait for a thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/options.h"
#include "base/stop.h"
#include "conn/conn.h"
#include "net/net.h"
#include "process/control.h"
#include "process/supervisor.h"
#include "queue.h"
#include "threads.h"

enum { ACCEPT_BATCH = 64, MAX_EVENTS = 256 };

enum { FEATURES = OPTIONS_MASTER | OPTIONS_WORKERS | OPTIONS_THREADS };

static struct options opt;
static int listeners[MAX_WORKERS]; /* made by the parent, one per slot */
static int listener;               /* this worker's */
static int epoll;
static int bell;             /* eventfd(2): the loop is to look up */
static atomic_bool watching; /* the listener */
static struct queue queue;
static struct deadlines deadlines; /* of all connections; the loop looks after them */

/* [stage5.watch] */
/* Tell the kernel what `c` waits for; it is the loop's now, and may be in another thread's
 * hands before this returns. One event is told, and no other until this is called again: so
 * what the loop hears of is the loop's. EPOLLONESHOT in epoll_ctl(2). */
static void watch(struct conn *c, int op, enum conn_owner from)
{
    struct epoll_event event = { .data.ptr = c };
    int fd = c->fd;

    event.events = (c->want == WANT_READ ? EPOLLIN : EPOLLOUT) | EPOLLONESHOT;
    conn_pass(c, from, OWNER_LOOP);
    if (epoll_ctl(epoll, op, fd, &event) == -1)
        conn_close(c); /* new, and no memory for it; a change needs none */
}

/* Watch the listener, or look away while nobody can be let in. True: it was watched until
 * now, and clients may have come. */
static bool watch_listener(bool on)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };

    if (on == watching)
        return false;
    if (epoll_ctl(epoll, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listener, &event) == -1)
        die(EXIT_SYSTEM, "epoll_ctl: %s", strerror(errno));
    watching = on;
    return !on;
}

/* [stage5.serve] */
/* In a thread: do for one client what can be done now, then give it back to the loop. */
static void serve(struct conn *c)
{
    bool ring;

    if (c->want == WANT_READ)
        conn_fill(c);
    else if (c->want == WANT_WRITE)
        conn_drain(c);
    if (c->want == WANT_CLOSE) {
        conn_close(c);
        ring = !watching; /* there may be room for another */
    } else {
        pthread_mutex_lock(&deadlines.lock); /* else its time might be up in between */
        ring = deadline_resume(c);
        watch(c, EPOLL_CTL_MOD, OWNER_THREAD);
        pthread_mutex_unlock(&deadlines.lock);
    }
    if (ring)
        eventfd_write(bell, 1);
}

static void accept_clients(void)
{
    for (int i = 0; i < ACCEPT_BATCH && conn_count < opt.max_connections; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct conn *c = fd == -1 ? NULL : conn_open(fd);

        if (c)
            watch(c, EPOLL_CTL_ADD, OWNER_LOOP);
        else if (!net_accept_failed())
            break;
    }
}

/* [stage5.loop] */
static void event_loop(void)
{
    struct epoll_event ready[MAX_EVENTS];
    struct conn *conns[MAX_EVENTS], *c;

    while (!stopping || conn_count > 0 || watching) {
        bool paused = net_paused();
        int timeout_ms = paused ? NET_PAUSE_MS : conn_timeout_ms();
        bool knock =
            watch_listener(!stopping && !paused && conn_count < opt.max_connections);
        int room = queue_room(&queue, timeout_ms);
        int count = 0, n = 0;

        if (room > 0) /* no more than it takes: each is told once */
            n = epoll_wait(epoll, ready, room < MAX_EVENTS ? room : MAX_EVENTS,
                           knock ? 0 : timeout_ms);
        for (int i = 0; i < n; i++) {
            if (ready[i].data.ptr == NULL)
                knock = true;
            else if (ready[i].data.ptr != &bell)
                conns[count++] = ready[i].data.ptr;
        }
        queue_push(&queue, conns, count);
        if (knock)
            accept_clients(); /* last: those who are here come first */
        while ((c = conn_expired())) {
            conn_expire(c); /* here, without a thread: so also while they all wait */
            if (c->want == WANT_CLOSE)
                conn_close(c);
            else
                watch(c, EPOLL_CTL_MOD, OWNER_LOOP);
        }
    }
}

/* [stage5.spawn] */
/* Start worker `slot` on the listener that the parent keeps for that slot: if the worker
 * dies, its successor inherits the same queue. fork(2), socket(7). */
static pid_t spawn(int slot)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.ptr = &bell };
    pid_t pid = fork();

    if (pid == 0) {
        worker_begin(slot);
        listener = listeners[slot];
        epoll = epoll_create1(EPOLL_CLOEXEC);
        bell = eventfd(0, EFD_CLOEXEC); /* each write is told once; nobody reads */
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, bell, &event) == -1)
            die(EXIT_SYSTEM, "epoll_create1, eventfd: %s", strerror(errno));
        threads_start(&opt, &queue, &deadlines, serve);
        worker_ready();
        event_loop();
        threads_end();
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
