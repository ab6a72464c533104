/* stage 5 - N processes; in each, one thread waits for all clients by epoll(7), and others
 * serve them: a handler that waits holds up one thread, not the process.
 * Does not: help when all threads wait; then everybody waits for a thread. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/options.h"
#include "base/stop.h"
#include "board/stats.h"
#include "conn/conn.h"
#include "net/net.h"
#include "process/control.h"
#include "process/supervisor.h"
#include "queue.h"

enum { ACCEPT_BATCH = 64, MAX_EVENTS = 256 };

enum { FEATURES = OPTIONS_MASTER | OPTIONS_WORKERS | OPTIONS_THREADS };

static struct options opt;
static int listeners[MAX_WORKERS]; /* made by the parent, one per slot */
static int listener;               /* this worker's */
static int epoll;
static int bell;             /* eventfd(2): who waits is to look up */
static atomic_bool watching; /* the listener */
static atomic_bool full;     /* the queue; who waits waits for room in it */
static struct queue queue;
static struct deadlines deadlines; /* of all connections; who waits looks after them */

/* [stage5.watch] */
/* Tell the kernel what `c` waits for; it tells once, and then no more: EPOLLONESHOT in
 * epoll_ctl(2). */
static void watch(struct conn *c, int op)
{
    struct epoll_event event = { .data.ptr = c };

    event.events = (c->want == WANT_READ ? EPOLLIN : EPOLLOUT) | EPOLLONESHOT;
    c->watched = c->want;
    if (epoll_ctl(epoll, op, c->fd, &event) == -1)
        c->want = WANT_CLOSE;
}

/* Watch the listener, or look away while nobody can be let in. True: it was watched until
 * now, and clients may have come. */
static bool watch_listener(bool on)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = &listener };

    if (on == watching)
        return false;
    if (epoll_ctl(epoll, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listener, &event) == -1)
        die(EXIT_SYSTEM, "epoll_ctl: %s", strerror(errno));
    watching = on;
    return !on;
}

/* [stage5.serve] */
/* In a thread: what can be done now for one client, then back to who waits. */
static void serve(struct conn *c)
{
    bool early = false;

    conn_pass(c, OWNER_QUEUE, OWNER_THREAD);
    if (c->want == WANT_READ)
        conn_fill(c);
    else if (c->want == WANT_WRITE)
        conn_drain(c);
    if (c->want != WANT_CLOSE) {
        pthread_mutex_lock(&deadlines.lock); /* armed and up to date, or neither */
        conn_pass(c, OWNER_THREAD, OWNER_LOOP);
        early = deadline_resume(c);
        watch(c, EPOLL_CTL_MOD); /* from here on another thread may have it */
        pthread_mutex_unlock(&deadlines.lock);
    } else {
        conn_close(c);
        early = !watching; /* there may be room for another */
    }
    if (early)
        eventfd_write(bell, 1);
}

static void *work(void *number)
{
    struct conn *c;
    int left;

    stats_join((int)(intptr_t)number);
    deadline_share(&deadlines);
    while ((c = queue_take(&queue, &left))) {
        stats_sub(&stats->waiting, 1);
        if (left <= opt.queue / 2 && full && atomic_exchange(&full, false))
            eventfd_write(bell, 1);
        serve(c);
    }
    return NULL;
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

/* Sleep until somebody is ready, somebody's time is up, or the bell rings; for no more than
 * the queue has room for: told once, an event that found none would be lost. */
static int wait_for_clients(struct epoll_event ready[], int timeout_ms)
{
    struct pollfd rung = { .fd = bell, .events = POLLIN };
    int room = queue_room(&queue);

    if (room == 0) {
        full = true; /* before this look: whoever takes one after it rings */
        room = queue_room(&queue);
    }
    if (room > 0) {
        stats_set(&stats->full_since_ms, 0);
        return epoll_wait(epoll, ready, room < MAX_EVENTS ? room : MAX_EVENTS,
                          timeout_ms);
    }
    if (stats_get(&stats->full_since_ms) == 0)
        stats_set(&stats->full_since_ms, (uint64_t)clock_ms());
    if (poll(&rung, 1, timeout_ms) == 1)
        eventfd_read(bell, &(eventfd_t){ 0 });
    return 0;
}

/* Those that are ready into the queue. True: the listener is, too. */
static bool hand_over(const struct epoll_event ready[], int n)
{
    struct conn *conns[MAX_EVENTS];
    bool knock = false;
    int count = 0;

    for (int i = 0; i < n; i++) {
        if (ready[i].data.ptr == &listener)
            knock = true;
        else if (ready[i].data.ptr == &bell)
            eventfd_read(bell, &(eventfd_t){ 0 });
        else
            conns[count++] = ready[i].data.ptr;
    }
    for (int i = 0; i < count; i++)
        conn_pass(conns[i], OWNER_LOOP, OWNER_QUEUE);
    stats_add(&stats->waiting, (uint64_t)count);
    if (count > 0)
        queue_push(&queue, conns, count);
    return knock;
}

/* [stage5.expire] */
/* Whose time is up ends here, without a thread, unless something came: then its event is
 * under way, and a thread will judge. No handler runs here: it might wait. */
static void end_expired(void)
{
    struct conn *c;

    while ((c = conn_expired())) {
        struct pollfd there = { .fd = c->fd,
                                .events = c->want == WANT_READ ? POLLIN : POLLOUT };
        int n;

        while ((n = poll(&there, 1, 0)) == -1) /* EINTR */
            continue;
        if (n > 0) {
            deadline_suspend(c);
            continue;
        }
        conn_expire(c);
        if (c->want == WANT_CLOSE)
            conn_close(c);
        else
            watch(c, EPOLL_CTL_MOD);
    }
}

/* [stage5.loop] */
static void event_loop(void)
{
    struct epoll_event ready[MAX_EVENTS];

    while (!stopping || conn_count > 0 || watching) {
        bool paused = net_paused();
        int timeout_ms = paused ? NET_PAUSE_MS : conn_timeout_ms();
        bool knock =
            watch_listener(!stopping && !paused && conn_count < opt.max_connections);
        int n;

        n = wait_for_clients(ready, knock ? 0 : timeout_ms);
        if (hand_over(ready, n) || knock)
            accept_clients();
        end_expired();
    }
}

/* This worker's threads; all signals come to the one that waits. */
static void start_threads(pthread_t threads[])
{
    sigset_t all, before;

    stats_threads(opt.threads);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (intptr_t i = 0; i < opt.threads; i++) {
        int error = pthread_create(&threads[i], NULL, work, (void *)i);

        if (error != 0)
            die(EXIT_SYSTEM, "pthread_create: %s; give fewer --threads", strerror(error));
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void run(void)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = &bell };
    pthread_t threads[MAX_THREADS];

    epoll = epoll_create1(EPOLL_CLOEXEC);
    bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (epoll == -1 || bell == -1 || epoll_ctl(epoll, EPOLL_CTL_ADD, bell, &event) == -1)
        die(EXIT_SYSTEM, "epoll or eventfd: %s", strerror(errno));
    queue_open(&queue, opt.queue);
    deadline_share_begin(&deadlines);
    deadline_share(&deadlines);
    start_threads(threads);
    worker_ready();
    event_loop();
    queue_close(&queue);
    for (int i = 0; i < opt.threads; i++)
        pthread_join(threads[i], NULL);
}

/* [stage5.spawn] */
/* Start worker `slot` on the listener that the parent keeps for that slot: if the worker
 * dies, its successor inherits the same queue. fork(2), socket(7). */
static pid_t spawn(int slot)
{
    pid_t pid = fork();

    if (pid == 0) {
        worker_begin(slot);
        listener = listeners[slot];
        run();
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
