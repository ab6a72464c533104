/* stop.h - the signals that end a process become a number that the loops look at.
 * signal(7).
 * Does not: end the loops; they end themselves once their clients are answered. */
#ifndef STOP_H
#define STOP_H

#include <signal.h>
#include <stdbool.h>

/* How a process ends, the patient ways first. */
enum stop_mode {
    RUNNING,
    STOP_DRAIN, /* SIGUSR1 to a worker that was replaced: accept no more, answer the next
                    * request of each client with "Connection: close"; then as
                    * STOP_SOON */
    STOP_GRACEFUL, /* SIGQUIT: finish what is in flight, however long; close idle clients */
    STOP_SOON,     /* SIGTERM, SIGINT: the same, bounded by the stop time-out */
};

/* enum stop_mode; 0 while the server runs. */
extern volatile sig_atomic_t stopping;

/* May a client with nothing in flight be closed? Not while draining: its next request may
 * be on its way, and it would be lost. */
static inline bool stop_closes_idle(void)
{
    return stopping == STOP_GRACEFUL || stopping == STOP_SOON;
}

/* Catch the signals above; ignore SIGPIPE. timeout_ms: the bound of STOP_DRAIN and
 * STOP_SOON. The first signal sets `stopping`, interrupts the system call that sleeps (no
 * SA_RESTART) and starts a timer that interrupts again every 50 ms. So a signal that
 * falls between the look at `stopping` and the sleep is not lost, and one that a slow
 * handler swallowed neither. Once the time is over the process exits with status 0,
 * whatever is still in flight. A second SIGTERM or SIGINT has its default action: it
 * kills. */
void stop_on_signals(int timeout_ms);

/* Called before the process is ended because the time is over; NULL: nothing is. It runs in
 * a signal handler: signal-safety(7). */
extern void (*stop_at_end)(void);

/* Called by the handler of each signal that is to end a sleep; NULL: that it came is
 * enough, since the call that sleeps fails with EINTR. signal-safety(7). */
extern void (*stop_interrupts)(void);

/* In a worker: drain on SIGUSR1 too; value 1 (sigqueue(3)) means: without a bound. */
void stop_on_drain(void);

#endif
