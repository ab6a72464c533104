/* gateway.c - /upstream in pieces: one asks, one takes a step whenever the upstream lets
 * it, one hands the answer on. common/app/gateway.c is the same in one.
 * Does not: wait. */
#include "app/gateway.h"

#include <poll.h>
#include <stddef.h>

#include "app/handler.h"
#include "app/relay.h"
#include "conn/app.h"
#include "loop.h"

/* What the handler would have had on its stack. */
struct question {
    struct relay relay; /* first */
    struct job job;
    struct event event;        /* of the upstream; with the loop while we wait for it */
    struct conn *c;            /* borrowed: who asked */
    const struct request *req; /* borrowed; NULL: its answer is here, and goes out */
};

static void on_event(evutil_socket_t fd, short what, void *arg);

/* [stage6.wait-upstream] */
/* Leave an event with the loop, once. To connect takes no longer than the client says; for
 * all else the connection has a clock, CLOCK_REPLY, which also ends a question that
 * cannot be watched. */
static void wait_for_upstream(struct question *q)
{
    struct client *client = &q->relay.client;
    int ms = client_timeout_ms(client);
    struct timeval timeout = { ms / 1000, ms % 1000 * 1000 };
    short events = client_events(client);
    short what =
        (short)((events & POLLIN ? EV_READ : 0) | (events & POLLOUT ? EV_WRITE : 0));

    event_assign(&q->event, loop, client->fd, what, on_event, q);
    event_add(&q->event, client->want == CLIENT_CONNECT ? &timeout : NULL);
}

static ssize_t pull(struct out_source *source, char *room, size_t size)
{
    struct question *q = (struct question *)source;
    ssize_t n = client_pull(&q->relay.client, room, size);

    if (n != CLIENT_NOTHING)
        return n;
    wait_for_upstream(q);
    return OUT_LATER;
}

static void end(struct out_source *source)
{
    struct question *q = (struct question *)source;

    if (event_initialized(&q->event))
        event_del(&q->event);
    relay_end(source);
}

static void cancel(struct job *job)
{
    end((struct out_source *)((char *)job - offsetof(struct question, job)));
}

/* Afterwards the question may be gone. */
static void answer(struct question *q)
{
    const struct request *req = q->req;

    q->req = NULL;
    relay_answer(q->c, req, &q->relay);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct question *q = arg;
    int64_t deadline = q->relay.client.deadline;

    (void)fd;
    (void)what;
    client_step(&q->relay.client);
    if (q->req == NULL) {
        conn_pull_on(q->c);
    } else if (relay_has_answer(&q->relay)) {
        answer(q);
    } else {
        if (q->relay.client.deadline != deadline)
            conn_postpone(q->c);
        wait_for_upstream(q);
    }
}

void gateway_relay(struct conn *c, const struct request *req)
{
    static const struct out_source source = { pull, relay_ready, end };
    const struct request *kept = http_defer(c, req);
    struct question *q;

    if (kept == NULL) {
        handler_reply(c, req, 503, "no memory\n");
        return;
    }
    q = relay_begin(c, kept, sizeof(*q), source);
    if (q == NULL)
        return;
    q->job.cancel = cancel;
    q->c = c;
    q->req = kept;
    c->job = &q->job;
    if (relay_has_answer(&q->relay))
        answer(q);
    else
        wait_for_upstream(q);
}
