/* crowd_histogram.c - see crowd_histogram.h. */
#include "crowd_histogram.h"

enum { BUCKETS = (HIST_DOUBLINGS + 1) * HIST_STEPS, STEP_BITS = 7 };

void histogram_add(struct histogram *h, int64_t value)
{
    uint64_t v = value > 0 ? (uint64_t)value : 0;
    uint64_t bucket = v;

    if (v >= HIST_STEPS) {
        int shift = 63 - __builtin_clzll(v) - STEP_BITS;

        bucket = (uint64_t)shift * HIST_STEPS + (v >> shift);
    }
    h->buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    h->min = h->count == 0 || v < h->min ? v : h->min;
    h->max = v > h->max ? v : h->max;
    h->count++;
}

/* The middle of a bucket. */
static double bucket_value(uint64_t bucket)
{
    uint64_t shift;

    if (bucket < HIST_STEPS)
        return (double)bucket;
    shift = bucket / HIST_STEPS - 1;
    return (double)((bucket % HIST_STEPS + HIST_STEPS) << shift) +
           ((double)(UINT64_C(1) << shift) - 1) / 2;
}

double histogram_quantile(const struct histogram *h, double share)
{
    double rank = share * (double)h->count;
    uint64_t sum = 0;
    uint64_t bucket = 0;
    double value;

    for (; bucket < BUCKETS; bucket++) {
        sum += h->buckets[bucket];
        if (sum > 0 && (double)sum >= rank)
            break;
    }
    value = bucket_value(bucket < BUCKETS ? bucket : BUCKETS - 1);
    if (value < (double)h->min)
        return (double)h->min;
    return value > (double)h->max ? (double)h->max : value;
}
