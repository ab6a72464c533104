/* deadline.c - see deadline.h.
 * Does not: know what a connection waits for, only since when. */
#include "conn/deadline.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/clock.h"
#include "base/log.h"
#include "conn/conn.h"
#include "conn/turn.h"

enum {
    SEND_LOOKS = 8,   /* a blocking send(2) is looked at so often within its time-out */
    LINGER_MS = 1000, /* how long a peer may go on sending, or take nothing, at the end */
};

static int timeouts_ms[CLOCKS];

void deadline_setup(const struct options *opt)
{
    timeouts_ms[CLOCK_IDLE] =
        opt->keepalive_ms > 0 ? opt->keepalive_ms : opt->request_timeout_ms;
    timeouts_ms[CLOCK_MESSAGE] = opt->request_timeout_ms;
    timeouts_ms[CLOCK_SEND] = opt->request_timeout_ms;
    timeouts_ms[CLOCK_REPLY] = opt->reply_timeout_ms;
    timeouts_ms[CLOCK_LINGER] = LINGER_MS;
}

/* The lists are nearly always this thread's own, and no lock is needed. */
static struct deadlines *enter(void)
{
    if (turn.shared == NULL)
        return &turn.own;
    pthread_mutex_lock(&turn.shared->lock);
    return turn.shared;
}

static void leave(void)
{
    if (turn.shared)
        pthread_mutex_unlock(&turn.shared->lock);
}

static void unlink_conn(struct deadline_list *list, struct conn *c)
{
    *(c->prev ? &c->prev->next : &list->first) = c->next;
    *(c->next ? &c->next->prev : &list->last) = c->prev;
}

/* Behind all that end no later. That is the tail, unless another thread was quicker. */
static void link_conn(struct deadlines *d, struct conn *c, enum clock clock)
{
    struct deadline_list *list = &d->lists[clock];
    struct conn *before = list->last;

    c->clock = clock;
    c->deadline = turn.now + timeouts_ms[clock];
    if (c->deadline < d->first)
        d->first = c->deadline;
    while (before && before->deadline > c->deadline)
        before = before->prev;
    c->prev = before;
    c->next = before ? before->next : list->first;
    *(before ? &before->next : &list->first) = c;
    *(c->next ? &c->next->prev : &list->last) = c;
}

/* Out of its list, and in a circle of its own: to unlink it once more changes nothing. */
static void suspend(struct deadline_list *list, struct conn *c)
{
    unlink_conn(list, c);
    c->prev = c->next = c;
}

/* The first that the loop owns. Those before it come back when they have changed hands. */
static struct conn *first_owned(struct deadlines *d, enum clock clock)
{
    struct deadline_list *list = &d->lists[clock];
    struct conn *c;

    while ((c = list->first) && c->owner != OWNER_LOOP)
        suspend(list, c); /* of it nothing else is read: a thread may be writing it */
    return c;
}

static void set_timeout(int fd, int option, int64_t ms)
{
    struct timeval time = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

    if (ms <= 0)
        time.tv_usec = 1000; /* zero would mean: for ever */
    if (setsockopt(fd, SOL_SOCKET, option, &time, sizeof(time)) == -1)
        log_line(LOG_WARNING, "setsockopt: %s", strerror(errno));
}

void deadline_begin(struct conn *c)
{
    link_conn(enter(), c, CLOCK_IDLE);
    leave();
    if (!serving.blocking)
        return;
    set_timeout(c->fd, SO_RCVTIMEO, timeouts_ms[CLOCK_IDLE]);
    set_timeout(c->fd, SO_SNDTIMEO, timeouts_ms[CLOCK_SEND] / SEND_LOOKS);
}

void deadline_end(struct conn *c)
{
    unlink_conn(&enter()->lists[c->clock], c);
    leave();
    c->clock = CLOCK_NONE;
}

void deadline_start(struct conn *c, enum clock clock)
{
    struct deadlines *d;

    if (serving.blocking && clock != c->clock)
        set_timeout(c->fd, SO_RCVTIMEO, timeouts_ms[clock]);
    d = enter();
    unlink_conn(&d->lists[c->clock], c);
    link_conn(d, c, clock);
    leave();
}

void deadline_bound(struct conn *c)
{
    if (c->clock == CLOCK_MESSAGE || c->interrupted)
        set_timeout(c->fd, SO_RCVTIMEO, c->deadline - clock_ms());
}

static int64_t find_first(const struct deadlines *d)
{
    int64_t first = INT64_MAX;

    for (int clock = 0; clock < CLOCKS; clock++)
        if (d->lists[clock].first && d->lists[clock].first->deadline < first)
            first = d->lists[clock].first->deadline;
    return first;
}

/* A wait that ends too early does no harm, so the lists are not looked through each time. */
int deadline_next_ms(void)
{
    struct deadlines *d = enter();
    int64_t first;

    if (turn.now >= d->first || conn_count == 0)
        d->first = find_first(d);
    first = d->planned = d->first;
    leave();
    if (first == INT64_MAX)
        return -1;
    first -= turn.now;
    return first <= 0 ? 0 : first >= INT_MAX ? INT_MAX : (int)first + 1;
}

struct conn *deadline_first(enum clock clock)
{
    struct conn *c = first_owned(enter(), clock);

    leave();
    return c;
}

static struct conn *find_passed(struct deadlines *d)
{
    for (int clock = 0; clock < CLOCKS; clock++) {
        struct conn *c = d->lists[clock].first;

        if (c && turn.now >= c->deadline && (c = first_owned(d, (enum clock)clock)) &&
            turn.now >= c->deadline)
            return c;
    }
    return NULL;
}

struct conn *deadline_passed(void)
{
    struct deadlines *d = enter();
    struct conn *passed;

    turn.now = clock_ms();
    passed = turn.now < d->first ? NULL : find_passed(d);
    leave();
    return passed;
}

void deadline_share(struct deadlines *shared)
{
    turn.shared = shared;
}

void deadline_suspend(struct conn *c)
{
    suspend(&enter()->lists[c->clock], c);
    leave();
}

bool deadline_resume(struct conn *c)
{
    struct deadlines *d = turn.shared;
    struct deadline_list *list = &d->lists[c->clock];

    if (c->next == c) { /* suspended as its time was up: it goes before the others */
        c->prev = NULL;
        c->next = list->first;
        *(c->next ? &c->next->prev : &list->last) = c;
        list->first = c;
        d->first = c->deadline < d->first ? c->deadline : d->first;
    }
    if (d->first >= d->planned)
        return false;
    d->planned = d->first; /* once told is enough */
    return true;
}
