/* stop.h - SIGTERM and SIGINT become a flag that the loops look at. signal(7).
 * Does not: end the loops; they end themselves once their clients are answered. */
#ifndef STOP_H
#define STOP_H

#include <signal.h>

/* How long the requests in flight may take after the first signal. */
enum { STOP_TIMEOUT_MS = 2000 };

/* Set by the first SIGTERM or SIGINT. */
extern volatile sig_atomic_t stopping;

/* Catch SIGTERM and SIGINT; ignore SIGPIPE.
 * The first signal sets `stopping`, interrupts the system call that sleeps (no
 * SA_RESTART) and starts a timer that interrupts again every 50 ms. So a signal that
 * falls between the look at `stopping` and the sleep is not lost, and one that a slow
 * handler swallowed neither. After STOP_TIMEOUT_MS the process exits with status 0,
 * whatever is still in flight. The second signal has its default action: it kills. */
void stop_on_signals(void);

#endif
