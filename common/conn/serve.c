/* serve.c - a turn of a connection: read, have it answered, send, and decide what comes
 * next. conn.h has the contracts.
 * Does not: know how its stage waits, or what is spoken. */
#include "conn/conn.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/stop.h"
#include "board/stats.h"
#include "conn/app.h"
#include "conn/deadline.h"
#include "conn/turn.h"

enum {
    READ_MIN = 4096,      /* room made for one more read of an unfinished message */
    FIRST_FLIGHT = 14600, /* bytes that leave without an answer: ten segments, RFC 6928 */
};

/* The reply that says so is put. */
static void refused(struct conn *c)
{
    stats_add(&stats->refused, 1);
    c->closing = true;
    c->unread = true;
}

/* No further message may be answered now: replies go out in order, and one at most is
 * kept. */
static bool backed_up(const struct conn *c)
{
    return out_pending(&c->out) || c->deferred || c->closing || c->out.broken;
}

/* [conn.receive] */
/* recv(2), once. Returns how many bytes came; 0: none, and c->want says what follows. A
 * blocking call sleeps until the deadline at the latest, whatever has interrupted it
 * before. */
static size_t receive(struct conn *c, char *bytes, size_t room)
{
    ssize_t n;

    if (serving.blocking)
        deadline_bound(c);
    n = recv(c->fd, bytes, room, 0);
    turn.now = clock_ms(); /* the call may have slept */
    if (n > 0) {
        c->would_block = false;
        c->unread = (size_t)n == room; /* there may be more behind it */
        stats_add(&stats->bytes_in, (uint64_t)n);
        stats_conn(c->fd)->bytes_in += (uint64_t)n;
        stats_conn(c->fd)->last_ms = turn.now;
        return (size_t)n;
    }
    if (n == -1 && (errno == EAGAIN || errno == EINTR)) {
        c->would_block = errno == EAGAIN;
        c->interrupted = true;
        if (stop_closes_idle() && c->clock == CLOCK_IDLE)
            c->want = WANT_CLOSE;
    } else { /* end of the stream, or reset */
        c->want = WANT_CLOSE;
    }
    return 0;
}

/* The rest of bytes[0 .. len), of which there may be none, is what c->in holds from now
 * on: the first `at` were taken. */
static void keep_rest(struct conn *c, char *bytes, size_t len, size_t at)
{
    if (c->closing) {
        c->unread |= at < len;
        buf_free(&c->in);
    } else if (bytes == c->in.base) {
        c->in.len = (uint32_t)len;
        buf_consume(&c->in, at);
    } else if (at < len &&
               !buf_append(&c->in, bytes + at, len - at, conn_input_limit())) {
        serving.protocol->refuse(c, REFUSE_MEMORY);
        refused(c);
    }
}

/* [conn.take] */
/* Let every complete message in bytes[0 .. len) be answered, until output backs up. True:
 * it did, and there are messages that were not looked at. */
static bool take(struct conn *c, char *bytes, size_t len)
{
    uint32_t before = c->requests;
    bool more = true;
    size_t at = 0;

    stats_set(&stats->busy_since_ms, (uint64_t)turn.now);
    while (more && at < len && !backed_up(c)) {
        size_t left = len - at;
        ssize_t n;

        turn.conn = c;
        turn.message = bytes + at;
        turn.left = &left;
        n = serving.protocol->take(c, bytes + at, &left);
        if (turn.message != bytes + at) { /* deferred: all of it stands in c->in now */
            bytes = turn.message;
            at = 0;
        }
        turn.conn = NULL;
        len = at + left;
        more = n > 0;
        if (c->deferred)
            c->held = (uint32_t)n;
        else if (n > 0)
            at += (size_t)n;
        else if (n < 0)
            refused(c);
    }
    stats_set(&stats->busy_since_ms, 0);
    if (c->requests != before)
        conn_count_answers(c, c->requests - before);
    turn.now = clock_ms(); /* a handler may have taken long */
    more = more && at + c->held < len && !c->closing;
    keep_rest(c, bytes, len, at);
    return more;
}

/* [conn.finish] */
/* The last reply is out. A peer that may still be sending would meet a reset, and a reset
 * can overtake the reply: shut our side only, and read on for a while. RFC 9112 section
 * 9.6. */
static void finish(struct conn *c)
{
    if (!c->unread || c->cut || shutdown(c->fd, SHUT_WR) == -1) {
        c->want = WANT_CLOSE;
        return;
    }
    c->lingering = true;
    c->untaken = INT_MAX;
    c->want = WANT_READ;
    deadline_start(c, CLOCK_LINGER);
}

/* [conn.next] */
/* The end of a turn: what does this connection wait for, and how long? sent: bytes that
 * left in it. answered: so did a message. */
static void next(struct conn *c, uint64_t sent, bool answered)
{
    if (c->out.broken) {
        c->want = WANT_CLOSE;
        return;
    }
    /* What is long is still on its way when the peer's next message comes. */
    c->unread |= c->closing && (out_pending(&c->out) || sent > FIRST_FLIGHT);
    if (out_late(&c->out)) {
        c->want = WANT_READ;
        deadline_start(c, CLOCK_REPLY);
    } else if (out_pending(&c->out)) {
        turn.now = clock_ms(); /* a blocking send(2) may have slept */
        c->want = WANT_WRITE;
        if (sent > 0 || c->clock != CLOCK_SEND)
            deadline_start(c, CLOCK_SEND);
    } else if (c->closing) {
        finish(c);
    } else {
        c->want = WANT_READ;
        if (c->deferred)
            deadline_start(c, CLOCK_REPLY);
        else if (c->in.len == 0)
            deadline_start(c, CLOCK_IDLE);
        else if (answered || c->clock != CLOCK_MESSAGE)
            deadline_start(c, CLOCK_MESSAGE);
    }
}

/* [conn.turn] */
/* Answer what has been read and was not looked at, and send the answers, by turns, until
 * there is no more of either. Bytes that were read already cause no event. sent: bytes
 * that have left in this turn. */
static void go_on(struct conn *c, char *bytes, size_t len, bool more, uint64_t sent)
{
    uint32_t before = c->requests;

    while (more && !backed_up(c)) {
        more = take(c, bytes, len);
        sent += out_flush(c);
        bytes = c->in.base;
        len = c->in.len;
    }
    c->stalled = more;
    next(c, sent, c->requests != before);
}

/* Replies that the kernel has taken may wait for the peer still, and a close with its
 * bytes unread would drop them. True: it took some since the last look. tcp(7),
 * SIOCOUTQ. */
static bool peer_takes(struct conn *c)
{
    int untaken = 0;
    bool less;

    if (ioctl(c->fd, SIOCOUTQ, &untaken) == -1)
        return false;
    less = untaken > 0 && untaken < c->untaken;
    c->untaken = untaken;
    return less;
}

static void refuse(struct conn *c, enum refusal why)
{
    serving.protocol->refuse(c, why);
    refused(c);
    buf_free(&c->in);
    go_on(c, NULL, 0, false, out_flush(c));
}

/* The application is late. It was the message's turn, so it is that of those behind it
 * now. */
static void answer_instead(struct conn *c)
{
    if (app.on_cancel)
        app.on_cancel(c);
    stats_add(&stats->refused, 1);
    serving.protocol->unanswered(c);
    go_on(c, c->in.base, c->in.len, c->stalled, 0);
}

/* The deadline has passed, and a last look has changed nothing. */
static void expire(struct conn *c)
{
    if (c->lingering && peer_takes(c)) {
        deadline_start(c, CLOCK_LINGER);
        return;
    }
    log_line(LOG_DEBUG, "client %d: time-out", c->fd);
    if (c->deferred && c->clock == CLOCK_REPLY) {
        answer_instead(c);
        return;
    }
    if (!c->lingering)
        stats_add(&stats->timeouts, 1);
    c->would_block = false;
    if (c->clock == CLOCK_MESSAGE) {
        refuse(c, REFUSE_LATE);
        return;
    }
    if (c->clock == CLOCK_REPLY) /* in the middle of a body */
        conn_reset(c);
    c->want = WANT_CLOSE;
}

/* An answer, or the rest of one, is awaited: is the peer there to get it? What it sends meanwhile waits in
 * the kernel, and is of no interest before. poll(2): POLLERR and POLLHUP come unasked. */
static void look(struct conn *c)
{
    struct pollfd gone = { .fd = c->fd };

    turn.now = clock_ms();
    c->want = poll(&gone, 1, 0) > 0 ? WANT_CLOSE : WANT_REPLY;
    c->would_block = true;
}

static void fill(struct conn *c)
{
    struct buf *in = &c->in;
    size_t n;

    if (in->len == 0) {
        n = turn.input_len = receive(c, turn.input, SCRATCH);
        if (n > 0)
            go_on(c, turn.input, n, true, 0);
        turn.input_len = 0;
    } else if (buf_reserve(in, READ_MIN, conn_input_limit())) {
        n = receive(c, in->base + in->len, in->cap - in->len);
        in->len += (uint32_t)n;
        if (n > 0)
            go_on(c, in->base, in->len, true, 0);
    } else {
        refuse(c, REFUSE_MEMORY);
    }
}

void conn_fill(struct conn *c)
{
    if (c->deferred || out_late(&c->out))
        look(c);
    else if (c->lingering) /* read and forget, until the peer closes */
        receive(c, turn.input, SCRATCH);
    else
        fill(c);
    if (c->want != WANT_CLOSE && c->want != WANT_WRITE && turn.now >= c->deadline)
        expire(c);
}

void conn_drain(struct conn *c)
{
    turn.now = clock_ms();
    go_on(c, c->in.base, c->in.len, c->stalled, out_flush(c));
    if (c->want == WANT_WRITE && turn.now >= c->deadline)
        expire(c);
}

int conn_timeout_ms(void)
{
    if (stop_closes_idle() && deadline_first(CLOCK_IDLE))
        return 0;
    return deadline_next_ms();
}

struct conn *conn_expired(void)
{
    struct conn *idle = stop_closes_idle() ? deadline_first(CLOCK_IDLE) : NULL;

    if (idle)
        return idle; /* one more read finds a message, or EAGAIN: close */
    return deadline_passed();
}

/* poll(2): may it be read, or written, as it wants to? */
static bool can_go_on(const struct conn *c)
{
    struct pollfd way = { .fd = c->fd,
                          .events = c->want == WANT_WRITE ? POLLOUT : POLLIN };
    int n;

    while ((n = poll(&way, 1, 0)) == -1 && errno == EINTR)
        continue;
    return n > 0;
}

void conn_expire(struct conn *c)
{
    if (can_go_on(c))
        deadline_suspend(c);
    else if (stop_closes_idle() && c->clock == CLOCK_IDLE)
        c->want = WANT_CLOSE;
    else
        expire(c);
}
