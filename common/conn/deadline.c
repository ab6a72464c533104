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

static void unlink_conn(struct conn *c)
{
    struct deadline_list *list = &turn.lists[c->clock];

    *(c->prev ? &c->prev->next : &list->first) = c->next;
    *(c->next ? &c->next->prev : &list->last) = c->prev;
}

static void link_conn(struct conn *c, enum clock clock)
{
    struct deadline_list *list = &turn.lists[clock];

    c->clock = clock;
    c->deadline = turn.now + timeouts_ms[clock];
    if (c->deadline < turn.first_deadline)
        turn.first_deadline = c->deadline;
    c->prev = list->last;
    c->next = NULL;
    *(c->prev ? &c->prev->next : &list->first) = c;
    list->last = c;
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
    link_conn(c, CLOCK_IDLE);
    if (!serving.blocking)
        return;
    set_timeout(c->fd, SO_RCVTIMEO, timeouts_ms[CLOCK_IDLE]);
    set_timeout(c->fd, SO_SNDTIMEO, timeouts_ms[CLOCK_SEND] / SEND_LOOKS);
}

void deadline_end(struct conn *c)
{
    unlink_conn(c);
    c->clock = CLOCK_NONE;
}

void deadline_start(struct conn *c, enum clock clock)
{
    if (serving.blocking && clock != c->clock)
        set_timeout(c->fd, SO_RCVTIMEO, timeouts_ms[clock]);
    unlink_conn(c);
    link_conn(c, clock);
}

void deadline_bound(struct conn *c)
{
    if (c->clock == CLOCK_MESSAGE || c->interrupted)
        set_timeout(c->fd, SO_RCVTIMEO, c->deadline - clock_ms());
}

int deadline_next_ms(void)
{
    int64_t first = INT64_MAX;

    for (int clock = 0; clock < CLOCKS; clock++)
        if (turn.lists[clock].first && turn.lists[clock].first->deadline < first)
            first = turn.lists[clock].first->deadline;
    turn.first_deadline = first;
    if (first == INT64_MAX)
        return -1;
    first -= turn.now;
    return first <= 0 ? 0 : first >= INT_MAX ? INT_MAX : (int)first + 1;
}

struct conn *deadline_passed(void)
{
    turn.now = clock_ms();
    if (turn.now < turn.first_deadline)
        return NULL;
    for (int clock = 0; clock < CLOCKS; clock++)
        if (turn.lists[clock].first && turn.now >= turn.lists[clock].first->deadline)
            return turn.lists[clock].first;
    return NULL;
}
