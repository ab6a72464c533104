/* test_conn.c - conn.c over socketpair(2), with an application of its own.
 * Does not: start a stage; the black-box tests do. */
#include "conn/conn.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/stop.h"
#include "board/stats.h"
#include "conn/app.h"
#include "conn/http1.h"
#include "harness/pair.h"

enum {
    MAX_BODY = 200000,
    REPLIES = 8 << 20, /* the most a test receives */
    PATIENCE_MS = 5000,
};

#define HOST        "Host: a\r\n"
#define GET(target) "GET " target " HTTP/1.1\r\n" HOST "\r\n"

/* ---- The application ---- */

static int connected, closed;
static int64_t handler_ended; /* clock_ms() after the last /slow */

static void letters(uint64_t offset, char *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (char)('a' + (offset + i) % 26);
}

static void on_connect(struct conn *c)
{
    (void)c;
    connected++;
}

static void on_close(struct conn *c)
{
    (void)c;
    closed++;
}

/* GET /?TEXT: TEXT; /slow?TEXT: not at once. GET /copy?n=N and /bytes?n=N: N letters, at
 * once or produced. POST: the body. */
static void on_message(struct conn *c, const void *message)
{
    const struct request *req = message;
    static char text[MAX_BODY];
    struct slice body = req->method == HTTP_POST ? req->body : req->query;
    char number[16];
    size_t n = 0;

    if (http_query(req->query, "n", number, sizeof(number)) > 0)
        n = strtoul(number, NULL, 10);
    if (slice_equal(req->path, SLICE("/bytes"))) {
        http_reply_produced(c, req, SLICE("text/plain"), n, letters);
        return;
    }
    if (slice_equal(req->path, SLICE("/slow"))) {
        poll(NULL, 0, 100);
        handler_ended = clock_ms();
    }
    if (slice_equal(req->path, SLICE("/copy"))) {
        ck_assert_uint_le(n, sizeof(text));
        letters(0, text, n);
        body = (struct slice){ text, n };
    }
    http_reply(c, req, 200, SLICE("text/plain"), SLICE(""), body);
}

const struct app app = { .protocol = &http1,
                         .on_connect = on_connect,
                         .on_message = on_message,
                         .on_close = on_close };

/* ---- Both ends ---- */

static struct options opt;
static struct conn *c; /* the server's end; NULL: closed */
static int peer;       /* the client's end; -1: closed */
static char *received;
static size_t received_len, read_len; /* of which so much was looked at */
static bool ended;                    /* the end of the stream was received */

static struct conn *open_pair(int type, int *client)
{
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    *client = fds[1];
    struct conn *opened = conn_open(fds[0]);
    ck_assert_ptr_nonnull(opened);
    return opened;
}

static void begin(int type)
{
    conn_setup(&opt, false);
    c = open_pair(type, &peer);
    ck_assert_int_eq(c->want, WANT_READ);
}

static void set_up(void)
{
    opt = (struct options){ .name = "test_conn",
                            .workers = 1,
                            .keepalive_ms = 60000,
                            .request_timeout_ms = 60000,
                            .max_body = MAX_BODY };
    received = malloc(REPLIES);
    ck_assert_ptr_nonnull(received);
}

/* Whatever the test did, nothing may be left. */
static void tear_down(void)
{
    if (c)
        conn_close(c);
    if (peer >= 0)
        close(peer);
    ck_assert_int_eq(conn_count, 0);
    ck_assert_int_eq(connected, closed);
    ck_assert_int_eq(conn_timeout_ms(), -1);
    free(received);
}

/* The one call that c->want names. */
static void step(void)
{
    if (c->want == WANT_READ)
        conn_fill(c);
    else if (c->want == WANT_WRITE)
        conn_drain(c);
}

/* What a stage does with one connection, as long as there is something to do. */
static void serve(void)
{
    for (int turn = 0; c; turn++) {
        ck_assert_msg(turn < 1000000, "want %d again and again", (int)c->want);
        if (c->want == WANT_CLOSE) {
            conn_close(c);
            c = NULL;
            return;
        }
        struct pollfd p = { .fd = c->fd,
                            .events = c->want == WANT_READ ? POLLIN : POLLOUT };

        if (poll(&p, 1, 0) == 0)
            return;
        step();
    }
}

/* True: at least one byte came, or the end. */
static bool receive(size_t most)
{
    ssize_t n;
    bool any = false;

    while (most > 0 && !ended) {
        ck_assert_uint_lt(received_len, REPLIES);
        n = recv(peer, received + received_len,
                 most < REPLIES - received_len ? most : REPLIES - received_len,
                 MSG_DONTWAIT);
        if (n == -1)
            break;
        any = true;
        ended = n == 0;
        received_len += (size_t)n;
        most -= (size_t)n;
    }
    return any;
}

static size_t send_what_fits(const char *bytes, size_t len)
{
    ssize_t n = send(peer, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

    return n == -1 ? 0 : (size_t)n;
}

static void say(const char *text)
{
    ck_assert_uint_eq(send_what_fits(text, strlen(text)), strlen(text));
}

/* Send all of it, serve and receive, until neither end has anything left to do. */
static void exchange_bytes(const char *bytes, size_t len)
{
    size_t sent = 0, n;
    bool more;

    do {
        n = sent < len && !ended ? send_what_fits(bytes + sent, len - sent) : 0;
        sent += n;
        serve();
        more = receive(REPLIES);
    } while (more || n > 0);
}

static void exchange(const char *text)
{
    exchange_bytes(text, strlen(text));
}

struct reply {
    int status;
    bool closes;
    const char *body;
    size_t length; /* Content-Length */
};

/* The next reply of what was received. head_only: no body follows. */
static struct reply next_reply_to(bool head_only)
{
    const char *start = received + read_len, *end = received + received_len;
    const char *stop = memmem(start, (size_t)(end - start), "\r\n\r\n", 4);
    struct reply r = { 0 };
    static char head[1024];
    const char *length;

    ck_assert_msg(stop != NULL, "no reply in [%.*s]", (int)(end - start), start);
    snprintf(head, sizeof(head), "%.*s", (int)(stop + 2 - start), start);
    ck_assert_msg(sscanf(head, "HTTP/1.1 %d ", &r.status) == 1, "not a reply: %s", head);
    r.body = stop + 4;
    if (r.status != 100) {
        length = strstr(head, "\r\nContent-Length: ");
        ck_assert_msg(length != NULL, "no Content-Length: %s", head);
        r.length = strtoul(length + 18, NULL, 10);
    }
    r.closes = strstr(head, "\r\nConnection: close\r\n") != NULL;
    size_t body = head_only ? 0 : r.length;
    ck_assert_msg(body <= (size_t)(end - r.body), "%zu bytes of body, %td arrived", body,
                  end - r.body);
    read_len = (size_t)(r.body - received) + body;
    return r;
}

static struct reply next_reply(void)
{
    return next_reply_to(false);
}

static void expect_reply(int status, const char *body)
{
    struct reply r = next_reply();

    ck_assert_msg(r.status == status && (!body || (r.length == strlen(body) &&
                                                   memcmp(r.body, body, r.length) == 0)),
                  "expected %d [%s], got %d [%.*s]", status, body ? body : "...",
                  r.status, (int)r.length, r.body);
}

static void expect_letters(size_t n)
{
    struct reply r = next_reply();

    ck_assert_int_eq(r.status, 200);
    ck_assert_uint_eq(r.length, n);
    for (size_t i = 0; i < n; i++)
        if (r.body[i] != (char)('a' + i % 26))
            ck_abort_msg("byte %zu of %zu is %d", i, n, r.body[i]);
}

static void expect_nothing_more(void)
{
    ck_assert_msg(read_len == received_len, "and then: [%.*s]",
                  (int)(received_len - read_len), received + read_len);
}

/* It waits for a request and owns nothing but its struct. */
static void expect_idle(void)
{
    ck_assert_ptr_nonnull(c);
    ck_assert_int_eq(c->want, WANT_READ);
    ck_assert_msg(c->in.base == NULL && c->out.kept.base == NULL,
                  "in: %u of %u, out: %u of %u", c->in.len, c->in.cap, c->out.kept.len,
                  c->out.kept.cap);
}

static void expect_closed(void)
{
    ck_assert_ptr_null(c);
    ck_assert(ended);
}

/* ---- Requests and replies ---- */

START_TEST(struct_size)
{
    begin(SOCK_STREAM);
    /* With malloc's own 16 bytes: what an idle client costs. */
    ck_assert_uint_le(sizeof(struct conn) + 16, 256);
}
END_TEST

START_TEST(one_request)
{
    begin(SOCK_STREAM);
    exchange(GET("/?x"));
    expect_reply(200, "x");
    expect_nothing_more();
    expect_idle();
    ck_assert_uint_eq(c->requests, 1);
    exchange(GET("/?y"));
    expect_reply(200, "y");
    expect_idle();
    ck_assert_uint_eq(c->requests, 2);
}
END_TEST

static const char conversation[] =
    GET("/?1") "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello"
               "POST / HTTP/1.1\r\n" HOST
               "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n"
               "0\r\nT: u\r\n\r\n" GET("/?4");

static void expect_conversation(void)
{
    expect_reply(200, "1");
    expect_reply(200, "hello");
    expect_reply(200, "abcde");
    expect_reply(200, "4");
    expect_nothing_more();
    expect_idle();
}

START_TEST(cut_anywhere)
{
    begin(SOCK_STREAM);
    for (size_t cut = 1; cut < sizeof(conversation) - 1; cut++) {
        received_len = read_len = 0;
        exchange_bytes(conversation, cut);
        exchange_bytes(conversation + cut, sizeof(conversation) - 1 - cut);
        expect_conversation();
    }
}
END_TEST

START_TEST(byte_by_byte)
{
    begin(SOCK_STREAM);
    for (size_t i = 0; i < sizeof(conversation) - 1; i++)
        exchange_bytes(conversation + i, 1);
    expect_conversation();
}
END_TEST

/* A SOCK_SEQPACKET socket keeps the bytes of each send(2) apart. */
START_TEST(pipelined_requests_cost_one_send)
{
    enum { REQUESTS = 100 };
    static char requests[REQUESTS * 64];
    char expected[16];
    size_t len = 0;
    ssize_t n;

    begin(SOCK_SEQPACKET);
    for (int i = 0; i < REQUESTS; i++)
        len += (size_t)sprintf(requests + len, GET("/?%d"), i);
    ck_assert_uint_eq(send_what_fits(requests, len), len);
    conn_fill(c);
    n = recv(peer, received, REPLIES, MSG_DONTWAIT);
    ck_assert_int_gt(n, 0);
    received_len = (size_t)n;
    for (int i = 0; i < REQUESTS; i++) {
        sprintf(expected, "%d", i);
        expect_reply(200, expected);
    }
    expect_nothing_more();
    ck_assert_int_eq(recv(peer, received, REPLIES, MSG_DONTWAIT), -1);
    ck_assert_uint_eq(c->requests, REQUESTS);
    expect_idle();
}
END_TEST

START_TEST(a_reply_costs_one_send)
{
    static const char *const requests[] = { GET("/?x"), GET("/copy?n=30000"),
                                            GET("/bytes?n=30000"), "nonsense\r\n\r\n" };

    begin(SOCK_SEQPACKET);
    for (size_t i = 0; i < sizeof(requests) / sizeof(*requests); i++) {
        say(requests[i]);
        conn_fill(c);
        ssize_t n = recv(peer, received, REPLIES, MSG_DONTWAIT);
        ck_assert_int_gt(n, 0);
        received_len = (size_t)n;
        read_len = 0;
        next_reply();
        expect_nothing_more();
    }
}
END_TEST

START_TEST(head_has_no_body)
{
    begin(SOCK_STREAM);
    exchange("HEAD /?abc HTTP/1.1\r\n" HOST "\r\n"
             "HEAD /bytes?n=100000 HTTP/1.1\r\n" HOST "\r\n" GET("/?x"));
    struct reply r = next_reply_to(true);
    ck_assert_int_eq(r.status, 200);
    ck_assert_uint_eq(r.length, 3);
    r = next_reply_to(true);
    ck_assert_uint_eq(r.length, 100000);
    expect_reply(200, "x");
    expect_nothing_more();
    expect_idle();
}
END_TEST

/* ---- More than the socket takes ---- */

static const size_t lengths[] = {
    0, 1, 1000, 65000, 65535, 65536, 65537, 131072, 200000
};
enum { LENGTHS = sizeof(lengths) / sizeof(*lengths) };

/* Whatever the length of a reply is, the request behind it is answered as well: its bytes
 * have been read, so no event will tell of them. */
START_TEST(pipelined_behind_a_long_reply)
{
    char request[128];

    begin(SOCK_STREAM);
    sprintf(request, GET("/%s?n=%zu") GET("/?x") GET("/copy?n=1"),
            _i < LENGTHS ? "bytes" : "copy", lengths[_i % LENGTHS]);
    exchange(request);
    expect_letters(lengths[_i % LENGTHS]);
    expect_reply(200, "x");
    expect_letters(1);
    expect_nothing_more();
    expect_idle();
}
END_TEST

/* A socket that takes all of a body at once, so that there is no wait for WANT_WRITE. */
START_TEST(pipelined_behind_a_long_reply_roomy)
{
    int size = 4 << 20;

    begin(SOCK_STREAM);
    ck_assert_int_eq(setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
    exchange(GET("/bytes?n=100000") GET("/?x") GET("/bytes?n=70000") GET("/?y"));
    expect_letters(100000);
    expect_reply(200, "x");
    expect_letters(70000);
    expect_reply(200, "y");
    expect_nothing_more();
    expect_idle();
}
END_TEST

START_TEST(produced_body)
{
    begin(SOCK_STREAM);
    say(GET("/bytes?n=5000000"));
    serve();
    ck_assert_int_eq(c->want, WANT_WRITE);
    while (c->want == WANT_WRITE) {
        ck_assert_msg(c->out.kept.cap + c->in.cap <= 2048, "in %u, out %u", c->in.cap,
                      c->out.kept.cap);
        receive(100000);
        serve();
    }
    exchange("");
    expect_letters(5000000);
    expect_nothing_more();
    expect_idle();
}
END_TEST

/* A client that sends and never reads costs a bounded amount, and loses nothing. */
START_TEST(backpressure)
{
    enum { REQUESTS = 4000 };
    static char requests[REQUESTS * 64];
    static const size_t bound = 4 * 65536 + 2 * MAX_BODY;
    const char *path = _i == 0   ? "/copy?n=1500"
                       : _i == 1 ? "/bytes?n=1500"
                                 : "/bytes?n=100000";
    int count = _i == 2 ? REQUESTS / 80 : REQUESTS;
    size_t len = 0, sent = 0, n;

    begin(SOCK_STREAM);
    for (int i = 0; i < count; i++)
        len += (size_t)sprintf(requests + len, "GET %s HTTP/1.1\r\n" HOST "\r\n", path);
    do {
        n = send_what_fits(requests + sent, len - sent);
        sent += n;
        serve();
        ck_assert_ptr_nonnull(c);
        ck_assert_msg(c->in.cap + c->out.kept.cap <= bound, "in %u, out %u", c->in.cap,
                      c->out.kept.cap);
    } while (n > 0);
    ck_assert_int_eq(c->want, WANT_WRITE);
    ck_assert_uint_lt(c->requests, (unsigned)count);

    while (sent < len || receive(3000)) { /* now it reads, little by little */
        sent += send_what_fits(requests + sent, len - sent);
        serve();
        receive(3000);
        ck_assert_msg(c->in.cap + c->out.kept.cap <= bound, "in %u, out %u", c->in.cap,
                      c->out.kept.cap);
    }
    ck_assert_uint_eq(c->requests, (unsigned)count);
    for (int i = 0; i < count; i++)
        expect_letters(_i == 2 ? 100000 : 1500);
    expect_nothing_more();
    expect_idle();
}
END_TEST

/* The longest body that is accepted can be echoed, however little the socket takes. */
START_TEST(longest_echo)
{
    static char request[MAX_BODY + 256];
    int size = 4096;
    size_t len;

    begin(SOCK_STREAM);
    ck_assert_int_eq(setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
    len = (size_t)sprintf(
        request, "POST / HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n", MAX_BODY);
    letters(0, request + len, MAX_BODY);
    exchange_bytes(request, len + MAX_BODY);
    expect_letters(MAX_BODY);
    expect_nothing_more();
    expect_idle();
}
END_TEST

/* The body goes by in chunks of one byte, five times as long on the wire. */
START_TEST(chunks_cost_no_more_than_their_data)
{
    enum { CHUNKS = 100000 };
    static char request[CHUNKS * 6 + 256];
    size_t len, sent = 0;

    begin(SOCK_STREAM);
    len = (size_t)sprintf(request, "POST / HTTP/1.1\r\n" HOST
                                   "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < CHUNKS; i++)
        len += (size_t)sprintf(request + len, "1\r\n%c\r\n", 'a' + i % 26);
    memcpy(request + len, "0\r\n\r\n", 5);
    len += 5;
    while (sent < len) {
        sent += send_what_fits(request + sent, len - sent < 10000 ? len - sent : 10000);
        serve();
        ck_assert_msg(c->in.cap <= 4 * (CHUNKS + 20000), "%u bytes for %d of body",
                      c->in.cap, CHUNKS);
    }
    exchange("");
    expect_letters(CHUNKS);
    expect_idle();
}
END_TEST

/* ---- Ends ---- */

START_TEST(half_closed_peer_gets_its_answers)
{
    begin(SOCK_STREAM);
    say(GET("/?x") GET("/bytes?n=1000000") GET("/copy?n=200000") GET("/?y"));
    ck_assert_int_eq(shutdown(peer, SHUT_WR), 0);
    exchange("");
    expect_reply(200, "x");
    expect_letters(1000000);
    expect_letters(200000);
    expect_reply(200, "y");
    expect_nothing_more();
    expect_closed();
}
END_TEST

START_TEST(peer_closes_idle_connection)
{
    begin(SOCK_STREAM);
    exchange(GET("/?x"));
    close(peer);
    peer = -1;
    conn_fill(c);
    ck_assert_int_eq(c->want, WANT_CLOSE);
}
END_TEST

START_TEST(peer_closes_within_a_request)
{
    begin(SOCK_STREAM);
    exchange("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhel");
    ck_assert_ptr_nonnull(c->in.base);
    close(peer);
    peer = -1;
    conn_fill(c);
    ck_assert_int_eq(c->want, WANT_CLOSE);
}
END_TEST

/* Linux: a unix socket that is closed with bytes unread resets its peer; unix(7). */
START_TEST(reset_peer)
{
    begin(SOCK_STREAM);
    say(GET("/?x"));
    serve();
    say(GET("/?y"));
    close(peer);
    peer = -1;
    serve();
    ck_assert_ptr_null(c);
}
END_TEST

/* EPIPE ends the connection, and SIGPIPE does not end this process. */
START_TEST(peer_gone_before_the_reply)
{
    begin(SOCK_STREAM);
    say(_i == 0 ? GET("/?x") : _i == 1 ? GET("/bytes?n=1000000") : GET("/copy?n=200000"));
    close(peer);
    peer = -1;
    conn_fill(c);
    ck_assert_int_eq(c->want, WANT_CLOSE);
}
END_TEST

START_TEST(peer_gone_within_the_reply)
{
    begin(SOCK_STREAM);
    say(_i == 0 ? GET("/bytes?n=5000000") : GET("/copy?n=200000") GET("/copy?n=200000"));
    serve();
    ck_assert_int_eq(c->want, WANT_WRITE);
    close(peer);
    peer = -1;
    conn_drain(c);
    ck_assert_int_eq(c->want, WANT_CLOSE);
}
END_TEST

static const struct closing {
    const char *name, *request;
    bool closes;
} closings[] = {
    { "1.1", GET("/?x"), false },
    { "1.1 with close", "GET /?x HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", true },
    { "1.0", "GET /?x HTTP/1.0\r\n\r\n", true },
    { "1.0 with keep-alive", "GET /?x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
      false },
};

START_TEST(connection_close)
{
    const struct closing *k = &closings[_i];
    char requests[256];

    begin(SOCK_STREAM);
    sprintf(requests, "%s%s", k->request, GET("/?y"));
    exchange(requests);
    struct reply r = next_reply();
    ck_assert_msg(r.status == 200 && r.closes == k->closes, "%s: %d, closes: %d", k->name,
                  r.status, r.closes);
    if (k->closes) {
        expect_nothing_more(); /* what is behind it is not answered */
        ck_assert(ended);
        close(peer);
        peer = -1;
        serve();
        ck_assert_ptr_null(c);
    } else {
        expect_reply(200, "y");
        expect_idle();
    }
}
END_TEST

/* Nothing is behind it: no need to linger. */
START_TEST(connection_close_at_once)
{
    begin(SOCK_STREAM);
    exchange("GET /?x HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    expect_reply(200, "x");
    expect_nothing_more();
    expect_closed();
}
END_TEST

START_TEST(connection_close_behind_a_long_body)
{
    begin(SOCK_STREAM);
    exchange("GET /bytes?n=1000000 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    expect_letters(1000000);
    expect_nothing_more();
    ck_assert(ended);
    ck_assert(c->lingering); /* it may be on its way still, and must meet no reset */
    say(GET("/?z"));         /* which this would cause on a closed socket */
    serve();
    ck_assert_ptr_nonnull(c);
    exchange("");
    expect_nothing_more();
    close(peer);
    peer = -1;
    serve();
    ck_assert_ptr_null(c);
}
END_TEST

START_TEST(no_keep_alive)
{
    opt.keepalive_ms = 0;
    begin(SOCK_STREAM);
    exchange(GET("/?x"));
    struct reply r = next_reply();
    ck_assert(r.closes);
    expect_closed();
}
END_TEST

/* ---- Refused ---- */

static const struct refused_case {
    const char *name, *request;
    int status;
    int answered; /* before it */
} refusals[] = {
    { "nonsense", "nonsense\r\n\r\n", 400, 0 },
    { "no Host", "GET / HTTP/1.1\r\n\r\n", 400, 0 },
    { "behind two others", GET("/?x") GET("/?x") "GET / HTTP/1.1\r\n\r\n", 400, 2 },
    { "behind a chunked one",
      "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
      "BREW / HTTP/1.1\r\n\r\n",
      501, 1 },
    { "a body too long", "POST / HTTP/1.1\r\n" HOST "Content-Length: 200001\r\n\r\n", 413,
      0 },
    { "a version", "GET / HTTP/2.0\r\n\r\n", 505, 0 },
    { "an expectation", "GET / HTTP/1.1\r\n" HOST "Expect: x\r\n\r\n", 417, 0 },
    { "smuggling",
      "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n"
      "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      400, 0 },
};

/* Cut anywhere: the answers before it, one refusal, then the end, although valid requests
 * follow. The connection reads on, for a while, so that no reset overtakes the answer. */
START_TEST(refused)
{
    const struct refused_case *k = &refusals[_i];
    size_t len = strlen(k->request);

    conn_setup(&opt, false);
    for (size_t cut = 1; cut <= len; cut++) {
        uint64_t before = stats_get(&stats->refused);

        received_len = read_len = 0;
        ended = false;
        c = open_pair(SOCK_STREAM, &peer);
        exchange_bytes(k->request, cut);
        exchange_bytes(k->request + cut, len - cut);
        exchange(GET("/?y"));
        for (int i = 0; i < k->answered; i++)
            expect_reply(200, "x");
        struct reply r = next_reply();
        ck_assert_msg(r.status == k->status && r.closes,
                      "%s, cut %zu: expected %d, got %d%s", k->name, cut, k->status,
                      r.status, r.closes ? "" : ", not closing");
        expect_nothing_more();
        ck_assert_msg(ended, "%s, cut %zu: not ended", k->name, cut);
        ck_assert_uint_eq(stats_get(&stats->refused), before + 1);

        ck_assert_ptr_nonnull(c);
        ck_assert(c->lingering);
        expect_idle();
        say(GET("/?z")); /* still no reset, still no answer */
        serve();
        ck_assert_ptr_nonnull(c);
        close(peer);
        peer = -1;
        serve();
        ck_assert_ptr_null(c);
    }
}
END_TEST

/* RFC 9110 section 9.3.2, as far as the method is known. */
START_TEST(refused_head_has_no_body)
{
    begin(SOCK_STREAM);
    exchange("HEAD / HTTP/1.1\r\n\r\n");
    struct reply r = next_reply_to(true);
    ck_assert_int_eq(r.status, 400);
    ck_assert_uint_gt(r.length, 0);
    expect_nothing_more();
}
END_TEST

/* The client first sends a megabyte that nobody wants, then reads. */
START_TEST(refused_while_sending)
{
    static char body[1 << 20];
    size_t sent = 0, n;

    begin(SOCK_STREAM);
    say("POST / HTTP/1.1\r\n" HOST "Content-Length: 1048576\r\n\r\n");
    do {
        serve();
        ck_assert_ptr_nonnull(c);
        ck_assert_ptr_null(c->in.base);
        n = send_what_fits(body + sent, sizeof(body) - sent);
        sent += n;
    } while (n > 0);
    ck_assert_uint_eq(sent, sizeof(body));
    receive(REPLIES);
    expect_reply(413, NULL);
    expect_nothing_more();
    ck_assert(ended);
}
END_TEST

/* ---- 100 Continue ---- */

#define EXPECTING                                                                        \
    "POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"

START_TEST(continue_once)
{
    begin(SOCK_STREAM);
    exchange(EXPECTING);
    expect_reply(100, NULL);
    expect_nothing_more();
    exchange("he");
    exchange("ll");
    expect_nothing_more();
    exchange("o");
    expect_reply(200, "hello");
    expect_nothing_more();
    expect_idle();
}
END_TEST

START_TEST(continue_behind_another)
{
    begin(SOCK_STREAM);
    exchange(GET("/?x") EXPECTING);
    expect_reply(200, "x");
    expect_reply(100, NULL);
    exchange("hello" GET("/?y"));
    expect_reply(200, "hello");
    expect_reply(200, "y");
    expect_nothing_more();
}
END_TEST

START_TEST(continue_not_needed)
{
    begin(SOCK_STREAM);
    exchange(EXPECTING "hello" GET("/?y"));
    expect_reply(200, "hello");
    expect_reply(200, "y");
    expect_nothing_more();
}
END_TEST

/* ---- Deadlines: each wait ends when conn_timeout_ms() says, or fails in the end ---- */

/* Until the clock that deadlines are made of has moved on. */
static void pause_ms(int ms)
{
    int64_t end = clock_ms() + ms;

    while (clock_ms() < end)
        poll(NULL, 0, 1);
}

/* Sleep as a stage would, then ask. NULL: the time was not up yet. */
static struct conn *wait_for_expiry(void)
{
    int64_t give_up = clock_ms() + PATIENCE_MS;
    struct conn *e = NULL;

    while (e == NULL) {
        int ms = conn_timeout_ms();

        ck_assert_msg(ms >= 0, "nothing will ever expire");
        ck_assert_msg(clock_ms() < give_up, "nothing has expired");
        poll(NULL, 0, ms < PATIENCE_MS ? ms : PATIENCE_MS);
        e = conn_expired();
    }
    return e;
}

START_TEST(idle_connection_expires)
{
    opt.keepalive_ms = 50;
    begin(SOCK_STREAM);
    int ms = conn_timeout_ms();
    ck_assert_msg(0 <= ms && ms <= 51, "%d ms", ms);
    if (_i) { /* after a request, too */
        exchange(GET("/?x"));
        expect_reply(200, "x");
    }
    int64_t deadline = c->deadline;
    ck_assert_ptr_eq(wait_for_expiry(), c);
    ck_assert_int_ge(clock_ms(), deadline);
    step();
    ck_assert_int_eq(c->want, WANT_CLOSE);
    serve();
    exchange("");
    expect_nothing_more(); /* no 408: it had asked for nothing */
    expect_closed();
    ck_assert_uint_eq(stats_get(&stats->timeouts), 1);
}
END_TEST

START_TEST(the_older_expires_first)
{
    int peers[3];
    struct conn *conns[3];

    opt.keepalive_ms = 60;
    conn_setup(&opt, false);
    peer = -1;
    for (int i = 0; i < 3; i++) {
        conns[i] = open_pair(SOCK_STREAM, &peers[i]);
        if (i == 2)
            break;
        pause_ms(10);
    }
    /* The first asks something: now it is the youngest. */
    ck_assert_int_gt(send(peers[0], GET("/?x"), sizeof(GET("/?x")) - 1, 0), 0);
    pause_ms(10);
    conn_fill(conns[0]);
    ck_assert_int_ge(conns[0]->deadline, conns[2]->deadline);
    ck_assert_int_ge(conns[2]->deadline, conns[1]->deadline);
    static const int order[] = { 1, 2, 0 };
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(conn_count, 3 - i);
        ck_assert_ptr_eq(wait_for_expiry(), conns[order[i]]);
        conn_close(conns[order[i]]);
        close(peers[order[i]]);
    }
    ck_assert_ptr_null(conn_expired());
}
END_TEST

static const char *const dripping[] = {
    "GET /",
    "\r\n",
    "POST / HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n",
    "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nfff;",
    GET("/?x") "GET /",
};
enum { DRIPPING = sizeof(dripping) / sizeof(*dripping) };

/* From the request's first byte to its last, however busily it drips. In the second round
 * only conn_fill() looks at the clock: a blocking stage has no conn_expired(). */
START_TEST(dripping_request_expires)
{
    int which = _i % DRIPPING;
    bool asked = _i < DRIPPING;

    opt.request_timeout_ms = 60;
    begin(SOCK_STREAM);
    exchange(dripping[which]);
    int64_t deadline = c->deadline, give_up = clock_ms() + PATIENCE_MS;
    while (!c->lingering) {
        if (asked && conn_expired()) {
            step();
            break;
        }
        ck_assert_msg(clock_ms() < give_up, "nothing has expired");
        ck_assert_int_eq(c->deadline, deadline);
        say(which == 1 ? "\r\n" : "x");
        poll(NULL, 0, 1);
        serve();
        ck_assert_ptr_nonnull(c);
    }
    ck_assert(c->lingering);
    ck_assert_int_ge(clock_ms(), deadline);
    expect_idle();
    exchange("");
    if (which == 4)
        expect_reply(200, "x");
    struct reply r = next_reply();
    ck_assert_int_eq(r.status, 408);
    ck_assert(r.closes);
    expect_nothing_more();
    ck_assert(ended);
    ck_assert_uint_eq(stats_get(&stats->timeouts), 1);
}
END_TEST

START_TEST(unread_reply_expires)
{
    opt.request_timeout_ms = 50;
    begin(SOCK_STREAM);
    say(_i ? GET("/bytes?n=5000000") : GET("/copy?n=200000") GET("/copy?n=200000"));
    serve();
    ck_assert_int_eq(c->want, WANT_WRITE);
    ck_assert_ptr_eq(wait_for_expiry(), c);
    step();
    ck_assert_int_eq(c->want, WANT_CLOSE);
}
END_TEST

/* The process was held by another client's handler: the rest of the request, or the
 * reader's appetite, was there in time. */
START_TEST(what_came_in_time_counts)
{
    opt.request_timeout_ms = opt.keepalive_ms = 50;
    begin(SOCK_STREAM);
    if (_i == 1)
        exchange("GET /?x HT");
    say(_i == 0 ? GET("/?x") : "TP/1.1\r\n" HOST "\r\n");
    ck_assert_ptr_eq(wait_for_expiry(), c);
    step();
    exchange("");
    expect_reply(200, "x");
    expect_nothing_more();
    expect_idle();
    ck_assert_uint_eq(stats_get(&stats->timeouts), 0);
}
END_TEST

/* A reply that could not be sent in time can be now. */
START_TEST(a_reader_that_came_in_time_counts)
{
    opt.request_timeout_ms = 50;
    begin(SOCK_STREAM);
    say(GET("/bytes?n=5000000"));
    serve();
    receive(1000000);
    ck_assert_ptr_eq(wait_for_expiry(), c);
    opt.request_timeout_ms = 60000; /* whoever goes on now has all the time */
    conn_setup(&opt, false);
    step();
    ck_assert_int_eq(c->want, WANT_WRITE);
    exchange("");
    expect_letters(5000000);
    expect_idle();
}
END_TEST

/* Whatever a handler takes, the client has the whole time-out after the answer. */
START_TEST(idle_time_begins_after_the_handler)
{
    opt.keepalive_ms = 1000;
    begin(SOCK_STREAM);
    exchange(GET("/slow?x"));
    expect_reply(200, "x");
    ck_assert_int_ge(c->deadline, handler_ended + opt.keepalive_ms);
}
END_TEST

/* A reader that is slow but reads: the deadline moves with its progress. */
START_TEST(slow_reader_is_waited_for)
{
    int64_t last;

    opt.request_timeout_ms = 1000;
    begin(SOCK_STREAM);
    say(GET("/bytes?n=5000000"));
    serve();
    last = c->deadline;
    pause_ms(10);
    receive(500000);
    serve();
    ck_assert_int_eq(c->want, WANT_WRITE);
    ck_assert_int_gt(c->deadline, last);
    last = c->deadline;
    pause_ms(10);
    conn_drain(c); /* no progress */
    ck_assert_int_eq(c->deadline, last);
}
END_TEST

START_TEST(lingering_expires)
{
    begin(SOCK_STREAM);
    exchange("nonsense\r\n\r\n");
    expect_reply(400, NULL);
    ck_assert(c->lingering);
    int64_t deadline = c->deadline;
    exchange("more");
    ck_assert_int_eq(c->deadline, deadline);
    if (_i == 0) {
        ck_assert_ptr_eq(wait_for_expiry(), c);
    } else { /* nobody asks, and the peer goes on sending */
        pause_ms((int)(deadline - clock_ms()) + 1);
        say("more");
    }
    step();
    ck_assert_int_eq(c->want, WANT_CLOSE);
}
END_TEST

/* Who reads slowly what was said last is waited for as long as it reads. */
START_TEST(lingering_waits_for_a_reader)
{
    begin(SOCK_STREAM);
    say("GET /bytes?n=500000 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    while (!c->lingering) {
        step();
        if (!c->lingering)
            receive(100000);
    }
    for (int more = 0; more < 2; more++) { /* the second time nothing was taken */
        int64_t deadline = c->deadline;

        ck_assert_int_eq(c->want, WANT_READ);
        if (more == 0)
            receive(1000);
        ck_assert_ptr_eq(wait_for_expiry(), c);
        step();
        if (more == 0)
            ck_assert_int_gt(c->deadline, deadline);
    }
    ck_assert_int_eq(c->want, WANT_CLOSE);
}
END_TEST

static void nothing(int sig)
{
    (void)sig;
}

/* On a blocking socket the same deadlines, by SO_RCVTIMEO and SO_SNDTIMEO: conn_fill()
 * and conn_drain() return in time. */
START_TEST(blocking_socket_expires)
{
    static const struct {
        const char *start;
        int status; /* of what is received; 0: nothing is */
        enum conn_want then;
    } cases[] = {
        { "", 0, WANT_CLOSE },
        { "GET /", 408, WANT_READ },
        { GET("/bytes?n=5000000"), 200, WANT_WRITE },
    };
    const char *slow = getenv("TIME_SCALE"); /* valgrind: a signal takes its time, too */
    int scale = slow ? atoi(slow) : 1, i = _i % 3, fds[2];
    const struct itimerval often = { { 0, 10000 * scale }, { 0, 10000 * scale } };
    const struct sigaction no_restart = { .sa_handler = nothing };

    if (_i >= 3) { /* and signals interrupt more often than that */
        sigaction(SIGALRM, &no_restart, NULL);
        setitimer(ITIMER_REAL, &often, NULL);
    }
    opt.keepalive_ms = opt.request_timeout_ms = 50 * scale;
    conn_setup(&opt, true);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    peer = fds[1];
    c = conn_open(fds[0]);
    say(cases[i].start);
    int64_t give_up = clock_ms() + scale * PATIENCE_MS;
    for (int turn = 0; c->want != WANT_CLOSE; turn++) {
        ck_assert_int_lt(clock_ms(), give_up);
        if (turn == 0)
            ck_assert_int_eq(c->want, WANT_READ);
        if (c->want == WANT_READ)
            conn_fill(c);
        else
            conn_drain(c);
    }
    receive(REPLIES);
    if (cases[i].status)
        ck_assert_int_eq(atoi(received + strlen("HTTP/1.1 ")), cases[i].status);
    else
        ck_assert_uint_eq(received_len, 0);
}
END_TEST

/* Over TCP, blocking. */
static void begin_tcp(void)
{
    int fds[2];

    conn_setup(&opt, true);
    tcp_pair(fds, 0);
    c = conn_open(fds[0]);
    peer = fds[1];
}

/* Who takes nothing of a reply is ended when the time-out is over, and not after several:
 * a blocking send(2) that has sent a part says nothing about when that was. */
START_TEST(blocking_send_is_looked_at)
{
    int64_t began;

    opt.request_timeout_ms = 1500;
    begin_tcp();
    if (_i == 0)
        for (int i = 0; i < 100; i++) /* more than TCP takes */
            say(GET("/copy?n=200000"));
    else
        say(GET("/bytes?n=50000000"));
    began = clock_ms();
    while (c->want != WANT_CLOSE)
        step();
    ck_assert_int_ge(clock_ms() - began, opt.request_timeout_ms);
    ck_assert_int_lt(clock_ms() - began, 2 * opt.request_timeout_ms);
}
END_TEST

/* Reads until the end of the stream, or an error. */
static void *read_all(void *most)
{
    ssize_t n = 1;

    while (n > 0 && received_len < *(size_t *)most) {
        n = recv(peer, received + received_len, *(size_t *)most - received_len, 0);
        received_len += n > 0 ? (size_t)n : 0;
    }
    ended = n == 0;
    return NULL;
}

/* A send(2) that was looked at in vain says nothing about the next one: who begins to
 * read only then gets all there is. */
START_TEST(reader_comes_after_the_first_look)
{
    enum { COPIES = 100, COPY = 200000, PRODUCED = 50000000 }; /* more than TCP takes */
    static size_t most = PRODUCED + (1 << 20);
    pthread_t reader;

    free(received);
    received = malloc(most);
    ck_assert_ptr_nonnull(received);
    opt.request_timeout_ms = 2000;
    begin_tcp();
    for (int i = 0; _i == 0 && i < COPIES; i++)
        say(GET("/copy?n=200000"));
    say(_i == 0 ? "GET /?x HTTP/1.0\r\n\r\n" : "GET /bytes?n=50000000 HTTP/1.0\r\n\r\n");
    while (c->want != WANT_WRITE || !c->would_block)
        step();
    ck_assert(out_pending(&c->out));
    ck_assert_int_eq(pthread_create(&reader, NULL, read_all, &most), 0);
    while (c->want != WANT_CLOSE && !c->lingering)
        step();
    shutdown(c->fd, SHUT_WR); /* lingering, it was already */
    ck_assert_int_eq(pthread_join(reader, NULL), 0);
    for (int i = 0; _i == 0 && i < COPIES; i++)
        expect_letters(COPY);
    if (_i == 0)
        expect_reply(200, "x");
    else
        expect_letters(PRODUCED);
    expect_nothing_more();
    ck_assert(ended);
    ck_assert_uint_eq(stats_get(&stats->timeouts), 0);
}
END_TEST

/* ---- Stopping ---- */

START_TEST(stopping_closes_the_idle)
{
    begin(SOCK_STREAM);
    exchange(GET("/?x"));
    expect_reply(200, "x");
    stopping = STOP_SOON;
    ck_assert_int_eq(conn_timeout_ms(), 0);
    ck_assert_ptr_eq(conn_expired(), c);
    conn_fill(c); /* as conn.h has it: the right thing to do next */
    ck_assert_int_eq(c->want, WANT_CLOSE);
}
END_TEST

/* What came before the signal is answered, and the client told not to go on. */
START_TEST(stopping_answers_first)
{
    begin(SOCK_STREAM);
    exchange("GET /?x HT");
    stopping = STOP_SOON;
    exchange("TP/1.1\r\n" HOST "\r\n");
    struct reply r = next_reply();
    ck_assert_int_eq(r.status, 200);
    ck_assert(r.closes);
    expect_closed();
}
END_TEST

START_TEST(stopping_finds_the_request_that_is_there)
{
    begin(SOCK_STREAM);
    say(GET("/?x"));
    stopping = STOP_SOON;
    ck_assert_ptr_eq(conn_expired(), c);
    conn_fill(c);
    exchange("");
    struct reply r = next_reply();
    ck_assert_int_eq(r.status, 200);
    ck_assert(r.closes);
    expect_closed();
}
END_TEST

/* ---- Books ---- */

START_TEST(counters)
{
    begin(SOCK_STREAM);
    ck_assert_int_eq(conn_count, 1);
    ck_assert_int_eq(connected, 1);
    ck_assert_uint_eq(stats_get(&stats->accepted), 1);
    ck_assert_uint_eq(stats_get(&stats->connections), 1);
    exchange(GET("/?x") GET("/bytes?n=1000000") "nonsense\r\n\r\n");
    ck_assert_uint_eq(stats_get(&stats->requests), 2);
    ck_assert_uint_eq(stats_get(&stats->refused), 1);
    ck_assert_uint_eq(stats_get(&stats->timeouts), 0);
    ck_assert_uint_eq(stats_get(&stats->bytes_in),
                      strlen(GET("/?x") GET("/bytes?n=1000000") "nonsense\r\n\r\n"));
    ck_assert_uint_eq(stats_get(&stats->bytes_out), received_len);
    conn_close(c);
    c = NULL;
    ck_assert_int_eq(conn_count, 0);
    ck_assert_int_eq(closed, 1);
    ck_assert_uint_eq(stats_get(&stats->accepted), 1);
    ck_assert_uint_eq(stats_get(&stats->connections), 0);
}
END_TEST

/* Clients share the scratch buffers; their bytes must not mix. */
START_TEST(many_at_once)
{
    enum { CLIENTS = 50 };
    struct conn *conns[CLIENTS];
    int peers[CLIENTS];
    char text[64], reply[1024];

    conn_setup(&opt, false);
    peer = -1;
    for (int i = 0; i < CLIENTS; i++)
        conns[i] = open_pair(SOCK_STREAM, &peers[i]);
    ck_assert_int_eq(conn_count, CLIENTS);
    int len = 0;
    for (int at = 0; at == 0 || at < len; at++) /* a byte for each, in turn */
        for (int i = 0; i < CLIENTS; i++) {
            len = sprintf(text, GET("/?client-%02d"), i);
            ck_assert_int_eq(send(peers[i], text + at, 1, 0), 1);
            conn_fill(conns[i]);
            ck_assert_int_eq(conns[i]->want, WANT_READ);
        }
    for (int i = CLIENTS - 1; i >= 0; i--) {
        ssize_t n = recv(peers[i], reply, sizeof(reply) - 1, MSG_DONTWAIT);

        ck_assert_int_gt(n, 10);
        reply[n] = '\0';
        sprintf(text, "\r\n\r\nclient-%02d", i);
        ck_assert_msg(strstr(reply, text) != NULL, "client %d got %s", i, reply);
        ck_assert_ptr_null(conns[i]->in.base);
        conn_close(conns[i]);
        close(peers[i]);
        ck_assert_int_eq(conn_count, i);
    }
}
END_TEST

#define COUNT(table) ((int)(sizeof(table) / sizeof(*(table))))

int main(void)
{
    const struct {
        const char *name;
        const TTest *test;
        int times;
    } tests[] = {
        { "requests", struct_size, 1 },
        { "requests", one_request, 1 },
        { "requests", cut_anywhere, 1 },
        { "requests", byte_by_byte, 1 },
        { "requests", pipelined_requests_cost_one_send, 1 },
        { "requests", a_reply_costs_one_send, 1 },
        { "requests", head_has_no_body, 1 },
        { "output", pipelined_behind_a_long_reply, 2 * LENGTHS },
        { "output", pipelined_behind_a_long_reply_roomy, 1 },
        { "output", produced_body, 1 },
        { "output", backpressure, 3 },
        { "output", longest_echo, 1 },
        { "output", chunks_cost_no_more_than_their_data, 1 },
        { "ends", half_closed_peer_gets_its_answers, 1 },
        { "ends", peer_closes_idle_connection, 1 },
        { "ends", peer_closes_within_a_request, 1 },
        { "ends", reset_peer, 1 },
        { "ends", peer_gone_before_the_reply, 3 },
        { "ends", peer_gone_within_the_reply, 2 },
        { "ends", connection_close, COUNT(closings) },
        { "ends", connection_close_at_once, 1 },
        { "ends", connection_close_behind_a_long_body, 1 },
        { "ends", no_keep_alive, 1 },
        { "refused", refused, COUNT(refusals) },
        { "refused", refused_head_has_no_body, 1 },
        { "refused", refused_while_sending, 1 },
        { "continue", continue_once, 1 },
        { "continue", continue_behind_another, 1 },
        { "continue", continue_not_needed, 1 },
        { "deadlines", idle_connection_expires, 2 },
        { "deadlines", the_older_expires_first, 1 },
        { "deadlines", dripping_request_expires, 2 * DRIPPING },
        { "deadlines", unread_reply_expires, 2 },
        { "deadlines", what_came_in_time_counts, 2 },
        { "deadlines", a_reader_that_came_in_time_counts, 1 },
        { "deadlines", idle_time_begins_after_the_handler, 1 },
        { "deadlines", slow_reader_is_waited_for, 1 },
        { "deadlines", lingering_expires, 2 },
        { "deadlines", lingering_waits_for_a_reader, 1 },
        { "deadlines", blocking_socket_expires, 6 },
        { "deadlines", blocking_send_is_looked_at, 2 },
        { "deadlines", reader_comes_after_the_first_look, 2 },
        { "stopping", stopping_closes_the_idle, 1 },
        { "stopping", stopping_answers_first, 1 },
        { "stopping", stopping_finds_the_request_that_is_there, 1 },
        { "books", counters, 1 },
        { "books", many_at_once, 1 },
    };
    Suite *s = suite_create("conn");
    TCase *t = NULL;

    for (int i = 0; i < COUNT(tests); i++) {
        if (i == 0 || strcmp(tests[i].name, tests[i - 1].name) != 0) {
            t = tcase_create(tests[i].name);
            tcase_add_checked_fixture(t, set_up, tear_down);
            tcase_set_timeout(t, 60);
            suite_add_tcase(s, t);
        }
        tcase_add_loop_test(t, tests[i].test, 0, tests[i].times);
    }
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
