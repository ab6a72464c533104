/* sleep.c - /sleep in two pieces: one begins, and one answers. common/app/sleep.c is the
 * same in one.
 * Does not: sleep. */
#include <stdlib.h>

#include "app/handler.h"
#include "base/clock.h"
#include "conn/app.h"
#include "loop.h"

/* [stage6.nap] */
/* What the handler would have had on its stack. */
struct nap {
    struct job job; /* first */
    struct event timer;
    struct conn *c;            /* borrowed: who gets the answer */
    const struct request *req; /* borrowed: until it is answered */
    long ms;
    int64_t until_ns;
};

/* [stage6.sleep-on] */
/* The loop's time is that at which its events of this turn came, and coarse. So the timer
 * may be early. */
static void sleep_on(struct nap *nap)
{
    int64_t left_us = (nap->until_ns - clock_ns() + 999) / 1000;
    struct timeval left = { left_us / 1000000, left_us % 1000000 };

    if (left_us > 0) {
        event_add(&nap->timer, &left);
        return;
    }
    handler_reply(nap->c, nap->req, 200, "slept %ld ms\n", nap->ms);
    free(nap);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    sleep_on(arg);
}

/* [stage6.cancel] */
static void cancel(struct job *job)
{
    struct nap *nap = (struct nap *)job;

    event_del(&nap->timer);
    free(nap);
}

/* [stage6.sleep] */
void handler_sleep(struct conn *c, const struct request *req)
{
    long ms = handler_number(c, req, "ms", HANDLER_MS_MAX);
    struct nap *nap = ms == -1 ? NULL : malloc(sizeof(*nap));
    const struct request *kept = nap ? http_defer(c, req) : NULL;

    if (kept == NULL) {
        if (ms != -1)
            handler_reply(c, req, 503, "no memory\n");
        free(nap);
        return;
    }
    *nap = (struct nap){ .job = { cancel },
                         .c = c,
                         .req = kept,
                         .ms = ms,
                         .until_ns = clock_ns() + ms * INT64_C(1000000) };
    evtimer_assign(&nap->timer, loop, on_timer, nap);
    c->job = &nap->job;
    sleep_on(nap);
}
