/* out.c - see out.h.
 * Does not: wait for the socket to take more. */
#include "conn/out.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "board/stats.h"
#include "conn/conn.h"
#include "conn/turn.h"

enum { SEND_ROUNDS = 16 }; /* pieces of a body before others get their turn */

/* [out.send] */
/* Send what the socket takes. Returns how many bytes that were. */
static size_t send_some(struct conn *c, const char *bytes, size_t len)
{
    ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);

    if (n >= 0) {
        c->would_block = false;
        stats_add(&stats->bytes_out, (uint64_t)n);
        stats_conn(c->fd)->bytes_out += (uint64_t)n;
        return (size_t)n;
    }
    if (errno == EAGAIN) {
        c->would_block = true;
    } else if (errno != EINTR) {
        stats_add(&stats->send_failures, 1);
        c->out.broken = true;
    }
    return 0;
}

/* Keep what could not be sent. At most one reply is kept: nothing more is answered
 * then. */
static void keep(struct conn *c, const char *bytes, size_t len)
{
    size_t limit = serving.protocol->message_max(serving.opt) + 2 * (size_t)SCRATCH;

    if (!c->out.broken && !buf_append(&c->out.kept, bytes, len, limit)) {
        log_line(LOG_WARNING, "no memory for a reply; closing the connection");
        c->out.broken = true;
    }
}

static size_t send_or_keep(struct conn *c, const char *bytes, size_t len)
{
    size_t sent = 0;

    if (c->out.kept.len == 0 && !c->out.broken)
        sent = send_some(c, bytes, len);
    if (sent < len)
        keep(c, bytes + sent, len - sent);
    return sent;
}

static inline size_t flush_scratch(struct conn *c)
{
    size_t sent = 0;

    if (turn.output_len > 0)
        sent = send_or_keep(c, turn.output, turn.output_len);
    turn.output_len = 0;
    return sent;
}

/* The scratch is c's from now on. An answer that came later may come out of the middle of
 * another connection's turn, whose replies leave first. */
static inline void own_scratch(struct conn *c)
{
    if (turn.output_len > 0 && turn.replying != c)
        flush_scratch(turn.replying);
    turn.replying = c;
}

void out_put(struct conn *c, const char *bytes, size_t len)
{
    own_scratch(c);
    if (len <= SCRATCH - turn.output_len && c->out.kept.len == 0) {
        memcpy(turn.output + turn.output_len, bytes, len);
        turn.output_len += len;
        return;
    }
    flush_scratch(c);
    send_or_keep(c, bytes, len);
}

char *out_room(struct conn *c, size_t size)
{
    if (size > SCRATCH)
        return NULL;
    own_scratch(c);
    if (size > SCRATCH - turn.output_len)
        flush_scratch(c);
    return turn.output + turn.output_len;
}

void out_add(struct conn *c, size_t len)
{
    if (c->out.kept.len == 0)
        turn.output_len += len;
    else
        keep(c, turn.output + turn.output_len, len);
}

void out_put_produced(struct conn *c, uint64_t length, out_produce *produce)
{
    if (length == 0)
        return;
    own_scratch(c);
    if (c->out.kept.len == 0 && length <= SCRATCH - turn.output_len) {
        produce(0, turn.output + turn.output_len, (size_t)length);
        turn.output_len += (size_t)length;
        return;
    }
    c->out.body = OUT_PRODUCED;
    c->out.produce = produce;
    c->out.produced = 0;
    c->out.length = length;
}

static size_t send_kept(struct conn *c)
{
    struct out *out = &c->out;
    size_t sent =
        send_some(c, out->kept.base + out->kept_sent, out->kept.len - out->kept_sent);

    out->kept_sent += (uint32_t)sent;
    if (out->kept_sent == out->kept.len) {
        buf_free(&out->kept);
        out->kept_sent = 0;
    }
    return sent;
}

/* Make and send pieces of a body until it ends, the socket is full, or it is others'
 * turn. */
static uint64_t send_produced(struct conn *c)
{
    struct out *out = &c->out;
    uint64_t before = out->produced;

    for (int round = 0; out->body && round < SEND_ROUNDS; round++) {
        uint64_t left = out->length - out->produced;
        size_t len = left < SCRATCH ? (size_t)left : SCRATCH;
        size_t sent;

        out->produce(out->produced, turn.output, len);
        turn.output_len = len; /* in use, if others run while send(2) sleeps */
        sent = send_some(c, turn.output, len);
        turn.output_len = 0;
        out->produced += sent;
        if (out->produced == out->length)
            out->body = OUT_NONE;
        if (sent < len)
            break;
    }
    return out->produced - before;
}

static void end_body(struct out *out)
{
    enum out_body body = out->body;

    out->body = OUT_NONE;
    out->late = false;
    if (body == OUT_PULLED)
        out->source->end(out->source);
}

/* Returns how many bytes stand in room now; 0: and the source has ended, or is late. */
static size_t pull(struct conn *c, char *room, size_t size)
{
    struct out_source *source = c->out.source;
    ssize_t n = source->pull(source, room, size);

    if (n > 0)
        return (size_t)n;
    if (n == OUT_LATER) {
        c->out.late = true;
        return 0;
    }
    if (n < 0)
        c->closing = c->cut = true;
    end_body(&c->out);
    return 0;
}

/* What is there already goes with the head, in one send. */
void out_put_pulled(struct conn *c, struct out_source *source)
{
    struct out *out = &c->out;

    out->body = OUT_PULLED;
    out->source = source;
    out->late = false;
    while (out->body && out->kept.len == 0 && SCRATCH - turn.output_len >= OUT_PIECE &&
           source->ready(source))
        turn.output_len +=
            pull(c, turn.output + turn.output_len, SCRATCH - turn.output_len);
}

/* By turns, pull a piece and send it, until the body ends or is late, the socket is full,
 * or it is others' turn. */
static uint64_t send_pulled(struct conn *c)
{
    struct out *out = &c->out;
    uint64_t sent = 0;

    for (int round = 0; out->body && !out->late && round < SEND_ROUNDS; round++) {
        size_t len = pull(c, turn.output, SCRATCH);

        turn.output_len = len; /* as above */
        sent += flush_scratch(c);
        if (out->kept.len > 0 || out->broken)
            break;
    }
    turn.now = clock_ms(); /* the source may have slept */
    return sent;
}

uint64_t out_flush(struct conn *c)
{
    uint64_t sent;
    bool tried;

    own_scratch(c);
    tried = turn.output_len > 0;
    sent = flush_scratch(c);
    if (tried && serving.blocking && c->would_block) /* again, it would sleep as long */
        return sent;
    if (c->out.kept.len > 0 && !c->out.broken)
        sent += send_kept(c);
    if (c->out.kept.len == 0 && c->out.body == OUT_PRODUCED && !c->out.broken)
        sent += send_produced(c);
    if (c->out.kept.len == 0 && c->out.body == OUT_PULLED && !c->out.broken)
        sent += send_pulled(c);
    return sent;
}

void out_free(struct conn *c)
{
    buf_free(&c->out.kept);
    end_body(&c->out);
}
