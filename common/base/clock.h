/* clock.h - the time that deadlines are made of.
 * Does not: tell the date; that is http_format.c's. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>
#include <time.h>

/* Milliseconds of CLOCK_MONOTONIC_COARSE: steps of 1 to 10 ms, and the cheapest clock
 * there is (no system call: vdso(7)). Good enough for deadlines of seconds.
 * clock_gettime(2). */
static inline int64_t clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* Nanoseconds of CLOCK_MONOTONIC: when it matters which of two processes came first. */
static inline int64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

#endif
