/* timer.h - who wants to be woken when: a heap, since coroutines wait for times of any
 * length. (A connection's time-outs, equally long within a list, need none.)
 * Does not: wake, or read a clock.
 *
 * To set a timer later, or to stop it, is only to write its time down: it stays where it is
 * in the heap, and is put right when its turn comes. So a client that waits a minute for
 * each request, and is woken within a millisecond, costs the heap nothing. */
#ifndef TIMER_H
#define TIMER_H

#include <stdint.h>

#define TIMER_NEVER INT64_MAX

/* All zero, but due_ms, before it is first used. It may stay in the heap: its memory must
 * not be given back. */
struct timer {
    int64_t due_ms; /* TIMER_NEVER: stopped */
    int64_t key_ms; /* by which it is placed: at most due_ms */
    int place;      /* in the heap, from 1; 0: it is not there */
};

/* 0; -1: no memory, and nothing is changed. */
int timer_set(struct timer *timer, int64_t due_ms);

static inline void timer_stop(struct timer *timer)
{
    timer->due_ms = TIMER_NEVER;
}

/* When timer_due() should next be asked; it may then say NULL. TIMER_NEVER: no need. */
int64_t timer_next_ms(void);

/* One whose time has come; it is stopped by that. NULL: there is none. */
struct timer *timer_due(int64_t now_ms);

#endif
