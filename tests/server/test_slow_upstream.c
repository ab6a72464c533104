/* test_slow_upstream.c - bench/slow_upstream does what it is asked, and misbehaves as it
 * says: seen on the wire, for tests of a proxy build on it.
 * Does not: test a proxy. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness/harness.h"

static const struct mode slow = { "slow", "bench/slow_upstream", "", 0, "loop", INT_MAX };
static struct server s;
static struct client c;
static struct response r;

static void start(void)
{
    server_start(&s, "");
}

static void stop(void)
{
    server_stop(&s);
}

/* ---- what the tests ask for ---- */

static const char *counts(void)
{
    fetch(&s, "GET", "/counts", &r, 200);
    return r.body;
}

static long long count(const char *key)
{
    return json_number(counts(), key);
}

/* How often this was asked. */
static long long asked(const char *method, const char *target)
{
    char line[512];
    const char *at;

    snprintf(line, sizeof line, "{\"method\":\"%s\",\"target\":\"%s\"", method, target);
    at = strstr(counts(), line);
    return at ? json_number(at, "requests") : 0;
}

static void get(const char *target)
{
    client_say(&c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);
}

/* The connection is as good as new. */
static void expect_next(void)
{
    get("/next?n=3");
    client_expect(&c, &r, 200);
    ck_assert_str_eq(r.body, "abc");
}

/* Receive until what came ends in `tail`, and forget it: the next bytes are new. */
static void expect_tail(const char *tail)
{
    size_t n = strlen(tail);
    int64_t end = clock_ms() + scaled_ms(PATIENCE_MS);

    while (c.len < n || memcmp(c.in + c.len - n, tail, n) != 0) {
        struct pollfd p = { c.fd, POLLIN, 0 };
        int64_t left = end - clock_ms();
        ssize_t got = -1;

        ck_assert_uint_lt(c.len, sizeof c.in - 1);
        if (left > 0 && poll(&p, 1, (int)left) == 1)
            got = recv(c.fd, c.in + c.len, sizeof c.in - 1 - c.len, 0);
        ck_assert_msg(got > 0, "no \"%s\" at the end of: %.*s", tail, (int)c.len, c.in);
        c.len += (size_t)got;
    }
    c.in[c.len] = '\0';
    c.len = 0;
}

static void expect_reset(void)
{
    struct pollfd p = { c.fd, POLLIN, 0 };

    ck_assert_int_eq(poll(&p, 1, scaled_ms(PATIENCE_MS)), 1);
    ck_assert_int_eq(recv(c.fd, c.in, 1, 0), -1);
    ck_assert_int_eq(errno, ECONNRESET);
}

/* ---- right answers ---- */

START_TEST(letters)
{
    uint64_t n = 1000000;

    fetch(&s, "GET", "/a/b?n=1000000", &r, 200);
    ck_assert_uint_eq(r.body_len, n);
    for (uint64_t i = 0; i < n; i++)
        ck_assert_int_eq(r.body[i], 'a' + (int)(i % 26));
    fetch(&s, "HEAD", "/?n=1000000", &r, 200);
    ck_assert_str_eq(response_field(&r, "Content-Length"), "1000000");
    fetch(&s, "GET", "/?n=0", &r, 200);
    ck_assert_uint_eq(r.body_len, 0);
    fetch(&s, "GET", "/?status=404", &r, 404);
    ck_assert_str_eq(r.body, "abcdefghijklmnopqrstuvwxyz");
    ck_assert_str_eq(response_field(&r, "ETag"), "\"letters-26\"");
}
END_TEST

START_TEST(frames)
{
    client_open(&c, &s);
    get("/?n=28&frame=chunked");
    expect_tail("\r\n\r\n1c\r\nabcdefghijklmnopqrstuvwxyzab\r\n0\r\n\r\n");
    ck_assert(strstr(c.in, "Transfer-Encoding: chunked\r\n"));
    ck_assert(strstr(c.in, "Content-Length") == NULL);
    get("/?n=0&frame=chunked");
    expect_tail("\r\n\r\n0\r\n\r\n");
    client_say(&c, "POST /?frame=chunked HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi");
    expect_tail("\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    get("/?status=204");
    expect_tail("\r\n\r\n");
    ck_assert(strstr(c.in, "Content-Length") == NULL);
    expect_next();
    get("/?n=5&frame=close");
    expect_tail("Connection: close\r\n\r\nabcde");
    ck_assert(strstr(c.in, "Content-Length") == NULL);
    client_expect_end(&c, PATIENCE_MS);
    client_close(&c);
}
END_TEST

START_TEST(echoes)
{
    static char large[300000];

    client_open(&c, &s);
    memset(large, 'x', sizeof large);
    client_say(&c, "POST /echo HTTP/1.1\r\nContent-Length: %zu\r\n\r\n", sizeof large);
    client_send(&c, large, sizeof large);
    client_expect(&c, &r, 200);
    ck_assert_uint_eq(r.body_len, sizeof large);
    ck_assert_int_eq(memcmp(r.body, large, sizeof large), 0);
    client_say(&c, "PUT /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "3;why=not\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n");
    client_expect(&c, &r, 200);
    ck_assert_str_eq(r.body, "abcde");
    client_say(&c, "POST /?n=4 HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyz");
    client_expect(&c, &r, 200);
    ck_assert_str_eq(r.body, "abcd");
    client_say(&c,
               "POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    client_expect(&c, &r, 100);
    client_send(&c, "ok", 2);
    client_expect(&c, &r, 200);
    ck_assert_str_eq(r.body, "ok");
    client_close(&c);
}
END_TEST

START_TEST(shows)
{
    const char *head = "POST /p?show=1&x=%20 HTTP/1.1\r\nHost: y\r\nVia: 1.1 z\r\n"
                       "Content-Length: 2\r\n\r\n";

    client_open(&c, &s);
    client_say(&c, "%shi", head);
    client_expect(&c, &r, 200);
    ck_assert_str_eq(r.body, head);
    client_say(&c, "POST /p?show=fields&hop=1 HTTP/1.1\r\nHost: y\r\nVia: 1.1 z\r\n"
                   "Content-Length: 2\r\n\r\nhi");
    client_expect(&c, &r, 200);
    ck_assert_str_eq(r.body, "hi");
    ck_assert_str_eq(response_field(&r, "Asked"), "POST /p?show=fields&hop=1 HTTP/1.1");
    ck_assert_str_eq(response_field(&r, "Asked-Host"), "y");
    ck_assert_str_eq(response_field(&r, "Asked-Via"), "1.1 z");
    ck_assert_str_eq(response_field(&r, "Connection"), "keep-alive, X-Hop");
    ck_assert_ptr_nonnull(response_field(&r, "X-Hop"));
    client_close(&c);
}
END_TEST

/* However a request is cut; and whatever comes behind it. */
START_TEST(pieces)
{
    const char *text = "POST /pieces HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                       "a\r\n0123456789\r\n1\r\n!\r\n0\r\n\r\n";

    client_open(&c, &s);
    for (const char *byte = text; *byte; byte++) {
        client_send(&c, byte, 1);
        client_settle(&c);
    }
    client_expect(&c, &r, 200);
    ck_assert_str_eq(r.body, "0123456789!");
    for (int i = 0; i < 100; i++)
        client_say(&c, "GET /pipelined?n=%d&ms=%d HTTP/1.1\r\n\r\n", i, i % 2);
    for (int i = 0; i < 100; i++) {
        client_expect(&c, &r, 200);
        ck_assert_uint_eq(r.body_len, (unsigned)i);
    }
    client_close(&c);
}
END_TEST

static const struct {
    const char *request;
    int status;
    const char *says;
} refusals[] = {
    { "GET /?n=x HTTP/1.1\r\n\r\n", 400, "n is not a number" },
    { "GET /?ms=600001 HTTP/1.1\r\n\r\n", 400, "ms is not a number" },
    { "GET /?frame=x HTTP/1.1\r\n\r\n", 400, "frame=x is unknown" },
    { "GET /?fault=x HTTP/1.1\r\n\r\n", 400, "fault=x is unknown" },
    { "nonsense\r\n\r\n", 400, "no request line" },
    { "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400, "Content-Length" },
    { "POST / HTTP/1.1\r\nContent-Length: 8388609\r\n\r\n", 413, "too long" },
    { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n800001\r\n", 413,
      "too long" },
    { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400, "no number" },
};

START_TEST(refuses)
{
    client_open(&c, &s);
    client_say(&c, "%s", refusals[_i].request);
    client_expect(&c, &r, refusals[_i].status);
    ck_assert_msg(strstr(r.body, refusals[_i].says), "%s", r.body);
    if (r.keep_alive)
        expect_next();
    else
        client_expect_close(&c, PATIENCE_MS);
    client_close(&c);
}
END_TEST

START_TEST(refuses_endless_head)
{
    static char head[70000];

    memset(head, 'x', sizeof head);
    client_open(&c, &s);
    client_offer(&c, head, sizeof head);
    client_expect(&c, &r, 431);
    client_close(&c);
}
END_TEST

/* ---- faults ---- */

enum end { OPEN, CLOSED, RESET, SILENCE };

static const struct {
    const char *method, *query; /* besides n=10 */
    const char *head;           /* something that came */
    const char *tail;           /* the last that came; "": nothing did */
    enum end end;
} faults[] = {
    { "GET", "fault=never", "", "", SILENCE },
    { "GET", "fault=close", "", "", CLOSED },
    { "GET", "fault=reset", "", "", RESET },
    { "GET", "fault=drip&gap=0", "Content-Length: 10\r\n", "\r\n\r\nabcdefghij", OPEN },
    { "GET", "fault=drip&gap=60000", "H", "H", SILENCE },
    { "GET", "fault=http10", "HTTP/1.0 200 OK\r\n", "close\r\n\r\nabcdefghij", CLOSED },
    { "GET", "fault=http10&frame=close", "HTTP/1.0 200 OK\r\n", "\r\n\r\nabcdefghij",
      CLOSED },
    { "GET", "fault=interim",
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
      "Link: </style>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\n",
      "\r\n\r\nabcdefghij", OPEN },
    { "GET", "fault=upgrade", "HTTP/1.1 101 ", "Upgrade: nonsense\r\n\r\n", SILENCE },
    { "GET", "fault=garbage", "", "\x16\x03\x01 is no status line\r\n\r\n", SILENCE },
    { "GET", "fault=half-head", "HTTP/1.1 200 OK\r\n", "\r\nContent-Le", SILENCE },
    { "GET", "fault=half-head-close", "HTTP/1.1 200 OK\r\n", "\r\nContent-Le", CLOSED },
    { "GET", "fault=two-lengths", "Content-Length: 17\r\nContent-Length: 10\r\n",
      "\r\n\r\nabcdefghij", OPEN },
    { "GET", "fault=both-frames", "Content-Length: 10\r\nTransfer-Encoding: chunked\r\n",
      "\r\n\r\na\r\nabcdefghij\r\n0\r\n\r\n", OPEN },
    { "GET", "fault=short", "Content-Length: 10\r\n", "\r\n\r\nabcde", CLOSED },
    { "POST", "fault=short&show=fields", "Asked: POST ", "\r\n\r\nabcde", CLOSED },
    { "GET", "fault=short&frame=chunked", "chunked\r\n", "\r\n\r\na\r\nabcde", CLOSED },
    { "GET", "fault=stall", "Content-Length: 10\r\n", "\r\n\r\nabcde", SILENCE },
    { "GET", "fault=reset-body", "Content-Length: 10\r\n", "\r\n\r\nabcde", RESET },
    { "GET", "fault=long", "Content-Length: 10\r\n", "\r\n\r\nabcdefghijklmnopq", OPEN },
    { "GET", "fault=forbidden-body", " 204 ", "\r\n\r\nabcdefghij", OPEN },
    { "GET", "fault=forbidden-body&status=304", " 304 ", "\r\n\r\nabcdefghij", OPEN },
    { "HEAD", "fault=forbidden-body", "Content-Length: 10\r\n", "\r\n\r\nabcdefghij",
      OPEN },
    { "GET", "fault=chunk-size", "chunked\r\n", "\r\nxyz\r\nfghij\r\n0\r\n\r\n", OPEN },
    { "GET", "fault=chunk-huge", "chunked\r\n",
      "\r\n10000000000000005\r\nfghij\r\n0\r\n\r\n", OPEN },
    { "GET", "fault=chunk-end", "chunked\r\n", "\r\nabcde5\r\nfghij\r\n0\r\n\r\n", OPEN },
    { "GET", "fault=chunk-cut", "chunked\r\n", "\r\n5\r\nabcde\r\n5\r\nfg", CLOSED },
    { "GET", "fault=chunk-last", "chunked\r\n", "\r\n5\r\nfghij\r\n", CLOSED },
    { "GET", "fault=close-after", "Content-Length: 10\r\n", "\r\n\r\nabcdefghij",
      CLOSED },
    { "GET", "fault=speak", "Content-Length: 10\r\n",
      "\r\n\r\nabcdefghij"
      "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nunasked",
      OPEN },
};
enum { FAULTS = sizeof faults / sizeof faults[0] };

static void expect_fault_end(enum end end)
{
    if (end == OPEN)
        expect_next();
    else if (end == CLOSED)
        client_expect_end(&c, PATIENCE_MS);
    else if (end == RESET)
        expect_reset();
    else
        client_expect_silence(&c, 100);
}

START_TEST(misbehaves)
{
    char target[128];

    snprintf(target, sizeof target, "/fault?n=10&%s", faults[_i].query);
    client_open(&c, &s);
    client_say(&c, "%s %s HTTP/1.1\r\n\r\n", faults[_i].method, target);
    if (*faults[_i].tail)
        expect_tail(faults[_i].tail);
    ck_assert_msg(strstr(c.in, faults[_i].head), "no \"%s\" in: %s", faults[_i].head,
                  c.in);
    expect_fault_end(faults[_i].end);
    client_close(&c);
    ck_assert_int_eq(asked(faults[_i].method, target), 1);
    eventually(count("open") == 0, PATIENCE_MS);
    ck_assert_int_eq(count("waiting"), 0);
}
END_TEST

/* Receive n bytes, whatever they are; returns how many of them are `byte`. */
static int receive_all(size_t n, char byte)
{
    int64_t end = clock_ms() + scaled_ms(PATIENCE_MS);
    int found = 0;

    while (n > 0) {
        struct pollfd p = { c.fd, POLLIN, 0 };
        ssize_t got = -1;

        if (clock_ms() < end && poll(&p, 1, scaled_ms(PATIENCE_MS)) == 1)
            got = recv(c.fd, c.in, n < sizeof c.in ? n : sizeof c.in, 0);
        ck_assert_msg(got > 0, "%zu bytes did not come", n);
        for (ssize_t i = 0; i < got; i++)
            found += c.in[i] == byte;
        n -= (size_t)got;
    }
    return found;
}

START_TEST(sends_too_much)
{
    static const char hint[] = "HTTP/1.1 103 Early Hints\r\n"
                               "Link: </style>; rel=preload\r\n\r\n";

    client_open(&c, &s);
    get("/?fault=interim-flood&n=10");
    ck_assert_int_eq(receive_all(10000 * (sizeof hint - 1), '<'), 10000);
    client_expect(&c, &r, 200);
    ck_assert_str_eq(r.body, "abcdefghij");
    get("/?fault=huge-head&n=0");
    ck_assert_int_ge(receive_all(900000, '\r'), 15000);
    expect_tail("Content-Length: 0\r\n\r\n");
    get("/?fault=endless");
    ck_assert_int_ge(receive_all(20 << 20, 'z'), (20 << 20) / 27);
    client_close(&c);
    client_open(&c, &s);
    get("/?fault=endless&frame=chunked");
    receive_all(1 << 20, 'z');
    client_close(&c);
    eventually(count("left") == 2, PATIENCE_MS);
}
END_TEST

/* The next request on the connection finds it closed. That it was asked is counted. */
static void check_idle(const char *fault, bool reset)
{
    char target[64], next[64];

    snprintf(target, sizeof target, "/idle?fault=%s", fault);
    snprintf(next, sizeof next, "/next/%s", fault);
    client_open(&c, &s);
    get(target);
    client_expect(&c, &r, 200);
    ck_assert_msg(r.keep_alive, "it warns: %s", r.head);
    client_expect_silence(&c, 50);
    get(next);
    if (reset)
        expect_reset();
    else
        client_expect_end(&c, PATIENCE_MS);
    client_close(&c);
    ck_assert_int_eq(asked("GET", target), 1);
    ck_assert_int_eq(asked("GET", next), 1);
}

START_TEST(closes_idle_connections)
{
    check_idle("close-idle", false);
    check_idle("reset-idle", true);
    client_open(&c, &s);
    client_say(&c,
               "GET /?fault=close-after HTTP/1.1\r\n\r\nGET /behind HTTP/1.1\r\n\r\n");
    client_expect(&c, &r, 200);
    client_expect_end(&c, PATIENCE_MS);
    client_close(&c);
    ck_assert_int_eq(asked("GET", "/behind"), 1);
}
END_TEST

START_TEST(answers_early)
{
    client_open(&c, &s);
    client_say(&c, "POST /?fault=early HTTP/1.1\r\nContent-Length: 5\r\n\r\n");
    client_expect(&c, &r, 200);
    ck_assert_str_eq(r.body, "abcdefghijklmnopqrstuvwxyz");
    client_send(&c, "12345", 5);
    expect_next();
    client_say(&c, "POST /?fault=early&ms=1 HTTP/1.1\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n");
    client_expect(&c, &r, 200);
    client_send(&c, "1\r\nx\r\n0\r\n\r\n", 11);
    expect_next();
    client_say(&c, "POST /?fault=early HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    client_expect(&c, &r, 200);
    client_send(&c, "x\r\n", 3);
    client_expect_end(&c, PATIENCE_MS);
    client_close(&c);
    client_open(&c, &s);
    client_say(&c, "POST /?fault=early-close HTTP/1.1\r\nContent-Length: 5\r\n\r\n");
    client_expect(&c, &r, 200);
    client_expect_end(&c, PATIENCE_MS);
    client_close(&c);
}
END_TEST

/* ---- counts ---- */

START_TEST(counts_requests)
{
    for (int i = 0; i < 3; i++)
        fetch(&s, "GET", "/a?x=1", &r, 200);
    fetch(&s, "HEAD", "/a?x=1", &r, 200);
    fetch(&s, "GET", "/\"\\", &r, 200);
    ck_assert_int_eq(asked("GET", "/a?x=1"), 3);
    ck_assert_int_eq(asked("HEAD", "/a?x=1"), 1);
    ck_assert_int_eq(asked("GET", "/\\\"\\\\"), 1);
    ck_assert_int_eq(asked("GET", "/a"), 0);
    ck_assert_int_eq(count("requests"), 5);
    ck_assert_int_eq(count("accepted"), 5);
    ck_assert_int_eq(count("open"), 0);
    fetch(&s, "GET", "/counts/reset", &r, 405);
    ck_assert_int_eq(asked("GET", "/a?x=1"), 3);
    fetch(&s, "POST", "/counts/reset", &r, 200);
    ck_assert_int_eq(asked("GET", "/a?x=1"), 0);
    ck_assert_int_eq(count("requests"), 0);
    ck_assert_int_eq(count("accepted"), 0);
}
END_TEST

START_TEST(counts_targets_up_to_a_limit)
{
    client_open(&c, &s);
    for (int i = 0; i < 600; i++) {
        client_say(&c, "GET /%d?n=0 HTTP/1.1\r\n\r\n", i);
        client_expect(&c, &r, 200);
    }
    client_close(&c);
    ck_assert_int_eq(asked("GET", "/511?n=0"), 1);
    ck_assert_int_eq(asked("GET", "/512?n=0"), 0);
    ck_assert_int_eq(count("other_targets"), 600 - 512);
    ck_assert_int_eq(count("requests"), 600);
}
END_TEST

START_TEST(counts_who_goes)
{
    client_open(&c, &s);
    client_say(&c, "GET /half HTTP/1.1\r\nHo");
    client_settle(&c);
    client_close(&c);
    eventually(count("partial") == 1, PATIENCE_MS);
    for (int i = 0; i < 2; i++) {
        client_open(&c, &s);
        get("/?fault=never");
        eventually(count("waiting") == 1, PATIENCE_MS);
        if (i == 0)
            client_close(&c);
        else
            client_reset(&c);
        eventually(count("left") == i + 1, PATIENCE_MS);
        ck_assert_int_eq(count("waiting"), 0);
    }
    client_open(&c, &s);
    get("/?ms=60000");
    eventually(count("waiting") == 1, PATIENCE_MS);
    client_expect_silence(&c, 50);
    client_close(&c);
    eventually(count("left") == 3, PATIENCE_MS);
}
END_TEST

/* ---- many ---- */

enum { MANY = 2000, MANY_MS = 2000 };

START_TEST(many_wait)
{
    static int fds[MANY];

    for (int i = 0; i < MANY; i++) {
        client_open(&c, &s);
        client_say(&c, "GET /many?ms=%d&n=%d HTTP/1.1\r\n\r\n", scaled_ms(MANY_MS), i);
        fds[i] = c.fd;
    }
    eventually(count("waiting") == MANY, PATIENCE_MS);
    for (int i = 0; i < MANY; i++) {
        c.fd = fds[i];
        client_expect(&c, &r, 200);
        ck_assert_uint_eq(r.body_len, (unsigned)i);
    }
    ck_assert_int_eq(count("waiting"), 0);
    ck_assert_int_eq(count("most_waiting"), MANY);
    ck_assert_int_eq(count("open"), MANY);
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    eventually(count("open") == 0, PATIENCE_MS);
}
END_TEST

/* ---- options ---- */

START_TEST(never_accepts)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct pollfd p = { -1, POLLOUT, 0 };

    server_start(&s, "--no-accept");
    to.sin_port = htons((uint16_t)s.port);
    p.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(p.fd, (struct sockaddr *)&to, sizeof to), -1);
    ck_assert_int_eq(errno, EINPROGRESS);
    ck_assert_msg(poll(&p, 1, 300) == 0, "it connected, or was refused");
    close(p.fd);
    server_stop(&s);
}
END_TEST

START_TEST(never_speaks)
{
    server_start(&s, "--silent");
    client_open(&c, &s);
    get("/");
    client_settle(&c);
    client_expect_silence(&c, 100);
    client_close(&c);
    server_stop(&s);
}
END_TEST

/* With 64 descriptors there are 32 connections. The next client waits for one to go. */
START_TEST(no_more_connections_than_it_may)
{
    int fds[32];

    if (harness_wrapped()) {
        skip("valgrind takes descriptors, too");
        return;
    }
    server_start_limited(&s, "", 64);
    for (int i = 0; i < 32; i++) {
        client_open(&c, &s);
        expect_next();
        fds[i] = c.fd;
    }
    client_open(&c, &s);
    get("/next?n=3");
    client_expect_silence(&c, 100);
    close(fds[7]);
    client_expect(&c, &r, 200);
    client_close(&c);
    for (int i = 0; i < 32; i++)
        if (i != 7)
            close(fds[i]);
    server_stop(&s);
}
END_TEST

static void expect_run(const char *args, int status, const char *says)
{
    static struct outcome o;

    server_run(&o, args);
    ck_assert_int_eq(o.status, status);
    ck_assert_msg(strstr(o.out, says) || strstr(o.err, says), "%s%s", o.out, o.err);
}

START_TEST(options)
{
    char taken[32];

    expect_run("--help", 0, "fault=NAME");
    expect_run("--help", 0, "close-idle");
    expect_run("--port x", 2, "'x' is not a number");
    expect_run("--nonsense", 2, "unknown");
    expect_run("nonsense", 2, "not an option");
    server_start(&s, "");
    snprintf(taken, sizeof taken, "--port %d", s.port);
    expect_run(taken, 1, "take another with --port");
    server_stop(&s);
}
END_TEST

/* All wait, all is sent, nothing leaks: SIGTERM ends it in any state. */
START_TEST(ends_in_any_state)
{
    server_start(&s, "");
    for (int i = 0; i < FAULTS; i++) {
        char target[128];

        snprintf(target, sizeof target, "/?n=10&%s", faults[i].query);
        client_open(&c, &s);
        get(target);
        client_open(&c, &s);
        client_say(&c, "POST /?show=fields&ms=%d HTTP/1.1\r\nContent-Length: 9\r\n\r\n12",
                   i);
    }
    eventually(count("requests") == 2 * FAULTS, PATIENCE_MS);
    server_stop(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("slow_upstream");
    TCase *served = tcase_create("served"), *alone = tcase_create("alone");
    SRunner *runner = srunner_create(suite);
    struct rlimit limit;
    int failed;

    mode = &slow;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    tcase_set_timeout(served, scaled_ms(20));
    tcase_set_timeout(alone, scaled_ms(20));
    tcase_add_checked_fixture(served, start, stop);
    tcase_add_test(served, letters);
    tcase_add_test(served, frames);
    tcase_add_test(served, echoes);
    tcase_add_test(served, shows);
    tcase_add_test(served, pieces);
    tcase_add_loop_test(served, refuses, 0, sizeof refusals / sizeof refusals[0]);
    tcase_add_test(served, refuses_endless_head);
    tcase_add_loop_test(served, misbehaves, 0, FAULTS);
    tcase_add_test(served, sends_too_much);
    tcase_add_test(served, closes_idle_connections);
    tcase_add_test(served, answers_early);
    tcase_add_test(served, counts_requests);
    tcase_add_test(served, counts_targets_up_to_a_limit);
    tcase_add_test(served, counts_who_goes);
    tcase_add_test(served, many_wait);
    tcase_add_test(alone, never_accepts);
    tcase_add_test(alone, never_speaks);
    tcase_add_test(alone, no_more_connections_than_it_may);
    tcase_add_test(alone, options);
    tcase_add_test(alone, ends_in_any_state);
    suite_add_tcase(suite, served);
    suite_add_tcase(suite, alone);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
