/* test_upstream.c - /upstream in every stage: what a client sees when an upstream answers
 * rightly, or misbehaves, and how often the upstream is asked.
 * Does not: look into the client; test_client.c does.
 *
 * The upstream is bench/slow_upstream, whose counts tell a retry. What a client sees is
 * read by somebody else's parser, http_parser. */
#include <errno.h>
#include <fcntl.h>
#include <http_parser.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness/harness.h"

enum { KEPT = 1 << 20, TARGET = 400 };

static const struct mode upstream_mode = { "slow", "bench/slow_upstream", "", 0, "loop",
                                           INT_MAX };
static struct server upstream; /* of all tests of a mode */
static struct server s;        /* of one test: no idle connection is left of another's */
static struct client c;

/* ---- servers ---- */

static void upstream_start(struct server *u, const char *args)
{
    const struct mode *stage = mode;

    mode = &upstream_mode;
    server_start(u, args);
    mode = stage;
}

static void start_upstream(void)
{
    upstream_start(&upstream, "");
}

static void stop_upstream(void)
{
    const char *problem = server_end(&upstream);

    if (problem)
        harness_complain(problem);
}

/* A stage before this port. */
static void start_before(int port, const char *args)
{
    char words[256];

    snprintf(words, sizeof words, "--upstream 127.0.0.1:%d --reply-timeout %d %s", port,
             (scaled_ms(1000) + 999) / 1000, args);
    server_start(&s, words);
}

static void start(void)
{
    start_before(upstream.port, "");
}

static void stop(void)
{
    server_stop(&s);
}

/* How often the upstream was asked this. */
static long long asked(const char *method, const char *target)
{
    struct response r;
    char line[512];
    const char *at;

    fetch(&upstream, "GET", "/counts", &r, 200);
    snprintf(line, sizeof line, "{\"method\":\"%s\",\"target\":\"%s\"", method, target);
    at = strstr(r.body, line);
    return at ? json_number(at, "requests") : 0;
}

static long long count(const char *key)
{
    struct response r;

    fetch(&upstream, "GET", "/counts", &r, 200);
    return json_number(r.body, key);
}

/* A target that nobody else asks for. */
static const char *unique(const char *query)
{
    static char target[TARGET];
    static int number;

    snprintf(target, sizeof target, "/upstream?%s%sid=%d-%d", query, *query ? "&" : "",
             (int)getpid(), ++number);
    return target;
}

/* ---- an answer, as somebody else reads it ---- */

enum end {
    WHOLE,   /* it is complete */
    CUT,     /* the connection ended before, in FIN or reset */
    RESET,   /* the same, in a reset: nothing else tells that it is not whole */
    NOTHING, /* patience ended */
};

struct seen {
    enum end end;
    int status;
    bool keep_alive, head; /* head: the answer to HEAD */
    bool complete;
    uint64_t body_len;
    size_t kept;
    char body[KEPT + 1]; /* as much of it as fits, terminated */
    char raw[20000];     /* what came first, terminated */
    size_t raw_len;
};
static struct seen seen;

static int on_headers_complete(http_parser *p)
{
    seen.status = (int)p->status_code;
    return seen.head ? 1 : 0; /* 1: no body follows */
}

static int on_body(http_parser *p, const char *at, size_t n)
{
    size_t kept = n < KEPT - seen.kept ? n : KEPT - seen.kept;

    (void)p;
    memcpy(seen.body + seen.kept, at, kept);
    seen.kept += kept;
    seen.body_len += n;
    return 0;
}

static int on_message_complete(http_parser *p)
{
    seen.complete = true;
    seen.keep_alive = http_should_keep_alive(p);
    http_parser_pause(p, 1); /* what is behind it belongs to the next one */
    return 0;
}

/* More bytes into c.in. As recv(2); -2: patience ended. */
static ssize_t receive(int64_t end)
{
    struct pollfd p = { c.fd, POLLIN, 0 };
    int64_t left = end - clock_ms();

    if (poll(&p, 1, left > 0 ? (int)left : 0) != 1)
        return -2;
    return recv(c.fd, c.in + c.len, sizeof c.in - c.len, 0);
}

static void remember(const char *bytes, size_t n)
{
    size_t room = sizeof seen.raw - 1 - seen.raw_len;

    n = n < room ? n : room;
    memcpy(seen.raw + seen.raw_len, bytes, n);
    seen.raw_len += n;
    seen.raw[seen.raw_len] = '\0';
}

/* For a complaint: what came, cut. */
static const char *shown(void)
{
    static char text[3000];

    snprintf(text, sizeof text, "%.2000s%.500s", seen.raw, seen.body);
    return text;
}

/* Give the parser what is in c.in. */
static void parse(http_parser *p, const http_parser_settings *settings)
{
    size_t used = http_parser_execute(p, settings, c.in, c.len);

    ck_assert_msg(seen.complete || HTTP_PARSER_ERRNO(p) == HPE_OK, "%s: %.500s",
                  http_errno_description(HTTP_PARSER_ERRNO(p)), seen.raw);
    remember(c.in, used);
    c.len -= used;
    memmove(c.in, c.in + used, c.len);
}

/* Read one answer, or what comes of it. */
static void see(const char *method)
{
    static const http_parser_settings settings = {
        .on_headers_complete = on_headers_complete,
        .on_body = on_body,
        .on_message_complete = on_message_complete,
    };
    int64_t end = clock_ms() + scaled_ms(2 * PATIENCE_MS);
    http_parser p;
    ssize_t n = 1;

    memset(&seen, 0, sizeof seen);
    seen.head = strcmp(method, "HEAD") == 0;
    http_parser_init(&p, HTTP_RESPONSE);
    while (n > 0 && !seen.complete) {
        parse(&p, &settings);
        if (seen.complete)
            break;
        n = receive(end);
        if (n > 0)
            c.len += (size_t)n;
    }
    if (n == 0 && !seen.complete)
        http_parser_execute(&p, &settings, NULL, 0);
    seen.body[seen.kept] = '\0';
    seen.end = seen.complete ? WHOLE : n == 0 ? CUT : n == -1 ? RESET : NOTHING;
}

static void ask(const char *method, const char *target, int minor)
{
    bool post = strcmp(method, "POST") == 0;

    client_say(&c, "%s %s HTTP/1.%d\r\nHost: x\r\n%s\r\n%s", method, target, minor,
               post ? "Content-Length: 10\r\n" : "", post ? "0123456789" : "");
    see(method);
}

/* The connection to the stage goes on as if nothing had been. */
static void expect_next(void)
{
    ask("GET", unique("n=3"), 1);
    ck_assert_msg(seen.end == WHOLE && seen.status == 200, "next: %s", shown());
    ck_assert_str_eq(seen.body, "abc");
}

static void expect_end(void)
{
    ck_assert_msg(c.len == 0 && receive(clock_ms() + scaled_ms(PATIENCE_MS)) <= 0 &&
                      c.len == 0,
                  "the connection goes on");
}

static const char *field(const char *name)
{
    static struct response r;

    snprintf(r.head, sizeof r.head, "%s", seen.raw);
    return response_field(&r, name);
}

/* ---- the failure matrix ---- */

/* Which modes try it: two, that sleep in recv(2) and in epoll_wait(2); or all. */
enum where { TWO, ALL };

static const struct {
    const char *query, *method;
    int minor; /* of the client */
    bool warm; /* there is an idle connection to the upstream */
    int status;
    enum end end;
    const char *body; /* or its beginning, or "": any */
    int asked;        /* how often the upstream was */
    enum where where;
} matrix[] = {
    { "", "GET", 1, false, 200, WHOLE, "abcdefghijklmnopqrstuvwxyz", 1, ALL },
    { "", "HEAD", 1, false, 200, WHOLE, "", 1, ALL },
    { "", "POST", 1, false, 200, WHOLE, "0123456789", 1, ALL },
    { "", "GET", 1, true, 200, WHOLE, "abcdefghijklmnopqrstuvwxyz", 1, TWO },
    { "frame=chunked", "GET", 1, false, 200, WHOLE, "abcdefghijklmnopqrstuvwxyz", 1,
      ALL },
    { "frame=chunked", "HEAD", 1, false, 200, WHOLE, "", 1, TWO },
    { "frame=chunked", "GET", 0, false, 200, WHOLE, "abcdefghijklmnopqrstuvwxyz", 1,
      ALL },
    { "frame=close", "GET", 1, false, 200, WHOLE, "abcdefghijklmnopqrstuvwxyz", 1, ALL },
    { "frame=close", "POST", 0, false, 200, WHOLE, "0123456789", 1, TWO },
    { "n=0&frame=chunked", "GET", 1, false, 200, WHOLE, "", 1, TWO },
    { "n=0&frame=close", "GET", 1, false, 200, WHOLE, "", 1, TWO },
    { "status=404&hop=1", "GET", 1, false, 404, WHOLE, "abc", 1, TWO },
    { "status=599", "GET", 1, false, 599, WHOLE, "abc", 1, TWO },
    { "status=304", "GET", 1, true, 304, WHOLE, "", 1, TWO },
    { "status=204", "POST", 1, true, 204, WHOLE, "", 1, TWO },
    { "ms=100", "GET", 1, false, 200, WHOLE, "abc", 1, TWO },

    { "fault=never", "GET", 1, false, 504, WHOLE, "504 Gateway Timeout: ", 1, ALL },
    { "fault=never", "HEAD", 1, false, 504, WHOLE, "", 1, TWO },
    { "fault=never", "POST", 1, true, 504, WHOLE, "504 ", 1, TWO },
    { "fault=never", "GET", 1, true, 504, WHOLE, "504 ", 1, TWO },
    { "fault=close", "GET", 1, false, 502, WHOLE, "502 Bad Gateway: ", 1, ALL },
    { "fault=close", "POST", 1, false, 502, WHOLE, "502 ", 1, TWO },
    { "fault=close", "GET", 1, true, 502, WHOLE, "502 ", 2, ALL },
    { "fault=close", "HEAD", 1, true, 502, WHOLE, "", 2, TWO },
    { "fault=close", "POST", 1, true, 502, WHOLE, "502 ", 1, ALL },
    { "fault=reset", "GET", 1, false, 502, WHOLE, "502 ", 1, TWO },
    { "fault=reset", "GET", 1, true, 502, WHOLE, "502 ", 2, ALL },
    { "fault=reset", "HEAD", 1, true, 502, WHOLE, "", 2, TWO },
    { "fault=reset", "POST", 1, true, 502, WHOLE, "502 ", 1, TWO },
    { "fault=drip&gap=0&n=10", "GET", 1, false, 200, WHOLE, "abcdefghij", 1, TWO },
    { "fault=drip&gap=0&n=10&frame=chunked", "GET", 1, false, 200, WHOLE, "abcdefghij", 1,
      ALL },
    { "fault=drip&gap=60000", "GET", 1, true, 504, WHOLE, "504 ", 1, TWO },
    { "fault=http10", "GET", 1, false, 200, WHOLE, "abc", 1, TWO },
    { "fault=http10&frame=close", "GET", 1, false, 200, WHOLE, "abc", 1, TWO },
    { "fault=interim", "GET", 1, false, 200, WHOLE, "abc", 1, ALL },
    { "fault=interim", "HEAD", 0, false, 200, WHOLE, "", 1, TWO },
    { "fault=interim-flood", "GET", 1, true, 502, WHOLE, "502 ", 1, TWO },
    { "fault=upgrade", "GET", 1, false, 502, WHOLE, "502 ", 1, TWO },
    { "fault=garbage", "GET", 1, true, 502, WHOLE, "502 ", 1, TWO },
    { "fault=half-head", "GET", 1, false, 504, WHOLE, "504 ", 1, TWO },
    { "fault=half-head-close", "GET", 1, false, 502, WHOLE, "502 ", 1, TWO },
    { "fault=half-head-close", "GET", 1, true, 502, WHOLE, "502 ", 1, ALL },
    { "fault=huge-head", "GET", 1, false, 502, WHOLE, "502 ", 1, TWO },
    { "fault=two-lengths", "GET", 1, false, 502, WHOLE, "502 ", 1, TWO },
    { "fault=both-frames", "POST", 1, false, 502, WHOLE, "502 ", 1, TWO },
    { "fault=short", "GET", 1, false, 200, CUT, "abcdefghijklm", 1, ALL },
    { "fault=short", "HEAD", 1, false, 200, WHOLE, "", 1, TWO },
    { "fault=short", "POST", 1, false, 200, CUT, "01234", 1, TWO },
    { "fault=short&frame=chunked", "GET", 1, false, 200, CUT, "abcdefghijklm", 1, ALL },
    { "fault=short&frame=chunked", "GET", 0, false, 200, RESET, "", 1, ALL },
    { "fault=short&frame=chunked&n=200000", "GET", 0, false, 200, RESET, "", 1, TWO },
    { "fault=short&n=200000", "GET", 1, false, 200, CUT, "abc", 1, TWO },
    { "fault=short&frame=close", "GET", 1, false, 200, WHOLE, "abcdefghijklm", 1, TWO },
    { "fault=stall", "GET", 1, false, 200, CUT, "abcdefghijklm", 1, TWO },
    { "fault=stall&frame=chunked", "GET", 0, false, 200, RESET, "", 1, TWO },
    { "fault=reset-body", "GET", 1, false, 200, CUT, "", 1, TWO },
    { "fault=reset-body&frame=close", "GET", 1, true, 200, CUT, "", 1, TWO },
    { "fault=reset-body&frame=close", "GET", 0, false, 200, RESET, "", 1, TWO },
    { "fault=long", "GET", 1, false, 200, WHOLE, "abcdefghijklmnopqrstuvwxyz", 1, ALL },
    { "fault=long", "HEAD", 1, true, 200, WHOLE, "", 1, TWO },
    { "fault=forbidden-body", "GET", 1, false, 204, WHOLE, "", 1, TWO },
    { "fault=forbidden-body&status=304", "GET", 1, false, 304, WHOLE, "", 1, TWO },
    { "fault=forbidden-body", "HEAD", 1, false, 200, WHOLE, "", 1, ALL },
    { "fault=chunk-size", "GET", 1, false, 200, CUT, "abcde", 1, ALL },
    { "fault=chunk-huge", "GET", 1, false, 200, CUT, "abcde", 1, TWO },
    { "fault=chunk-end", "GET", 1, false, 200, CUT, "abcde", 1, TWO },
    { "fault=chunk-cut", "GET", 1, false, 200, CUT, "abcdefg", 1, TWO },
    { "fault=chunk-cut", "GET", 0, false, 200, RESET, "", 1, ALL },
    { "fault=chunk-last", "GET", 1, false, 200, CUT, "abcdefghij", 1, ALL },
    { "fault=chunk-last", "POST", 0, false, 200, RESET, "", 1, TWO },
    { "fault=early", "POST", 1, false, 200, WHOLE, "abc", 1, ALL },
    { "fault=early", "GET", 1, true, 200, WHOLE, "abc", 1, TWO },
};
enum { ROWS = sizeof matrix / sizeof matrix[0] };

static bool tried_here(enum where where)
{
    return where == ALL || strcmp(mode->name, "stage1") == 0 ||
           strcmp(mode->name, "stage4-reuseport") == 0 || mode_waits_aside(mode);
}

/* One row; `target` is asked. */
static void check_row(int row, const char *target)
{
    enum end end = matrix[row].end;

    ask(matrix[row].method, target, matrix[row].minor);
    ck_assert_msg(seen.end == end || (end == CUT && seen.end == RESET),
                  "%s %s: ended in %d, not %d: %s", matrix[row].method, target, seen.end,
                  end, shown());
    if (seen.status != 0 || end != RESET) /* a reset may overtake the head */
        ck_assert_msg(seen.status == matrix[row].status, "%s %s: %d, not %d: %s",
                      matrix[row].method, target, seen.status, matrix[row].status,
                      shown());
    ck_assert_msg(strncmp(seen.body, matrix[row].body, strlen(matrix[row].body)) == 0,
                  "%s %s: %s", matrix[row].method, target, shown());
    ck_assert_msg(asked(matrix[row].method, target) == matrix[row].asked,
                  "%s %s: asked %lld times, not %d", matrix[row].method, target,
                  asked(matrix[row].method, target), matrix[row].asked);
}

START_TEST(matrix_row)
{
    char target[TARGET];

    client_open(&c, &s);
    if (matrix[_i].warm)
        expect_next();
    snprintf(target, sizeof target, "%s", unique(matrix[_i].query));
    check_row(_i, target);
    if (seen.end == WHOLE && matrix[_i].minor == 1) {
        ck_assert_msg(seen.keep_alive, "%s", shown());
        expect_next();
    } else if (seen.end == WHOLE || seen.end == CUT) {
        expect_end();
    }
    client_close(&c);
    client_open(&c, &s);
    expect_next();
    client_close(&c);
}
END_TEST

/* ---- connections that are no good any more ---- */

static const struct {
    const char *fault;
    const char *method; /* of the next request */
    int status, asked;
    bool itself; /* the fault comes without another request */
} stale[] = {
    { "close-idle", "GET", 200, 2, false },
    { "close-idle", "HEAD", 200, 2, false },
    { "close-idle", "POST", 502, 1, false },
    { "reset-idle", "GET", 200, 2, false },
    { "reset-idle", "HEAD", 200, 2, false },
    { "reset-idle", "POST", 502, 1, false },
    { "close-after&gap=100", "GET", 200, 1, true },
    { "close-after&gap=100", "POST", 200, 1, true },
    { "speak&gap=100", "GET", 200, 1, true },
    { "speak&gap=100", "POST", 200, 1, true },
    { "speak&gap=100", "HEAD", 200, 1, true },
};
enum { STALE = sizeof stale / sizeof stale[0] };

/* Does a connection to the upstream hold its end, or bytes that were not read? They stand
 * in the kernel, for nobody looks at an idle connection. /proc/net/tcp in proc(5). */
static bool upstream_was_heard(void)
{
    FILE *file = fopen("/proc/net/tcp", "re");
    unsigned port, state, unread;
    bool heard = false;
    char line[256];

    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, " %*d: %*x:%*x %*x:%x %x %*x:%x", &port, &state, &unread) == 3 &&
            port == (unsigned)upstream.port)
            heard |= unread > 0 || state == TCP_CLOSE_WAIT;
    fclose(file);
    return heard;
}

/* Answered rightly; and then the connection to the upstream, which is idle, is closed as
 * it is used, was closed, or says something. */
START_TEST(stale_connection)
{
    char target[TARGET], query[64];

    snprintf(query, sizeof query, "fault=%s", stale[_i].fault);
    client_open(&c, &s);
    ask("GET", unique(query), 1);
    ck_assert_int_eq(seen.status, 200);
    ck_assert_str_eq(seen.body, "abcdefghijklmnopqrstuvwxyz");
    if (stale[_i].itself)
        eventually(upstream_was_heard(), PATIENCE_MS);
    snprintf(target, sizeof target, "%s", unique("n=10"));
    ask(stale[_i].method, target, 1);
    ck_assert_msg(seen.end == WHOLE && seen.status == stale[_i].status, "%s", shown());
    if (seen.status == 200 && strcmp(stale[_i].method, "HEAD") != 0)
        ck_assert_str_eq(seen.body, "abcdefghij");
    ck_assert_int_eq(asked(stale[_i].method, target), stale[_i].asked);
    expect_next();
    client_close(&c);
}
END_TEST

/* One idle connection serves them all. */
START_TEST(connection_is_used_again)
{
    long long before = count("accepted");

    client_open(&c, &s);
    for (int i = 0; i < 20; i++) {
        ask(i % 3 == 0 ? "POST" : "GET", unique(i % 2 ? "frame=chunked" : "n=2000"), 1);
        ck_assert_int_eq(seen.status, 200);
    }
    client_close(&c);
    ck_assert_int_eq(count("accepted"), before + 1);
}
END_TEST

/* ---- upstreams that cannot be asked ---- */

START_TEST(nobody_listens)
{
    struct server gone;

    server_stop(&s);
    upstream_start(&gone, "");
    start_before(gone.port, "");
    server_stop(&gone);
    client_open(&c, &s);
    for (int i = 0; i < 3; i++) {
        ask(i == 1 ? "POST" : "GET", "/upstream", 1);
        ck_assert_int_eq(seen.status, 502);
        ck_assert_msg(strstr(seen.body, "refused"), "%s", shown());
    }
    client_close(&c);
}
END_TEST

/* On IPv6; it is the same stage, and has no upstream itself. */
START_TEST(upstream_on_ipv6)
{
    struct server next;
    char words[64];

    server_stop(&s);
    server_start(&next, "-a ::1");
    snprintf(words, sizeof words, "--upstream [::1]:%d", next.port);
    server_start(&s, words);
    client_open(&c, &s);
    ask("GET", "/upstream", 1);
    ck_assert_int_eq(seen.status, 503);
    ck_assert_msg(strstr(seen.body, "--upstream ADDRESS:PORT"), "%s", shown());
    ck_assert_ptr_nonnull(field("Via"));
    client_close(&c);
    server_stop(&s);
    server_stop(&next);
    start();
}
END_TEST

START_TEST(never_accepts_or_never_speaks)
{
    struct server mute;

    server_stop(&s);
    upstream_start(&mute, _i == 0 ? "--no-accept" : "--silent");
    start_before(mute.port, "");
    client_open(&c, &s);
    ask("GET", "/upstream", 1);
    ck_assert_int_eq(seen.status, 504);
    ck_assert_msg(strstr(seen.body, _i == 0 ? "accept" : "answer"), "%s", shown());
    client_close(&c);
    server_stop(&mute);
}
END_TEST

START_TEST(no_option)
{
    server_stop(&s);
    server_start(&s, "");
    client_open(&c, &s);
    ask("GET", "/upstream", 1);
    ck_assert_int_eq(seen.status, 503);
    ck_assert_msg(strstr(seen.body, "--upstream ADDRESS:PORT"), "%s", shown());
    ask("HEAD", "/upstream", 1);
    ck_assert_int_eq(seen.status, 503);
    ask("PUT", "/upstream", 1);
    ck_assert_int_eq(seen.status, 405);
    ck_assert_str_eq(field("Allow"), "GET, HEAD, POST");
    client_close(&c);
}
END_TEST

/* ---- heads ---- */

START_TEST(hands_on_a_request)
{
    char expected[512];

    client_open(&c, &s);
    client_say(&c, "POST http://there:81/upstream?show=1&x=%%20 HTTP/1.1\r\n"
                   "Host: here\r\nX-End: to end\r\nKeep-Alive: 5\r\n"
                   "Connection: keep-alive, X-Hop, host\r\nX-Hop: 1\r\nTE: trailers\r\n"
                   "Via: 1.0 first\r\nUpgrade: nonsense\r\nTrailer: X-T\r\n"
                   "Proxy-Authorization: Basic eDp5\r\nExpect: 100-continue\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n"
                   "2\r\nde\r\n0\r\nX-T: 1\r\n\r\n");
    see("POST");
    snprintf(
        expected, sizeof expected,
        "POST /upstream?show=1&x=%%20 HTTP/1.1\r\nHost: there:81\r\n"
        "X-End: to end\r\nVia: 1.0 first\r\nContent-Length: 5\r\nVia: 1.1 %s\r\n\r\n",
        mode->stage);
    ck_assert_str_eq(seen.body, expected);
    client_say(&c, "\r\nGET /upstream?show=1& HTTP/1.1\r\nConnection: host\r\n"
                   "Host: h:1\r\n\r\n");
    see("GET");
    snprintf(expected, sizeof expected,
             "GET /upstream?show=1& HTTP/1.1\r\nHost: h:1\r\nVia: 1.1 %s\r\n\r\n",
             mode->stage);
    ck_assert_str_eq(seen.body, expected);
    client_say(&c, "GET /upstream?show=1 HTTP/1.0\r\n\r\n");
    see("GET");
    snprintf(expected, sizeof expected,
             "GET /upstream?show=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nVia: 1.0 %s\r\n\r\n",
             upstream.port, mode->stage);
    ck_assert_str_eq(seen.body, expected);
    expect_end();
    client_close(&c);
}
END_TEST

START_TEST(hands_on_an_answer)
{
    char via[64];

    snprintf(via, sizeof via, "1.1 %s", mode->stage);
    client_open(&c, &s);
    ask("GET", unique("hop=1&status=404&frame=chunked&n=5"), 1);
    ck_assert_int_eq(seen.status, 404);
    ck_assert_str_eq(field("ETag"), "\"letters-5\"");
    ck_assert_str_eq(field("Via"), via);
    ck_assert_str_eq(field("Transfer-Encoding"), "chunked");
    ck_assert_ptr_nonnull(field("Date"));
    ck_assert_ptr_null(field("Content-Length"));
    ck_assert_ptr_null(field("X-Hop"));
    ck_assert_ptr_null(field("Keep-Alive"));
    ck_assert_ptr_null(field("Proxy-Authenticate"));
    ck_assert_ptr_null(field("Connection"));
    ck_assert_msg(strstr(seen.raw, "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n"), "%s",
                  shown());
    ask("HEAD", unique("n=12345"), 1);
    ck_assert_str_eq(field("Content-Length"), "12345");
    ask("GET", unique("fault=forbidden-body"), 1);
    ck_assert_int_eq(seen.status, 204);
    ck_assert_ptr_null(field("Content-Length"));
    ask("GET", unique("fault=http10&n=5"), 1);
    ck_assert_str_eq(field("Via") + 3, via + 3);
    ck_assert_int_eq(strncmp(field("Via"), "1.0 ", 4), 0);
    client_close(&c);
}
END_TEST

/* Relayed answers and others, in the order that was asked. */
START_TEST(pipelined)
{
    static const char *const queries[] = { "n=%d", "n=%d&frame=chunked",
                                           "n=%d&frame=close", "n=%d&fault=close-after" };
    char query[64];

    client_open(&c, &s);
    for (int i = 0; i < 40; i++) {
        snprintf(query, sizeof query, queries[i % 4], i * 100);
        client_say(&c, "GET /upstream?%s HTTP/1.1\r\nHost: x\r\n\r\n", query);
        client_say(&c, "GET /bytes?n=%d HTTP/1.1\r\nHost: x\r\n\r\n", i);
    }
    for (int i = 0; i < 40; i++) {
        see("GET");
        ck_assert_uint_eq(seen.body_len, (unsigned)i * 100);
        see("GET");
        ck_assert_uint_eq(seen.body_len, (unsigned)i);
    }
    client_close(&c);
}
END_TEST

/* An answer that breaks off takes none with it that were before it, and none follows. */
START_TEST(pipelined_before_a_break)
{
    client_open(&c, &s);
    client_say(&c, "GET /bytes?n=7 HTTP/1.1\r\nHost: x\r\n\r\n"
                   "GET /upstream?fault=chunk-last HTTP/1.1\r\nHost: x\r\n\r\n"
                   "GET /bytes?n=8 HTTP/1.1\r\nHost: x\r\n\r\n");
    see("GET");
    ck_assert_uint_eq(seen.body_len, 7);
    see("GET");
    ck_assert_int_ne(seen.end, WHOLE);
    ck_assert_int_eq(seen.status, 200);
    client_close(&c);
}
END_TEST

/* ---- much, slowly, and clients that go ---- */

static void check_letters(const char *bytes, size_t n, uint64_t at)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 'a' + (char)((at + i) % 26))
            ck_abort_msg("byte %llu is %c", (unsigned long long)(at + i), bytes[i]);
}

/* Read a body of letters to its end, through a small window. */
static void read_letters(uint64_t len)
{
    static char piece[16384];
    uint64_t at = 0;

    while (at < len) {
        struct pollfd p = { c.fd, POLLIN, 0 };
        ssize_t n = -1;

        if (poll(&p, 1, scaled_ms(PATIENCE_MS)) == 1)
            n = recv(c.fd, piece, sizeof piece, 0);
        ck_assert_msg(n > 0, "%llu bytes, and no more", (unsigned long long)at);
        check_letters(piece, (size_t)n, at);
        at += (uint64_t)n;
    }
}

/* The head of an answer, and no byte of its body. */
static void read_head(void)
{
    while (c.len < 4 || memcmp(c.in + c.len - 4, "\r\n\r\n", 4) != 0) {
        ck_assert_uint_lt(c.len, 4096);
        ck_assert_int_eq(recv(c.fd, c.in + c.len, 1, 0), 1);
        c.len++;
    }
    c.len = 0;
}

/* Sanitizers keep what was freed for a while, or a shadow of all memory. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MUCH = 64 << 20, GROWTH_KIB = 24 << 10 };
#else /* a worker that serves for the first time has pages of its libraries read in, too */
enum { MUCH = 64 << 20, GROWTH_KIB = 4096 };
#endif

START_TEST(much_for_a_slow_client)
{
    long before, after;

    client_open(&c, &s);
    expect_next();
    before = server_peak_kib(&s);
    client_close(&c);
    c.fd = connect_small(&s);
    client_say(&c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", unique("n=67108864"));
    read_head();
    read_letters(MUCH);
    expect_next();
    client_close(&c);
    after = server_peak_kib(&s);
    if (!harness_wrapped())
        ck_assert_msg(after - before < GROWTH_KIB, "grew by %ld KiB", after - before);
}
END_TEST

/* A body of any length, chunked anew and as it was: the bytes are right, and few are in
 * memory. */
START_TEST(much_in_chunks)
{
    long before;

    client_open(&c, &s);
    expect_next();
    before = server_peak_kib(&s);
    ask("GET", unique("n=20000000&frame=chunked"), 1);
    ck_assert_int_eq(seen.end, WHOLE);
    ck_assert_uint_eq(seen.body_len, 20000000);
    check_letters(seen.body, seen.kept, 0);
    ask("GET", unique("n=1000003&frame=close"), 1);
    ck_assert_int_eq(seen.end, WHOLE);
    check_letters(seen.body, seen.kept, 0);
    ask("GET", unique("n=1000003&frame=chunked"), 0);
    ck_assert_int_eq(seen.end, WHOLE);
    ck_assert_uint_eq(seen.body_len, 1000003);
    client_close(&c);
    if (!harness_wrapped())
        ck_assert_int_lt(server_peak_kib(&s) - before, GROWTH_KIB);
}
END_TEST

/* A slow upstream, a fast client: each byte goes on as it comes. */
START_TEST(bytes_go_on_as_they_come)
{
    client_open(&c, &s);
    client_say(&c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n",
               unique("fault=stall&n=20&frame=chunked"));
    read_head();
    while (c.len < 7 + 10 || memcmp(c.in + c.len - 2, "\r\n", 2) != 0) {
        ck_assert_int_eq(recv(c.fd, c.in + c.len, 1, 0), 1);
        c.len++;
    }
    ck_assert_ptr_nonnull(memmem(c.in, c.len, "abcdefghij", 10));
    c.len = 0;
    expect_end();
    client_close(&c);
}
END_TEST

START_TEST(endless_answer)
{
    long long left = count("left");
    uint64_t read = 0;

    client_open(&c, &s);
    client_say(&c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n",
               unique(_i ? "fault=endless&frame=chunked" : "fault=endless"));
    while (read < 5 << 20) {
        ssize_t n = receive(clock_ms() + scaled_ms(PATIENCE_MS));

        ck_assert_int_gt(n, 0);
        read += (uint64_t)n;
    }
    client_reset(&c);
    eventually(count("left") == left + 1, PATIENCE_MS);
    client_open(&c, &s);
    expect_next();
    client_close(&c);
}
END_TEST

/* The answer begins before the request has gone up: both go on. */
START_TEST(large_request)
{
    static char body[1 << 20];

    memset(body, 'x', sizeof body);
    client_open(&c, &s);
    client_say(&c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n",
               unique(_i ? "fault=early&n=100000" : ""), sizeof body);
    client_send(&c, body, sizeof body);
    see("POST");
    ck_assert_int_eq(seen.end, WHOLE);
    ck_assert_int_eq(seen.status, 200);
    ck_assert_uint_eq(seen.body_len, _i ? 100000 : sizeof body);
    expect_next();
    client_close(&c);
}
END_TEST

/* It answers, and closes although more of the request is on its way: a reset follows the
 * answer, and may have overtaken it. */
START_TEST(answers_early_and_closes)
{
    static char body[1 << 20];

    client_open(&c, &s);
    client_say(&c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n",
               unique("fault=early-close"), sizeof body);
    client_send(&c, body, sizeof body);
    see("POST");
    ck_assert_int_eq(seen.end, WHOLE);
    ck_assert_msg(seen.status == 200 || seen.status == 502, "%s", shown());
    expect_next();
    client_close(&c);
}
END_TEST

/* As many upstream connections as a process may have are in use: 503, at once. There is
 * one for two descriptors, but for the 64 that the process has for other things. */
START_TEST(pool_is_full)
{
    enum { CLIENTS = 64 };
    struct client busy[CLIENTS];

    server_stop(&s);
    start_before(upstream.port, "-w 1 --reply-timeout 20 --limit-nofile 192");
    for (int i = 0; i < CLIENTS; i++) {
        busy[i].len = 0;
        busy[i].fd = c.fd = connect_small(&s);
        client_say(&c, "GET /upstream?n=16777216 HTTP/1.1\r\nHost: x\r\n\r\n");
        read_head();
    }
    client_open(&c, &s);
    ask("GET", unique(""), 1);
    ck_assert_msg(seen.status == 503, "%s", shown());
    ck_assert_msg(strstr(seen.body, "connections"), "%s", shown());
    for (int i = 0; i < CLIENTS; i++)
        client_reset(&busy[i]);
    for (int64_t end = clock_ms() + scaled_ms(PATIENCE_MS); seen.status != 200;) {
        ck_assert_int_lt(clock_ms(), end);
        pause_ms(5);
        ask("GET", unique(""), 1);
    }
    client_close(&c);
}
END_TEST

/* ---- where a handler that waits holds up nobody ---- */

static bool cancels(void)
{
    return strcmp(mode->model, "callbacks") == 0;
}

static void open_and_wait(struct client *k, const char *query)
{
    long long waiting = count("waiting");

    client_open(k, &s);
    client_say(k, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", unique(query));
    eventually(count("waiting") == waiting + 1, PATIENCE_MS);
}

/* The upstream works for nobody, and is told. With more sent behind it the server has
 * looked away from what the client says, and sees all the same that it is gone. */
START_TEST(client_goes_while_it_waits)
{
    long long open = count("open");

    open_and_wait(&c, "ms=60000");
    if (_i == 1) {
        client_say(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        client_say(&c, "GET / HT");
        pause_ms(50);
    }
    client_reset(&c);
    eventually(count("open") == open, PATIENCE_MS);
    fetch(&s, "GET", "/", &(struct response){ 0 }, 200);
}
END_TEST

/* In the middle of a body, too, which comes in drops. */
START_TEST(client_goes_within_a_body)
{
    long long open = count("open");

    client_open(&c, &s);
    client_say(&c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n",
               unique(_i ? "fault=drip&n=100000&gap=5&frame=chunked"
                         : "fault=drip&n=100000&gap=5"));
    read_head();
    if (_i == 1)
        client_say(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client_reset(&c);
    eventually(count("open") == open, PATIENCE_MS);
}
END_TEST

START_TEST(half_closed_client_is_answered)
{
    open_and_wait(&c, "ms=200&n=5");
    ck_assert_int_eq(shutdown(c.fd, SHUT_WR), 0);
    see("GET");
    ck_assert_int_eq(seen.status, 200);
    ck_assert_str_eq(seen.body, "abcde");
    client_close(&c);
}
END_TEST

/* Each waits half a second, and so do all of them together. */
START_TEST(a_hundred_wait_at_once)
{
    enum { CLIENTS = 100 };
    static struct client all[CLIENTS];
    struct response r;
    int64_t began;

    server_stop(&s);
    start_before(upstream.port, "-w 1 --reply-timeout 20");
    began = clock_ms();
    for (int i = 0; i < CLIENTS; i++) {
        client_open(&all[i], &s);
        client_say(&all[i], "GET /upstream?ms=500&n=%d HTTP/1.1\r\nHost: x\r\n\r\n", i);
    }
    fetch(&s, "GET", "/", &r, 200);
    ck_assert_int_lt(clock_ms() - began, 500);
    for (int i = 0; i < CLIENTS; i++) {
        client_expect(&all[i], &r, 200);
        ck_assert_uint_eq(r.body_len, (unsigned)i);
        client_close(&all[i]);
    }
    ck_assert_int_lt(clock_ms() - began, scaled_ms(2000));
    ck_assert_int_ge(clock_ms() - began, 500);
}
END_TEST

/* ---- stopping ---- */

/* What is under way is answered, says that it is the last, and idle connections to the
 * upstream keep nobody waiting. The timer's signals interrupt the wait, which goes on. */
START_TEST(stops_behind_an_answer)
{
    long long waiting = count("waiting");

    client_open(&c, &s);
    expect_next();
    client_say(&c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n",
               unique("ms=400&n=5&frame=chunked"));
    eventually(count("waiting") == waiting + 1, PATIENCE_MS);
    kill(s.pid, SIGTERM);
    see("GET");
    ck_assert_int_eq(seen.end, WHOLE);
    ck_assert_int_eq(seen.status, 200);
    ck_assert_str_eq(seen.body, "abcde");
    client_close(&c);
    ck_assert_int_eq(server_wait(&s, 1000), 0);
    server_gone(&s);
    start();
}
END_TEST

/* ---- real clients ---- */

static void curl(struct outcome *o, const char *options, const char *query)
{
    char line[512];
    const char *argv[16];
    int n = 0;

    snprintf(line, sizeof line, "curl -sS -m 10 %s http://127.0.0.1:%d/upstream?%s",
             options, s.port, query);
    for (char *word = strtok(line, " "); word; word = strtok(NULL, " "))
        argv[n++] = word;
    argv[n] = NULL;
    program_run(o, argv);
}

START_TEST(curl_through_the_gateway)
{
    static struct outcome o;
    char file[] = "/tmp/upstream.XXXXXX", options[128];
    static const char body[] = "what curl uploads, in chunks";
    int fd = mkstemp(file);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, body, sizeof body - 1), sizeof body - 1);
    close(fd);
    snprintf(options, sizeof options,
             "-H Transfer-Encoding:chunked -H Expect: --data-binary @%s", file);
    curl(&o, options, "frame=chunked");
    unlink(file);
    ck_assert_msg(o.status == 0, "%s", o.err);
    ck_assert_str_eq(o.out, body);
    curl(&o, "-0", "n=10&frame=close");
    ck_assert_msg(o.status == 0, "%s", o.err);
    ck_assert_str_eq(o.out, "abcdefghij");
    curl(&o, "", "n=10&fault=short");
    ck_assert_msg(o.status == 18, "curl: %d %s", o.status, o.err); /* partial file */
    curl(&o, "", "n=10&fault=chunk-last");
    ck_assert_msg(o.status == 18 || o.status == 56, "curl: %d %s", o.status, o.err);
    curl(&o, "-0", "n=10&fault=short&frame=chunked");
    ck_assert_msg(o.status == 56, "curl: %d %s", o.status, o.err); /* reset */
    curl(&o, "-I", "n=10");
    ck_assert_msg(strstr(o.out, "Content-Length: 10\r\n"), "%s", o.out);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_unchecked_fixture(tc, start_upstream, stop_upstream);
    tcase_add_checked_fixture(tc, start, stop);
    for (int i = 0; i < ROWS; i++)
        if (tried_here(matrix[i].where))
            tcase_add_loop_test(tc, matrix_row, i, i + 1);
    tcase_add_loop_test(tc, stale_connection, 0, STALE);
    tcase_add_test(tc, connection_is_used_again);
    tcase_add_test(tc, nobody_listens);
    tcase_add_test(tc, upstream_on_ipv6);
    tcase_add_loop_test(tc, never_accepts_or_never_speaks, 0, 2);
    tcase_add_test(tc, no_option);
    tcase_add_test(tc, hands_on_a_request);
    tcase_add_test(tc, hands_on_an_answer);
    tcase_add_test(tc, pipelined);
    tcase_add_test(tc, pipelined_before_a_break);
    tcase_add_test(tc, much_for_a_slow_client);
    tcase_add_test(tc, much_in_chunks);
    tcase_add_test(tc, bytes_go_on_as_they_come);
    tcase_add_loop_test(tc, endless_answer, 0, 2);
    tcase_add_loop_test(tc, large_request, 0, 2);
    tcase_add_test(tc, answers_early_and_closes);
    if (mode->at_once == INT_MAX && tried_here(TWO))
        tcase_add_test(tc, pool_is_full);
    if (cancels()) {
        tcase_add_loop_test(tc, client_goes_while_it_waits, 0, 2);
        tcase_add_loop_test(tc, client_goes_within_a_body, 0, 2);
    }
    if (mode_waits_aside(mode))
        tcase_add_test(tc, half_closed_client_is_answered);
    if (strcmp(mode->model, "callbacks") == 0 || strcmp(mode->model, "coroutines") == 0)
        tcase_add_test(tc, a_hundred_wait_at_once);
    tcase_add_test(tc, stops_behind_an_answer);
    tcase_add_test(tc, curl_through_the_gateway);
}

int main(void)
{
    return harness_run("upstream", add_tests, 30);
}
