/* deadline.h - the time-outs of connections. Within one clock all are equally long: each
 * newcomer goes to the tail, so the list is in order of time, and no heap is needed.
 * Does not: end a connection whose time is up. */
#ifndef DEADLINE_H
#define DEADLINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/options.h"

struct conn;

enum clock {
    CLOCK_NONE,    /* not in a list */
    CLOCK_IDLE,    /* between two messages */
    CLOCK_MESSAGE, /* from a message's first byte to its last */
    CLOCK_SEND,    /* without progress in sending */
    CLOCK_REPLY,   /* the application's time for an answer that comes later */
    CLOCK_LINGER,  /* after the last answer, until the peer closes */
    CLOCK_READY,   /* no time at all: an answer came, and the loop goes on with it */
    CLOCKS,
};

struct deadline_list {
    struct conn *first, *last; /* borrowed */
};

/* All that are open in one place: a thread's, or, with the lock, a process's. */
struct deadlines {
    struct deadline_list lists[CLOCKS];
    int64_t first;        /* no list has an earlier one; it may be out of date */
    int64_t planned;      /* deadline_next_ms() told who waits to sleep until then */
    pthread_mutex_t lock; /* only where they are shared */
};

/* Once per process, when `serving` is set. */
void deadline_setup(const struct options *opt);

/* A new connection of this thread: its idle time begins. deadline_end(): it leaves. */
void deadline_begin(struct conn *c);
void deadline_end(struct conn *c);

/* Start a clock, instead of the one that runs, from turn.now on. */
void deadline_start(struct conn *c, enum clock clock);

/* Before a recv(2) that will sleep: let it sleep until the deadline at most. Most often
 * the socket's own time-out sees to that, SO_RCVTIMEO in socket(7). */
void deadline_bound(struct conn *c);

/* Milliseconds from turn.now until the first deadline of this thread, or less, for it may
 * have moved on; at least 0. -1: there is none. */
int deadline_next_ms(void);

/* One whose time is up; NULL: there is none. Reads the clock. */
struct conn *deadline_passed(void);

/* The first of a clock's list; NULL: there is none. */
struct conn *deadline_first(enum clock clock);

/* --- where threads share connections --------------------------------------------------
 *
 * The lists are those of the thread that waits, and each connection stands in one of them,
 * whoever owns it. While it is not the loop's (conn.h, enum conn_owner) its time may run
 * out, but it is not named for that: who has it in hand judges by himself, in conn_fill()
 * and conn_drain(); and once the loop has it again, the loop. All functions above take
 * the lock. */

/* From now on this thread's connections stand in these. Borrowed; all zero at first. */
void deadline_share(struct deadlines *shared);

/* Do not name it until it has been in other hands: its next owner is on the way. */
void deadline_suspend(struct conn *c);

/* It is the loop's again, and may be named. The caller holds the lock. True: its time is up
 * before who waits was going to look. */
bool deadline_resume(struct conn *c);

#endif
