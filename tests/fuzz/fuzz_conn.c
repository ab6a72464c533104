/* fuzz_conn.c - libFuzzer: any bytes, in any pieces, into a conn over a socketpair(2),
 * and answers that come at once, later or never; so do pieces of their bodies.
 * Does not: look into the bodies of replies. */
#include "conn/conn.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/stop.h"
#include "conn/app.h"
#include "conn/http1.h"
#include "conn/turn.h"

/* The input: a byte of switches, then pieces: a byte n and n bytes of what the client
 * sends. n = 0: the client reads. n = 255: it shuts its sending side.
 * SOME_ARE_DEFERRED: behind the switches, a byte whose bits say which of eight requests in
 * turn are answered later, and one that says which of those at once after all; and among
 * the pieces, the three events that are no lengths then. What waits in the end is
 * answered, or never. A body that comes in pieces (to a path of three letters) comes by
 * the same event; if the piece of the input behind it begins with 1, it breaks off. */
enum {
    CLIENT_READS_AT_ONCE = 1,
    SMALL_BUFFERS = 2,
    NO_KEEP_ALIVE = 4,
    CLIENT_VANISHES = 8,
    SOME_ARE_DEFERRED = 16,
    THE_LAST_NEVER = 32,
};

enum event {
    THE_CLIENT_READS = 0,
    THE_TIME_IS_OVER = 252, /* whichever runs */
    THE_ANSWER_COMES = 253,
    THE_PROCESS_STOPS = 254,
    THE_CLIENT_SHUTS = 255,
};

enum { MAX_BODY = 3000, LONG_REPLY = 70000, PIECE = 30000, MAX_ANSWERS = 65536 };

static int messages; /* that the application has got on this connection */
static int answers;  /* that it gave */
static struct {
    struct conn *c;                           /* NULL: nothing waits for its answer */
    const struct request *req;                /* as deferred */
    struct request before;                    /* what it was when it came, and ... */
    char bytes[4 * HTTP_MAX_LINE + MAX_BODY]; /* ... what it pointed to */
} later;
static struct {
    int number; /* of the message */
    bool head;  /* which has no body in its answer */
} given[MAX_ANSWERS];
static uint8_t deferred, at_once; /* bits: which of eight requests */

/* A body in pieces, LONG_REPLY letters of it. */
static struct {
    struct out_source source; /* first */
    struct conn *c;           /* NULL: it is given back, or there was none yet */
    size_t out, pulled;       /* letters: let out, and taken of them */
    bool broken;
} tap;

static char received[8 << 20];
static size_t received_len;

static void fail(const char *what)
{
    fprintf(stderr, "%s; %d messages, received: %.*s\n", what, messages,
            (int)(received_len < 2000 ? received_len : 2000), received);
    abort();
}

static void letters(uint64_t offset, char *out, size_t len)
{
    (void)offset;
    memset(out, 'x', len);
}

static bool tap_ready(struct out_source *source)
{
    (void)source;
    return tap.pulled < tap.out || tap.out == LONG_REPLY || tap.broken;
}

static ssize_t tap_pull(struct out_source *source, char *room, size_t size)
{
    size_t n = tap.out - tap.pulled < size ? tap.out - tap.pulled : size;

    if (tap.c == NULL || source != &tap.source || size < OUT_PIECE)
        fail("pulled, and it may not be");
    letters(0, room, n);
    tap.pulled += n;
    if (n > 0)
        return (ssize_t)n;
    if (!tap_ready(source))
        return OUT_LATER;
    return tap.broken ? OUT_BROKEN : 0;
}

static void tap_end(struct out_source *source)
{
    if (tap.c == NULL || source != &tap.source)
        fail("given back twice");
    tap.c = NULL;
}

/* The next piece, of three in all; or none any more. */
static void let_out(bool broken)
{
    bool awaited = tap.c->out.late;

    tap.broken = broken;
    if (!broken)
        tap.out = tap.out + PIECE < LONG_REPLY ? tap.out + PIECE : LONG_REPLY;
    if (awaited)
        conn_pull_on(tap.c);
}

static void reply_by_tap(struct conn *c, const struct request *req, struct slice fields)
{
    struct http_response response = { .status = 200,
                                      .minor = 1,
                                      .framing = HTTP_BODY_LENGTH,
                                      .has_length = true,
                                      .length = LONG_REPLY,
                                      .reason = SLICE("OK"),
                                      .fields = fields };

    if (tap.c)
        fail("a body, while another goes out");
    if (req->method != HTTP_HEAD)
        tap.c = c;
    tap.out = tap.pulled = 0;
    tap.broken = false;
    tap.source = (struct out_source){ tap_pull, tap_ready, tap_end };
    http_reply_relayed(c, req, &response, tap.c ? &tap.source : NULL);
}

static void give(const struct request *req)
{
    if (answers == MAX_ANSWERS)
        fail("give me shorter inputs");
    given[answers].number = messages;
    given[answers++].head = req->method == HTTP_HEAD;
}

static void reply(struct conn *c, const struct request *req)
{
    char number[16], field[32];

    give(req);
    snprintf(number, sizeof(number), "%d", messages);
    snprintf(field, sizeof(field), "Number: %d\r\n", messages);
    if (req->path.len == 2)
        http_reply_produced(c, req, SLICE("text/plain"), LONG_REPLY, letters);
    else if (req->path.len == 3)
        reply_by_tap(c, req, (struct slice){ field, strlen(field) });
    else if (req->body.len > 0)
        http_reply(c, req, 200, req->type, (struct slice){ field, strlen(field) },
                   req->body);
    else
        http_reply(c, req, 200, SLICE("text/plain"),
                   (struct slice){ field, strlen(field) },
                   (struct slice){ number, strlen(number) });
}

static struct slice keep_slice(struct slice s, size_t *at)
{
    if (s.len > sizeof(later.bytes) - *at)
        fail("a request longer than there are");
    memcpy(later.bytes + *at, s.base, s.len);
    *at += s.len;
    return (struct slice){ later.bytes + *at - s.len, s.len };
}

static void keep_request(const struct request *req)
{
    size_t at = 0;

    later.before = *req;
    later.before.path = keep_slice(req->path, &at);
    later.before.query = keep_slice(req->query, &at);
    later.before.type = keep_slice(req->type, &at);
    later.before.body = keep_slice(req->body, &at);
}

/* The deferred request is what it was. */
static const struct request *kept_request(void)
{
    const struct request *a = &later.before, *b = later.req;

    if (a->method != b->method || a->minor != b->minor ||
        a->keep_alive != b->keep_alive || !slice_equal(a->path, b->path) ||
        !slice_equal(a->query, b->query) || !slice_equal(a->type, b->type) ||
        !slice_equal(a->body, b->body))
        fail("a request changed while it waited");
    return b;
}

static void answer(void)
{
    struct conn *c = later.c;

    later.c = NULL;
    reply(c, kept_request());
}

static void on_message(struct conn *c, const void *message)
{
    const struct request *req = message;
    uint8_t bit = (uint8_t)(1 << messages++ % 8);

    if (later.c)
        fail("a request, while another waits");
    if (!(deferred & bit)) {
        reply(c, req);
        return;
    }
    keep_request(req);
    later.req = http_defer(c, req);
    if (later.req == NULL)
        abort();
    later.c = c->job = c;
    if (at_once & bit)
        answer();
}

static void on_cancel(struct conn *c)
{
    if (later.c != c || c->job != c)
        fail("cancelled, and it did not wait");
    give(kept_request()); /* a 504 in its place, if the connection goes on */
    later.c = NULL;
}

static void on_close(struct conn *c)
{
    if (later.c || c->deferred || c->deferral || c->job)
        fail("closed, and a request waits still");
}

const struct app app = { .protocol = &http1,
                         .on_message = on_message,
                         .on_cancel = on_cancel,
                         .on_close = on_close };

static void client_reads(int fd)
{
    ssize_t n;

    if (received_len == sizeof(received))
        return;
    n = recv(fd, received + received_len, sizeof(received) - received_len, MSG_DONTWAIT);
    if (n > 0)
        received_len += (size_t)n;
}

/* Bytes that were read make no event: a complete request among them would wait for
 * ever. */
static bool holds_a_request(const struct conn *c)
{
    struct http_parser p;
    struct request req;
    size_t len = c->in.len;
    char *bytes = malloc(len + 1);

    if (bytes == NULL || c->in.base == NULL) {
        free(bytes);
        return false;
    }
    memcpy(bytes, c->in.base, len);
    memcpy(&p, c->state, sizeof(p));
    ssize_t n = http_parse(&p, bytes, &len, MAX_BODY, &req);
    free(bytes);
    return n != 0;
}

static void check_buffers(const struct conn *c)
{
    const struct buf *in = &c->in, *kept = &c->out.kept;

    if ((size_t)in->cap + kept->cap > 4 * 65536 + 2 * MAX_BODY + 4 * HTTP_MAX_HEAD)
        fail("too much memory");
    if (in->len > in->cap || kept->len > kept->cap || c->out.kept_sent > kept->len)
        fail("a buffer holds more than it has room for");
    if (c->lingering && (in->base || kept->base))
        fail("lingers with memory");
    if (turn.input_len || turn.output_len || turn.conn)
        fail("the turn is over, and the scratch is not empty");
}

static void check(const struct conn *c)
{
    check_buffers(c);
    if (c->want > WANT_REPLY)
        fail("want is none of the four");
    if (c->deferred != (later.c != NULL) || c->deferred != (c->held > 0) ||
        c->held > c->in.len)
        fail("what waits is not what conn thinks");
    if (c->out.late && (tap.c != c || c->out.kept.len > 0 || tap_ready(&tap.source)))
        fail("waits for a body that is there");
    if (c->want == WANT_REPLY && !c->deferred && !c->out.late)
        fail("waits for an answer that nobody will give");
    if (c->want == WANT_WRITE && !out_pending(&c->out) && c->clock != CLOCK_READY)
        fail("wants to write nothing");
    if (c->want == WANT_READ && !c->deferred && !c->out.late && c->in.len > 0 &&
        holds_a_request(c))
        fail("waits to read, while a request that it has read is unanswered");
    if (conn_timeout_ms() < 0)
        fail("nothing would ever end this connection");
    if (c->requests != (uint32_t)answers || messages != answers + c->deferred)
        fail("the application was asked more or less often than there are requests");
}

static void step(struct conn *c)
{
    if (c->want == WANT_WRITE)
        conn_drain(c);
    else
        conn_fill(c);
}

/* The stage. Returns NULL when the connection is closed. */
static struct conn *serve(struct conn *c, int client, bool reads)
{
    static const short events[] = {
        [WANT_READ] = POLLIN, [WANT_WRITE] = POLLOUT, [WANT_REPLY] = 0
    };

    for (int turns = 0; c && turns < 100000; turns++) {
        check(c);
        if (c->want == WANT_CLOSE) {
            conn_close(c);
            return NULL;
        }
        struct pollfd p = { .fd = c->fd, .events = events[c->want] };

        if (poll(&p, 1, 0) == 0 && conn_expired() == NULL)
            return c;
        step(c);
        if (reads)
            client_reads(client);
    }
    if (c)
        fail("never comes to rest");
    return NULL;
}

/* The number that a field of a head has. -1: there is no such field. */
static long field(const char *head, size_t len, const char *name)
{
    const char *at = memmem(head, len, name, strlen(name));

    return at ? strtol(at + strlen(name), NULL, 10) : -1;
}

/* One reply after the other is the next answer that was given; a refusal is the last one.
 * What was cut off at the end is. */
static void check_replies(void)
{
    static const char start[] = "HTTP/1.1 ";
    const char *at = received, *end = received + received_len, *body;
    int replies = 0;

    for (; at < end; at = body) {
        size_t len = (size_t)(end - at);
        long status, length, number;

        if (memcmp(at, start, len < strlen(start) ? len : strlen(start)) != 0)
            fail("not a status line, where a reply should begin");
        body = memmem(at, len, "\r\n\r\n", 4);
        if (body == NULL)
            return;
        body += 4;
        len = (size_t)(body - at);
        status = strtol(at + strlen(start), NULL, 10);
        length = field(at, len, "\r\nContent-Length: ");
        number = field(at, len, "\r\nNumber: ");
        if (status == 100)
            continue;
        if (status != 200 && status != 504) {
            if (end - body > length)
                fail("a reply behind a refusal");
            return;
        }
        if (replies == answers)
            fail("more replies than answers");
        if (number != -1 && number != given[replies].number)
            fail("replies in another order than the requests");
        if (!given[replies++].head)
            body += length;
    }
}

/* Whatever happened in the test before. */
static void set_up(uint8_t switches, int fds[2])
{
    static struct options opt;
    int small = 1;

    log_level = LOG_ERROR;
    messages = answers = 0;
    deferred = at_once = 0;
    received_len = 0;
    stopping = RUNNING;
    opt = (struct options){ .name = "fuzz",
                            .keepalive_ms = switches & NO_KEEP_ALIVE ? 0 : 60000,
                            .request_timeout_ms = 60000,
                            .reply_timeout_ms = 60000,
                            .max_body = MAX_BODY };
    conn_setup(&opt, false);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == -1)
        abort();
    if (switches & SMALL_BUFFERS)
        setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
}

static void time_is_over(struct conn *c)
{
    c->deadline = 0;
    turn.own.first = 0; /* the lists are to be looked through */
}

/* False: it was none. */
static bool happens(enum event event, uint8_t next, struct conn *c, int client)
{
    if (event == THE_CLIENT_READS)
        client_reads(client);
    else if (event == THE_CLIENT_SHUTS)
        shutdown(client, SHUT_WR);
    else if (event == THE_PROCESS_STOPS)
        stopping = STOP_SOON;
    else if (event == THE_ANSWER_COMES && tap.c)
        let_out(next == 1);
    else if (event == THE_ANSWER_COMES && later.c)
        answer();
    else if (event == THE_TIME_IS_OVER)
        time_is_over(c);
    else
        return event == THE_ANSWER_COMES;
    return true;
}

/* One piece of the input. Returns the bytes it took, its first among them; 0: the client
 * can send no more. */
static size_t do_piece(struct conn *c, int client, const uint8_t *piece, size_t size,
                       bool events)
{
    size_t n = piece[0];

    uint8_t next = size > 1 ? piece[1] : 0;

    if ((events || n == 0 || n == 255) && happens((enum event)n, next, c, client))
        return n == THE_CLIENT_SHUTS ? 0 : 1;
    if (n > size - 1)
        n = size - 1;
    if (n > 0 && send(client, piece + 1, n, MSG_NOSIGNAL) == -1)
        return 0;
    return n + 1;
}

/* The client reads all there is, what waits for its answer gets it, or never will. */
static struct conn *finish(struct conn *c, int client, bool never)
{
    size_t before = 1;

    while (c && (later.c || tap.c || before != received_len)) {
        before = received_len;
        client_reads(client);
        if (c->clock == CLOCK_REPLY && never)
            time_is_over(c);
        else if (tap.c)
            let_out(false);
        else if (later.c && !never)
            answer();
        c = serve(c, client, true);
        client_reads(client);
    }
    if (c && c->want == WANT_WRITE)
        fail("everything was read, and it still waits to write");
    return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 1, taken = 1;
    int fds[2];

    if (size < 1 || (data[0] & SOME_ARE_DEFERRED && size < 3))
        return 0;
    set_up(data[0], fds);
    if (data[0] & SOME_ARE_DEFERRED) {
        deferred = data[1];
        at_once = data[2];
        at = 3;
    }
    struct conn *c = conn_open(fds[0]);
    for (; c && at < size && taken > 0; at += taken) {
        taken = do_piece(c, fds[1], data + at, size - at, data[0] & SOME_ARE_DEFERRED);
        c = serve(c, fds[1], data[0] & CLIENT_READS_AT_ONCE);
    }
    if (!(data[0] & CLIENT_VANISHES)) {
        c = finish(c, fds[1], data[0] & THE_LAST_NEVER);
        client_reads(fds[1]);
    }
    close(fds[1]);
    c = serve(c, -1, false);
    if (c)
        fail("the client is gone, the connection is not");
    if (conn_count != 0)
        fail("conn_count is not 0");
    if (messages != answers)
        fail("a request was neither answered nor cancelled");
    if (tap.c)
        fail("a body was not given back");
    check_replies();
    return 0;
}
