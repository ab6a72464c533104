/* crowd_run.c - see crowd_run.h. */
#include "crowd_run.h"

struct run run;

void client_settle(struct client *c)
{
    if (!c->settled) {
        c->settled = true;
        run.settled++;
        run.changed_ns = now_ns();
    }
}

void client_fail(struct client *c, enum failure why)
{
    uint32_t unsent = (uint32_t)((c->to_send - c->sent) / run.request_len);

    /* Those that did not even begin to leave this process were never made. */
    c->outstanding -= unsent;
    run.counts.requests -= unsent;
    run.granted -= unsent;
    run.counts.failures[why] += c->outstanding;
    c->outstanding = 0;
    c->to_send = c->sent = 0;
}

bool client_may_ask(void)
{
    return !run.stopping && (run.opt.requests == 0 || run.granted < run.opt.requests);
}
