/* deadline.h - the time-outs of connections. Within one clock all are equally long: each
 * newcomer goes to the tail, so the list is in order of time, and no heap is needed.
 * Does not: end a connection whose time is up. */
#ifndef DEADLINE_H
#define DEADLINE_H

#include <stdbool.h>

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

/* Milliseconds from turn.now until the first deadline of this thread, at least 0; -1:
 * there is none. */
int deadline_next_ms(void);

/* One whose time is up; NULL: there is none. Reads the clock. */
struct conn *deadline_passed(void);

#endif
