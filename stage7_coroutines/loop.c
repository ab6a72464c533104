/* loop.c - see loop.h.
 * Does not: run a coroutine while it goes through a batch of events. So a descriptor in the
 * batch is still the one that was meant: nobody can have closed it, and got its number for
 * another. */
#include "loop.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/stop.h"
#include "board/stats.h"
#include "conn/turn.h"
#include "overflow.h"

enum {
    BATCH = 256,
    TICK_MS = 50, /* while stopping, all calls that sleep are interrupted so often */
    FAILED = EPOLLERR | EPOLLHUP,
};

struct descriptor *loop_descriptors;
int loop_max_fds;

static int epoll;
static int limit;                 /* coroutines with a client */
static struct coroutine *crowded; /* borrowed: waits in loop_start(); or NULL */
static int64_t interrupted_ms;    /* when all were, last */
static int calls_since_switch;    /* that succeeded */
static void (*first_function)(void);

static int64_t now_ms(void)
{
    return clock_ns() / 1000000;
}

void loop_setup(const struct options *opt)
{
    limit =
        opt->coroutines < opt->max_connections ? opt->coroutines : opt->max_connections;
    loop_max_fds = options_max_fds();
    loop_descriptors = calloc((size_t)loop_max_fds, sizeof(*loop_descriptors));
    if (loop_descriptors == NULL)
        die(EXIT_SYSTEM, "no memory for %d descriptors; lower --limit-nofile",
            loop_max_fds);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll == -1)
        die(EXIT_SYSTEM, "epoll_create1: %s", strerror(errno));
    if (coroutine_setup(opt->stack, opt->shared_stack, false) == -1)
        die(EXIT_SYSTEM, "no stack of %zu bytes: %s; lower --stack", opt->stack,
            strerror(errno));
    overflow_setup();
}

/* --- in a coroutine ----------------------------------------------------------------- */

int64_t loop_until(int64_t ms)
{
    return now_ms() + 1 + ms;
}

bool loop_cancelled(int fd)
{
    return coroutine_running->cancelled && fd != coroutine_running->fd;
}

/* [loop.watch] */
/* From now on each change of it is told, once: until EAGAIN the last word holds. What it
 * is now is told, too. epoll(7), "edge-triggered". Returns 0 or an errno. */
static int watch(int fd)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                 .data.fd = fd };
    struct descriptor *d = &loop_descriptors[fd];

    if (d->watched)
        return 0;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0)
        d->watched = true;
    else if (errno == EPERM) /* a file: always ready, and it sleeps all the same */
        d->ready = EPOLLIN | EPOLLOUT;
    else
        return errno;
    return 0;
}

/* Leave, by coroutine_sleep() or coroutine_yield(), and find all as it was: what the turn
 * holds of our connection, and whether it is with the application. */
static int let_others_run(int (*how)(void))
{
    bool busy = stats_get(&stats->busy_since_ms) != 0;
    struct turn_kept *kept = turn_put_aside();
    int why;

    if (kept == NULL && errno == ENOMEM)
        return ENOMEM;
    if (busy) {
        stats_set(&stats->busy_since_ms, 0);
        stats_add(&stats->waiting, 1);
    }
    why = how();
    turn_take_up(kept);
    turn.now = clock_ms();
    if (busy) {
        stats_set(&stats->busy_since_ms, (uint64_t)turn.now);
        stats_set(&stats->waiting, stats_get(&stats->waiting) - 1);
    }
    calls_since_switch = 0;
    return why == -1 ? ENOMEM : why;
}

/* [loop.wait] */
int loop_wait(int fd, uint32_t events, int64_t until_ms)
{
    struct coroutine *self = coroutine_running;
    int client = self->fd, error = 0;

    if (loop_cancelled(fd))
        return ECANCELED;
    if (client != -1)
        error = watch(client); /* to hear of its reset */
    if (fd != -1 && fd != client && !error)
        error = watch(fd);
    if (!error && timer_set(&self->timer, until_ms) == -1)
        error = ENOMEM;
    if (!error) {
        if (fd != -1) {
            assert(loop_descriptors[fd].waiter == NULL);
            loop_descriptors[fd].waiter = self;
        }
        self->events = events;
        error = let_others_run(coroutine_sleep);
        if (fd != -1)
            loop_descriptors[fd].waiter = NULL;
        timer_stop(&self->timer);
    }
    if (client != -1 && error != 0 && error != EINTR && error != ETIMEDOUT)
        self->cancelled = true;
    return error;
}

void loop_share(int calls)
{
    if (++calls_since_switch > calls)
        let_others_run(coroutine_yield);
}

/* [loop.start] */
void loop_start(void (*run)(void *arg), void *arg, int fd)
{
    struct coroutine *co;

    while ((co = coroutine_start(run, arg)) == NULL) {
        if (coroutine_count() == 1)
            die(EXIT_SYSTEM, "no memory for a coroutine; lower --stack");
        loop_wait(-1, 0, loop_until(TICK_MS));
    }
    co->fd = fd;
    loop_descriptors[fd].owner = co;
    while (coroutine_count() > limit && !stopping) {
        if (stats_get(&stats->full_since_ms) == 0)
            stats_set(&stats->full_since_ms, (uint64_t)clock_ms());
        crowded = coroutine_running;
        loop_wait(-1, 0, TIMER_NEVER);
    }
    crowded = NULL;
    stats_set(&stats->full_since_ms, 0);
}

/* --- the loop ----------------------------------------------------------------------- */

/* [loop.events] */
static void note(const struct epoll_event *event)
{
    struct descriptor *d = &loop_descriptors[event->data.fd];
    struct coroutine *owner = d->owner;

    d->ready |= event->events;
    if (d->waiter && d->ready & (d->waiter->events | FAILED))
        coroutine_wake(d->waiter, 0);
    if (owner && event->events & FAILED) { /* not where the peer only shut its side */
        owner->cancelled = true;
        if (owner != d->waiter)
            coroutine_wake(owner, ECANCELED);
    }
}

static void wake_late(int64_t now)
{
    struct timer *timer;

    while ((timer = timer_due(now)))
        coroutine_wake((void *)((char *)timer - offsetof(struct coroutine, timer)),
                       ETIMEDOUT);
}

/* As the tick of stop.h would interrupt the one call in which a process sleeps. */
static void interrupt(int64_t now)
{
    if (now - interrupted_ms < TICK_MS)
        return;
    interrupted_ms = now;
    for (struct coroutine *co = coroutine_first(); co; co = co->after)
        coroutine_wake(co, EINTR);
}

/* How long may we sleep? epoll_wait(2)'s milliseconds. */
static int patience(void)
{
    int64_t next = timer_next_ms(), left;

    if (coroutine_ready())
        return 0;
    if (next == TIMER_NEVER)
        return -1;
    left = next - now_ms();
    return left <= 0 ? 0 : left < INT_MAX ? (int)left : INT_MAX;
}

/* Find out who can go on. */
static void look(void)
{
    struct epoll_event events[BATCH];
    int n = epoll_wait(epoll, events, BATCH, patience());
    int64_t now = now_ms();

    for (int i = 0; i < n; i++)
        note(&events[i]);
    wake_late(now);
    if (stopping)
        interrupt(now);
}

static void call_first(void *arg)
{
    (void)arg;
    first_function();
}

/* [loop.run] */
void loop_run(void (*first)(void))
{
    first_function = first;
    if (coroutine_start(call_first, NULL) == NULL)
        die(EXIT_SYSTEM, "no memory for a coroutine; lower --stack");
    while (coroutine_count() > 0) {
        coroutine_run_ready();
        stats_set(&stats->stack_used, stack_deepest());
        if (crowded && coroutine_count() <= limit)
            coroutine_wake(crowded, 0);
        if (coroutine_count() > 0)
            look();
    }
}
