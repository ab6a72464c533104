/* loop.h - coroutines that wait for descriptors and for times, and the loop that waits for
 * all of them together: epoll(7).
 * Does not: make system calls for anybody; calls.c does, and comes here when one would have
 * slept. One thread of a process has a loop. */
#ifndef LOOP_H
#define LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/options.h"
#include "coroutine.h"

/* Once, in a worker. opt: borrowed for as long as the process lives. Failure: die(). */
void loop_setup(const struct options *opt);

/* Call first() in a coroutine, and let it and all that are started run until none is
 * left. */
void loop_run(void (*first)(void));

/* From a coroutine: have run(arg) called in a coroutine that belongs to the client `fd`.
 * If that client resets, it is cancelled: whatever it waits for, or calls later, fails with
 * ECANCELED, until it has found its way out. What concerns fd itself is left to the kernel.
 * Sleeps until there is room for one more: options.h, `coroutines`, `max_connections`. */
void loop_start(void (*run)(void *arg), void *arg, int fd);

/* --- for calls.c -------------------------------------------------------------------- */

/* What is known of a descriptor. All zero: nothing; so it must be when it is closed. */
struct descriptor {
    struct coroutine *waiter; /* borrowed; NULL: nobody waits for it */
    struct coroutine *owner;  /* borrowed; NULL: it is nobody's client */
    uint32_t ready;           /* EPOLLIN ..: told, and not refuted by EAGAIN since */
    int recv_ms, send_ms;     /* SO_RCVTIMEO, SO_SNDTIMEO; 0: none */
    bool watched;             /* by epoll; so `ready` says all there is */
    bool nonblocking;         /* whoever made it asked for EAGAIN, and gets it */
};

extern struct descriptor *loop_descriptors;
extern int loop_max_fds; /* there are so many */

/* Time for loop_wait(), `ms` from now. */
int64_t loop_until(int64_t ms);

/* Let others run until fd has one of the events (EPOLLIN, EPOLLOUT), has failed, or the
 * time has come (TIMER_NEVER: none). fd -1: only the time. One coroutine at a time may wait
 * for a descriptor. Returns 0: it has; ETIMEDOUT;
 * EINTR: the process is stopping, and ticks (stop.h); ECANCELED; or ENOMEM and its kin: and
 * then who waited for another descriptor than its client's is cancelled, too. */
int loop_wait(int fd, uint32_t events, int64_t until_ms);

/* A call is about to succeed, perhaps, as the `calls` before it did: after so many without
 * a sleep it is others' turn. */
void loop_share(int calls);

/* Must a call that concerns fd fail, as the client of who calls has gone? */
bool loop_cancelled(int fd);

#endif
