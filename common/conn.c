/* conn.c - see conn.h.
 * Does not: know how its stage waits. */
#include "conn.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "app.h"
#include "clock.h"
#include "log.h"
#include "stats.h"
#include "stop.h"

enum {
    SCRATCH = 65536,  /* bytes read or written at once */
    READ_MIN = 4096,  /* room made for one more read of an unfinished request */
    SEND_ROUNDS = 16, /* pieces of a produced body sent before others get their turn */
    SEND_LOOKS = 8,   /* a blocking send(2) is looked at so often within its time-out */
    LINGER_MS = 1000, /* how long a peer may go on sending, or take nothing, at the end */
    FIRST_FLIGHT = 14600, /* bytes that leave without an answer: ten segments, RFC 6928 */
};

/* The time-outs. Within one, all deadlines are equally far away: appended at the tail,
 * the list is in order of time, and its head is the next to expire. */
enum clock { CLOCK_IDLE, CLOCK_REQUEST, CLOCK_SEND, CLOCK_LINGER, CLOCKS };

static struct list {
    struct conn *first, *last;
    int timeout_ms;
} lists[CLOCKS];

static const struct options *opt;
static bool blocking;
static int64_t now;          /* clock_ms() of this turn */
static char input[SCRATCH];  /* what was just read */
static char output[SCRATCH]; /* replies of this turn; empty between two turns */
static size_t output_len;

static uint32_t next_id = 1; /* of the connections of this process */

int conn_count;

/* Bytes of input that one connection may hold: one request, and one read behind it. */
static size_t input_limit(void)
{
    return HTTP_MAX_HEAD + opt->max_body + 2 * SCRATCH;
}

static void unlink_conn(struct conn *c)
{
    struct list *list = &lists[c->clock];

    *(c->prev ? &c->prev->next : &list->first) = c->next;
    *(c->next ? &c->next->prev : &list->last) = c->prev;
}

static void link_conn(struct conn *c, enum clock clock)
{
    struct list *list = &lists[clock];

    c->clock = clock;
    c->deadline = now + list->timeout_ms;
    c->prev = list->last;
    c->next = NULL;
    *(c->prev ? &c->prev->next : &list->first) = c;
    list->last = c;
}

static void set_timeout(int fd, int option, int64_t ms)
{
    struct timeval time = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

    if (ms <= 0)
        time.tv_usec = 1000; /* zero would mean: for ever */
    if (setsockopt(fd, SOL_SOCKET, option, &time, sizeof(time)) == -1)
        log_line(LOG_WARNING, "setsockopt: %s", strerror(errno));
}

static void start_clock(struct conn *c, enum clock clock)
{
    if (blocking && clock != c->clock)
        set_timeout(c->fd, SO_RCVTIMEO, lists[clock].timeout_ms);
    unlink_conn(c);
    link_conn(c, clock);
}

void conn_setup(const struct options *options, bool blocking_sockets)
{
    opt = options;
    blocking = blocking_sockets;
    lists[CLOCK_IDLE].timeout_ms =
        opt->keepalive_ms > 0 ? opt->keepalive_ms : opt->request_timeout_ms;
    lists[CLOCK_REQUEST].timeout_ms = opt->request_timeout_ms;
    lists[CLOCK_SEND].timeout_ms = opt->request_timeout_ms;
    lists[CLOCK_LINGER].timeout_ms = LINGER_MS;
}

struct conn *conn_open(int fd)
{
    struct conn *c = calloc(1, sizeof(*c));

    if (c == NULL) {
        close(fd);
        return NULL;
    }
    now = clock_ms();
    c->fd = fd;
    *stats_conn(fd) = (struct conn_stats){ .id = next_id++, .last_ms = now };
    link_conn(c, CLOCK_IDLE);
    if (blocking) {
        set_timeout(fd, SO_RCVTIMEO, lists[CLOCK_IDLE].timeout_ms);
        set_timeout(fd, SO_SNDTIMEO, lists[CLOCK_SEND].timeout_ms / SEND_LOOKS);
    }
    conn_count++;
    stats_add(&stats->accepted, 1);
    stats_set(&stats->connections, (uint64_t)conn_count);
    if (app.on_connect)
        app.on_connect(c);
    return c;
}

void conn_close(struct conn *c)
{
    if (app.on_close)
        app.on_close(c);
    unlink_conn(c);
    close(c->fd);
    buf_free(&c->in);
    buf_free(&c->out);
    free(c);
    conn_count--;
    stats_set(&stats->connections, (uint64_t)conn_count);
}

/* Nothing of this client is in progress. */
static bool idle(const struct conn *c)
{
    return c->clock == CLOCK_IDLE;
}

static bool output_pending(const struct conn *c)
{
    return c->out.len > 0 || c->produce != NULL;
}

/* --- output ------------------------------------------------------------------------- */

/* [conn.send] */
/* Send what the socket takes. Returns how many bytes that were; a broken connection wants
 * to be closed. */
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
        c->want = WANT_CLOSE;
    }
    return 0;
}

/* Keep what could not be sent. At most one reply is kept: nothing more is answered
 * then. */
static void keep_output(struct conn *c, const char *bytes, size_t len)
{
    if (c->want != WANT_CLOSE &&
        !buf_append(&c->out, bytes, len, opt->max_body + 2 * SCRATCH)) {
        log_line(LOG_WARNING, "no memory for a reply; closing the connection");
        c->want = WANT_CLOSE;
    }
}

static void flush_output(struct conn *c)
{
    size_t sent = 0;

    if (output_len == 0)
        return;
    if (c->out.len == 0 && c->want != WANT_CLOSE)
        sent = send_some(c, output, output_len);
    keep_output(c, output + sent, output_len - sent);
    output_len = 0;
}

static inline void put(struct conn *c, const char *bytes, size_t len)
{
    size_t sent = 0;

    if (len <= SCRATCH - output_len && c->out.len == 0) {
        memcpy(output + output_len, bytes, len);
        output_len += len;
        return;
    }
    flush_output(c);
    if (c->out.len == 0 && c->want != WANT_CLOSE)
        sent = send_some(c, bytes, len);
    keep_output(c, bytes + sent, len - sent);
}

static inline void put_head(struct conn *c, const struct http_head *head)
{
    size_t room = HTTP_HEAD_ROOM + head->type.len + head->fields.len;

    if (room > SCRATCH - output_len)
        flush_output(c);
    if (room > SCRATCH) { /* an echoed type of that length passed no parser */
        c->want = WANT_CLOSE;
        return;
    }
    if (c->out.len == 0) {
        output_len += http_format_head(output + output_len, head);
    } else {
        size_t len = http_format_head(output, head);

        keep_output(c, output, len);
    }
}

static inline void head_for(struct conn *c, const struct request *req,
                            struct http_head *head)
{
    stats_conn(c->fd)->requests = ++c->requests;
    /* A process that stops answers what it has read, and says so with the last answer. */
    c->closing = !req->keep_alive || opt->keepalive_ms == 0 || (stopping && !c->behind);
    head->minor = req->minor;
    head->keep_alive = !c->closing;
    stats_add(&stats->requests, 1);
}

void conn_reply(struct conn *c, const struct request *req, int status, struct slice type,
                struct slice fields, struct slice body)
{
    struct http_head head = {
        .status = status, .type = type, .fields = fields, .content_length = body.len
    };

    head_for(c, req, &head);
    put_head(c, &head);
    if (req->method != HTTP_HEAD)
        put(c, body.base, body.len);
}

void conn_reply_produced(struct conn *c, const struct request *req, struct slice type,
                         uint64_t length, conn_produce *produce)
{
    struct http_head head = { .status = 200, .type = type, .content_length = length };

    head_for(c, req, &head);
    put_head(c, &head);
    if (req->method == HTTP_HEAD || length == 0)
        return;
    if (c->out.len == 0 && length <= SCRATCH - output_len) {
        produce(0, output + output_len, (size_t)length);
        output_len += (size_t)length;
        return;
    }
    c->produce = produce;
    c->produced = 0;
    c->length = length;
}

/* The stream behind this point cannot be trusted, or its end not be awaited: say why,
 * close. */
static void refuse(struct conn *c, int status, const char *why)
{
    struct slice reason = http_reason(status);
    char text[256];
    int len = snprintf(text, sizeof(text), "%d %.*s: %s\n", status, (int)reason.len,
                       reason.base, why);
    struct http_head head = { .status = status,
                              .minor = 1,
                              .type = SLICE("text/plain"),
                              .content_length = (uint64_t)len };

    log_line(LOG_DEBUG, "client %d: refused: %.*s", c->fd, len - 1, text);
    stats_add(&stats->refused, 1);
    c->closing = true;
    c->unread = true;
    http_date_update();
    put_head(c, &head);
    if (c->parser.method != HTTP_HEAD)
        put(c, text, (size_t)len);
    buf_free(&c->in);
    c->parser = (struct http_parser){ 0 };
}

/* Make and send pieces of a body until it ends, the socket is full, or it is others'
 * turn. */
static void send_produced(struct conn *c)
{
    for (int round = 0; c->produce && round < SEND_ROUNDS; round++) {
        uint64_t left = c->length - c->produced;
        size_t len = left < SCRATCH ? (size_t)left : SCRATCH;
        size_t sent;

        c->produce(c->produced, output, len);
        sent = send_some(c, output, len);
        c->produced += sent;
        if (c->produced == c->length)
            c->produce = NULL;
        if (sent < len)
            break;
    }
}

/* Send all that is ready. Returns how many bytes went out. */
static uint64_t send_pending(struct conn *c)
{
    uint64_t before = stats_get(&stats->bytes_out);

    flush_output(c);
    if (blocking && c->would_block) /* a second call would sleep as long once more */
        return stats_get(&stats->bytes_out) - before;
    if (c->out.len > 0 && c->want != WANT_CLOSE) {
        c->out_sent +=
            (uint32_t)send_some(c, c->out.base + c->out_sent, c->out.len - c->out_sent);
        if (c->out_sent == c->out.len) {
            buf_free(&c->out);
            c->out_sent = 0;
        }
    }
    if (c->out.len == 0 && c->produce && c->want != WANT_CLOSE)
        send_produced(c);
    return stats_get(&stats->bytes_out) - before;
}

static void expire(struct conn *c);
static bool answer(struct conn *c, char *bytes, size_t len);

/* --- what comes next ---------------------------------------------------------------- */

/* [conn.finish] */
/* The last reply is out. A peer that may still be sending would meet a reset, and a reset
 * can overtake the reply: shut our side only, and read on for a while. RFC 9112 section
 * 9.6. */
static void finish(struct conn *c)
{
    if (!c->unread || shutdown(c->fd, SHUT_WR) == -1) {
        c->want = WANT_CLOSE;
        return;
    }
    c->lingering = true;
    c->untaken = INT_MAX;
    c->want = WANT_READ;
    start_clock(c, CLOCK_LINGER);
}

/* [conn.settle] */
/* End of a turn: send, then decide what this connection waits for, and how long.
 * answered: a reply was made in this turn. */
static void settle(struct conn *c, bool answered)
{
    uint64_t sent = send_pending(c);

    /* Bytes that were read already cause no event: go on with them now that there is
     * room. */
    while (c->stalled && !output_pending(c) && c->want != WANT_CLOSE) {
        answered |= answer(c, c->in.base, c->in.len);
        sent += send_pending(c);
    }
    if (c->want == WANT_CLOSE)
        return;
    /* What is long is still on its way when the peer's next request comes. */
    c->unread |= c->closing && (output_pending(c) || sent > FIRST_FLIGHT);
    if (output_pending(c)) {
        now = clock_ms(); /* a blocking send(2) may have slept */
        c->want = WANT_WRITE;
        if (sent > 0 || c->clock != CLOCK_SEND)
            start_clock(c, CLOCK_SEND);
        else if (now >= c->deadline)
            expire(c);
    } else if (c->closing) {
        finish(c);
    } else {
        c->want = WANT_READ;
        if (c->in.len == 0)
            start_clock(c, CLOCK_IDLE);
        else if (answered || c->clock != CLOCK_REQUEST)
            start_clock(c, CLOCK_REQUEST);
    }
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

/* The deadline has passed. */
static void expire(struct conn *c)
{
    if (c->lingering && peer_takes(c)) {
        start_clock(c, CLOCK_LINGER);
        return;
    }
    if (!c->lingering)
        stats_add(&stats->timeouts, 1);
    log_line(LOG_DEBUG, "client %d: time-out", c->fd);
    if (c->clock == CLOCK_REQUEST) {
        c->would_block = false;
        refuse(c, 408, "the request did not arrive in time");
        settle(c, true);
    } else {
        c->want = WANT_CLOSE;
    }
}

/* --- input -------------------------------------------------------------------------- */

/* [conn.answer] */
/* Answer every complete request in bytes[0 .. len) until output backs up (c->stalled).
 * The rest, of which there may be none, is what c->in holds afterwards. True: at least
 * one was answered. */
static bool answer(struct conn *c, char *bytes, size_t len)
{
    uint32_t before = c->requests;
    bool more = true;
    size_t at = 0;

    http_date_update();
    stats_set(&stats->busy_since_ms, (uint64_t)now);
    while (more && at < len && !c->closing && !output_pending(c) &&
           c->want != WANT_CLOSE) {
        size_t rest = len - at;
        struct request req;
        ssize_t n = http_parse(&c->parser, bytes + at, &rest, opt->max_body, &req);

        len = at + rest;
        more = n > 0;
        if (n > 0) {
            at += (size_t)n;
            c->behind = at < len;
            app.on_message(c, &req);
        } else if (n < 0) {
            refuse(c, (int)-n, c->parser.why);
        }
    }
    stats_set(&stats->busy_since_ms, 0);
    now = clock_ms(); /* a handler may have taken long */
    c->stalled = more && at < len && !c->closing;
    if (!more && http_wants_continue(&c->parser))
        put(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    if (c->closing) {
        c->unread |= at < len;
        buf_free(&c->in);
    } else if (bytes == c->in.base) {
        c->in.len = (uint32_t)len;
        buf_consume(&c->in, at);
    } else if (!buf_append(&c->in, bytes + at, len - at, input_limit())) {
        refuse(c, 503, "no memory");
    }
    return c->requests != before;
}

/* [conn.receive] */
/* recv(2), once. Returns how many bytes came; 0: none, and c->want says what follows. A
 * blocking call sleeps until the deadline at the latest, whatever has interrupted it
 * before. */
static size_t receive(struct conn *c, char *bytes, size_t room)
{
    ssize_t n;

    if (blocking && (c->clock == CLOCK_REQUEST || c->interrupted))
        set_timeout(c->fd, SO_RCVTIMEO, c->deadline - clock_ms());
    n = recv(c->fd, bytes, room, 0);
    now = clock_ms(); /* the call may have slept */
    if (n > 0) {
        c->would_block = false;
        c->unread = (size_t)n == room; /* there may be more behind it */
        stats_add(&stats->bytes_in, (uint64_t)n);
        stats_conn(c->fd)->bytes_in += (uint64_t)n;
        stats_conn(c->fd)->last_ms = now;
        return (size_t)n;
    }
    if (n == -1 && (errno == EAGAIN || errno == EINTR)) {
        c->would_block = errno == EAGAIN;
        c->interrupted = true;
        if (stop_closes_idle() && idle(c))
            c->want = WANT_CLOSE;
        else if (now >= c->deadline)
            expire(c);
    } else { /* end of the stream, or reset */
        c->want = WANT_CLOSE;
    }
    return 0;
}

/* Read and forget, until the peer closes or its time is up. */
static void linger(struct conn *c)
{
    if (receive(c, input, SCRATCH) > 0 && now >= c->deadline)
        expire(c);
}

void conn_fill(struct conn *c)
{
    struct buf *in = &c->in;
    bool answered;
    size_t n;

    if (c->lingering) {
        linger(c);
        return;
    }
    if (in->len == 0) {
        n = receive(c, input, SCRATCH);
    } else if (buf_reserve(in, READ_MIN, input_limit())) {
        n = receive(c, in->base + in->len, in->cap - in->len);
        in->len += (uint32_t)n;
    } else {
        refuse(c, 503, "no memory");
        settle(c, true);
        return;
    }
    if (n == 0)
        return;
    if (in->len > 0)
        answered = answer(c, in->base, in->len);
    else
        answered = answer(c, input, n);
    settle(c, answered);
    if (c->clock == CLOCK_REQUEST && now >= c->deadline && c->want == WANT_READ)
        expire(c);
}

void conn_drain(struct conn *c)
{
    now = clock_ms();
    settle(c, false);
}

/* --- deadlines ---------------------------------------------------------------------- */

int conn_timeout_ms(void)
{
    int64_t first = INT64_MAX;

    if (stop_closes_idle() && lists[CLOCK_IDLE].first)
        return 0;
    for (int clock = 0; clock < CLOCKS; clock++)
        if (lists[clock].first && lists[clock].first->deadline < first)
            first = lists[clock].first->deadline;
    if (first == INT64_MAX)
        return -1;
    first -= clock_ms();
    return first <= 0 ? 0 : first >= INT_MAX ? INT_MAX : (int)first + 1;
}

struct conn *conn_expired(void)
{
    if (stop_closes_idle() && lists[CLOCK_IDLE].first)
        return lists[CLOCK_IDLE]
            .first; /* one more read finds a request, or EAGAIN: close */
    now = clock_ms();
    for (int clock = 0; clock < CLOCKS; clock++) {
        struct conn *c = lists[clock].first;

        if (c && now >= c->deadline)
            return c; /* one more try, for it was others' turn perhaps; then expire() */
    }
    return NULL;
}
