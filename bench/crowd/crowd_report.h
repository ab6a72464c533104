/* crowd_report.h - what crowd prints.
 * Does not: count; the clients do. */
#ifndef CROWD_REPORT_H
#define CROWD_REPORT_H

/* Count the clients that are connecting, and that are open, into run.counts. */
void report_count(void);

/* The line "ready {...}": all clients had their first go. */
void report_ready(void);

/* The line "sample {...}": what the account is by now. monotonic_ms is CLOCK_MONOTONIC, so
 * that others can say when, too. */
void report_sample(void);

/* The line of JSON that ends the output. */
void report_end(void);

#endif
