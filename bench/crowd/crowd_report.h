/* crowd_report.h - histograms of times, and what crowd prints.
 * Does not: count; the clients do. */
#ifndef CROWD_REPORT_H
#define CROWD_REPORT_H

#include <stdint.h>

/* Buckets grow with the values, 128 to a doubling: a value is known to 0.4 %. From 1 ns
 * to over two hours. */
enum { HIST_STEPS = 128, HIST_DOUBLINGS = 36 };

struct histogram {
    uint64_t count, min, max; /* min, max: exact */
    uint64_t buckets[(HIST_DOUBLINGS + 1) * HIST_STEPS];
};

void histogram_add(struct histogram *h, int64_t value);

/* The smallest value that at least `share` (0 to 1) of all values do not exceed. */
double histogram_quantile(const struct histogram *h, double share);

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
