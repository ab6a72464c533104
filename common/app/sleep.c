/* sleep.c - /sleep: what a handler does that waits for a database, in a server whose
 * handlers block.
 * Does not: let anybody else be served by this process, or thread, meanwhile. */
#include <errno.h>
#include <time.h>

#include "app/handler.h"

/* [sleep.blocking] */
void handler_sleep(struct conn *c, const struct request *req)
{
    long ms = handler_number(c, req, "ms", HANDLER_MS_MAX);
    struct timespec until;

    if (ms == -1)
        return;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        continue;
    handler_reply(c, req, 200, "slept %ld ms\n", ms);
}
