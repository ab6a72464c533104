/* conn.c - see conn.h: a connection from its beginning to its end, and answers that come
 * later. What happens in between is in serve.c.
 * Does not: read, or know what is spoken. */
#include "conn/conn.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "board/stats.h"
#include "conn/app.h"
#include "conn/deadline.h"
#include "conn/turn.h"

atomic_int conn_count;

void conn_setup(const struct options *opt, bool blocking)
{
    serving = (struct serving){ opt, app.protocol, blocking };
    deadline_setup(opt);
}

struct conn *conn_open(int fd)
{
    struct conn *c = calloc(1, sizeof(*c));

    if (c == NULL) {
        close(fd);
        return NULL;
    }
    turn.now = clock_ms();
    c->fd = fd;
    conn_count++; /* first: here one thread sees what the last owner of `fd` has written */
    *stats_conn(fd) = (struct conn_stats){ .id = ++turn.last_id, .last_ms = turn.now };
    deadline_begin(c);
    stats_add(&stats->accepted, 1);
    stats_add(&stats->connections, 1);
    if (app.on_connect)
        app.on_connect(c);
    return c;
}

/* The deferred message is answered, or need not be any more. */
static void forget_message(struct conn *c)
{
    stats_add(&stats->waiting, (uint64_t)-1);
    c->deferred = false;
    c->job = NULL;
    free(c->deferral);
    c->deferral = NULL;
    buf_consume(&c->in, c->held);
    c->held = 0;
}

void conn_close(struct conn *c)
{
    if (c->deferred) {
        if (app.on_cancel)
            app.on_cancel(c);
        forget_message(c);
    }
    if (app.on_close)
        app.on_close(c);
    deadline_end(c);
    conn_count--; /* before another thread can be given the descriptor's number */
    close(c->fd);
    buf_free(&c->in);
    out_free(c);
    free(c);
    stats_sub(&stats->connections, 1);
}

void conn_pass(struct conn *c, enum conn_owner from, enum conn_owner to)
{
    uint8_t owner = atomic_exchange(&c->owner, (uint8_t)to);

    assert(owner == from);
    (void)owner;
    (void)from;
}

size_t conn_input_limit(void)
{
    return serving.protocol->message_max(serving.opt) + 2 * (size_t)SCRATCH;
}

char *conn_defer(struct conn *c, void *deferral)
{
    struct buf *in = &c->in;

    assert(!serving.blocking && turn.conn == c && !c->deferred);
    if (in->len == 0) { /* the message stands in the scratch; thousands may wait */
        if (!buf_append(in, turn.message, *turn.left, *turn.left))
            return NULL;
    } else {
        in->len = (uint32_t)((size_t)(turn.message - in->base) + *turn.left);
        buf_consume(in, (size_t)(turn.message - in->base));
    }
    turn.message = in->base;
    c->deferral = deferral;
    c->deferred = true;
    stats_add(&stats->waiting, 1);
    return in->base;
}

void conn_count_answers(const struct conn *c, uint32_t n)
{
    stats_conn(c->fd)->requests = c->requests;
    stats_add(&stats->requests, n);
}

/* [conn.answered] */
void conn_answered(struct conn *c)
{
    c->requests++;
    if (!c->deferred) {
        assert(turn.conn == c); /* else it was answered before */
        return;
    }
    c->would_block = false;
    forget_message(c);
    if (turn.conn == c)
        return;
    conn_count_answers(c, 1);
    turn.now = clock_ms();
    out_flush(c);
    if (c->closing) { /* what came behind the message was not read, or not looked at */
        c->unread = true;
        buf_free(&c->in);
    }
    c->stalled = c->in.len > 0;
    c->want = WANT_WRITE;
    deadline_start(c, CLOCK_READY);
}

void conn_postpone(struct conn *c)
{
    turn.now = clock_ms();
    if (c->clock == CLOCK_REPLY)
        deadline_start(c, CLOCK_REPLY);
}

void conn_pull_on(struct conn *c)
{
    turn.now = clock_ms();
    c->out.late = false;
    c->unread |= c->closing; /* as in next(): a body in pieces is a long one */
    out_flush(c);
    if (out_late(&c->out)) {
        conn_postpone(c);
        return;
    }
    c->want = WANT_WRITE;
    deadline_start(c, CLOCK_READY);
}

void conn_reset(struct conn *c)
{
    struct linger linger = { .l_onoff = 1, .l_linger = 0 };

    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}
