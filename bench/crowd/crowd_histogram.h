/* crowd_histogram.h - many times in little memory.
 * Does not: keep single values, or print. */
#ifndef CROWD_HISTOGRAM_H
#define CROWD_HISTOGRAM_H

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

#endif
