/* test_blackbox.c - the same suite over TCP on every stage and mode.
 * Does not: test what is particular to one stage; that is test_stages.c's. */
#include <arpa/inet.h>
#include <poll.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/stop.h"
#include "harness/harness.h"
#include "http/http.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* One server with default options for all tests that need nothing else. It must live
 * through all of them in the same processes. */
static struct server shared;
static pid_t shared_pids[80];
static int shared_count;

static struct response r;

static void start_shared(void)
{
    server_start(&shared, "");
    if (mode->workers)
        eventually(server_workers(&shared, shared_pids, 80) == mode->workers,
                   PATIENCE_MS);
    shared_count = server_processes(&shared, shared_pids, 80);
}

static void stop_shared(void)
{
    const char *problem = server_end(&shared);

    if (problem)
        harness_complain(problem);
}

/* Every process of the server is still the one that was started. */
static void check_survived(const struct server *s, const pid_t before[], int n)
{
    pid_t after[80];

    ck_assert_int_eq(server_processes(s, after, 80), n);
    ck_assert_msg(memcmp(before, after, (size_t)n * sizeof after[0]) == 0,
                  "a process was replaced: %s", server_log(s));
}

START_TEST(shared_server_survived)
{
    check_survived(&shared, shared_pids, shared_count);
}
END_TEST

/* ---- the routes ---- */

START_TEST(first_line_of_stdout)
{
    char pattern[128];
    regex_t regex;

    snprintf(pattern, sizeof pattern, "^%s: listening on 127\\.0\\.0\\.1:%d( .*)?$",
             mode->stage, shared.port);
    ck_assert_int_eq(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    ck_assert_msg(regexec(&regex, shared.banner, 0, NULL, 0) == 0, "%s", shared.banner);
    regfree(&regex);
}
END_TEST

START_TEST(route_root)
{
    fetch(&shared, "GET", "/", &r, 200);
    ck_assert_str_eq(r.body, "hello world!");
    ck_assert_str_eq(response_field(&r, "Content-Type"), "text/html;charset=UTF-8");
    fetch(&shared, "GET", "/?a=b", &r, 200);
    ck_assert_str_eq(r.body, "hello world!");
}
END_TEST

/* Send a body of n bytes to /echo and compare what comes back. */
static void check_echo(struct client *c, const char *method, const char *type,
                       const char *body, size_t n)
{
    const char *got;

    client_say(c, "%s /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n", method, n);
    client_say(c, type ? "Content-Type: %s\r\n\r\n" : "\r\n", type);
    client_send(c, body, n);
    client_expect(c, &r, 200);
    ck_assert_uint_eq(r.body_len, n);
    ck_assert_int_eq(memcmp(r.body, body, n), 0);
    got = response_field(&r, "Content-Type");
    if (type)
        ck_assert_str_eq(got ? got : "none", type);
}

/* Bytes of every value, without a period that is a power of two. */
static char *make_body(size_t n)
{
    char *body = malloc(n + 1);

    ck_assert_ptr_nonnull(body);
    for (size_t i = 0; i < n; i++)
        body[i] = (char)(i * 7 + i / 251);
    body[n] = '\0';
    return body;
}

START_TEST(route_echo)
{
    static const char json[] = "{\"a\": [1, 2]}";
    struct client c;

    client_open(&c, &shared);
    check_echo(&c, "POST", "text/plain", "hello", 5);
    check_echo(&c, "PUT", "application/json;charset=UTF-8", json, strlen(json));
    check_echo(&c, "POST", "text/plain", "", 0);
    check_echo(&c, "POST", NULL, "x", 1);
    check_echo(&c, "POST", "application/octet-stream", "\0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
               23);
    client_say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\n\r\n"); /* no length: no body */
    client_expect(&c, &r, 200);
    ck_assert_uint_eq(r.body_len, 0);
    client_close(&c);
}
END_TEST

START_TEST(route_echo_large)
{
    enum { LARGE = 900 * 1024 + 13 };
    char *body = make_body(LARGE);
    struct client c;

    client_open(&c, &shared);
    check_echo(&c, "POST", "application/octet-stream", body, LARGE);
    check_echo(&c, "PUT", "text/plain", body,
               LARGE); /* and the connection is still in step */
    check_echo(&c, "PUT", "text/plain", "small", 5);
    client_close(&c);
    free(body);
}
END_TEST

static const struct {
    const char *sent, *body;
} chunked[] = {
    { "5\r\nhello\r\n0\r\n\r\n", "hello" },
    { "1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", "hello" },
    { "0\r\n\r\n", "" },
    { "A\r\n0123456789\r\na\r\nabcdefghij\r\n0\r\n\r\n", "0123456789abcdefghij" },
    { "005\r\nhello\r\n000\r\n\r\n", "hello" },
    { "5;a=b;c=\"d e\"\r\nhello\r\n0;last\r\n\r\n", "hello" },
    { "5\r\nhello\r\n0\r\nX-Trailer: 1\r\nAnother: two\r\n\r\n", "hello" },
    { "10\r\n\r\n\r\nGET / HTTP/1\r\n0\r\n\r\n", "\r\n\r\nGET / HTTP/1" },
};

START_TEST(route_echo_chunked)
{
    static const char *const codings[] = { "Transfer-Encoding: chunked",
                                           "transfer-encoding:\tCHUNKED " };
    struct client c;

    client_open(&c, &shared);
    for (int i = 0; i < COUNT(chunked) * 2; i++) {
        client_say(&c,
                   "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\n%s\r\n\r\n%s",
                   codings[i % 2], chunked[i / 2].sent);
        client_expect(&c, &r, 200);
        ck_assert_str_eq(r.body, chunked[i / 2].body);
        ck_assert_str_eq(response_field(&r, "Content-Type"), "a/b");
    }
    client_close(&c);
}
END_TEST

START_TEST(route_echo_chunked_large)
{
    enum { PIECE = 1000, PIECES = 900 };
    char *body = make_body(PIECE * PIECES);
    struct client c;

    client_open(&c, &shared);
    client_say(&c, "PUT /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < PIECES; i++) {
        char chunk[PIECE + 32];
        int n = snprintf(chunk, sizeof chunk, i < 9 ? "%x;piece=%d\r\n" : "%x\r\n",
                         (unsigned)PIECE, i);

        memcpy(chunk + n, body + i * PIECE, PIECE);
        memcpy(chunk + n + PIECE, "\r\n", 2);
        client_send(&c, chunk, (size_t)n + PIECE + 2);
    }
    client_say(&c, "0\r\n\r\n");
    client_expect(&c, &r, 200);
    ck_assert_uint_eq(r.body_len, PIECE * PIECES);
    ck_assert_int_eq(memcmp(r.body, body, PIECE * PIECES), 0);
    client_close(&c);
    free(body);
}
END_TEST

START_TEST(routes_sleep_and_burn)
{
    int64_t start = clock_ms();

    fetch(&shared, "GET", "/sleep?ms=60", &r, 200);
    ck_assert_int_ge(clock_ms() - start, 60 - 8); /* the clock's steps */
    start = clock_ms();
    fetch(&shared, "GET", "/burn?ms=60", &r, 200);
    ck_assert_int_ge(clock_ms() - start, 60 - 8);
    fetch(&shared, "GET", "/sleep?ms=0", &r, 200);
    fetch(&shared, "GET", "/burn?ms=0", &r, 200);
    fetch(&shared, "GET", "/sleep?a=b&ms=%31%30&c", &r, 200); /* escapes: 10 */
}
END_TEST

START_TEST(route_bytes)
{
    static const int sizes[] = { 0, 1, 1000, 65535, 65536, 65537, 1 << 20, 4 << 20 };
    struct client c;

    client_open(&c, &shared);
    for (int i = 0; i < COUNT(sizes); i++) {
        client_say(&c, "GET /bytes?n=%d HTTP/1.1\r\nHost: x\r\n\r\n", sizes[i]);
        client_expect(&c, &r, 200);
        ck_assert_uint_eq(r.body_len, (uint64_t)sizes[i]);
    }
    client_say(&c, "HEAD /bytes?n=67108864 HTTP/1.1\r\nHost: x\r\n\r\n");
    client_read(&c, &r, "HEAD");
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(response_field(&r, "Content-Length"), "67108864");
    client_close(&c);
}
END_TEST

/* The same bytes whether they go out at once or by many partial writes. */
START_TEST(bytes_survive_partial_writes)
{
    enum { MANY = 4 << 20 };
    char *fast = malloc(MANY);
    struct client c;

    fetch(&shared, "GET", "/bytes?n=4194304", &r, 200);
    ck_assert_uint_eq(r.body_len, MANY);
    memcpy(fast, r.body, MANY);
    c = (struct client){ .fd = connect_small(&shared) };
    client_say(&c, "GET /bytes?n=4194304 HTTP/1.1\r\nHost: x\r\n\r\n");
    client_say(&c, "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n");
    client_expect(&c, &r, 200);
    ck_assert_uint_eq(r.body_len, MANY);
    ck_assert_int_eq(memcmp(r.body, fast, MANY), 0);
    client_expect(&c, &r, 200);
    ck_assert_int_eq(json_number(r.body, "requests"), 2);
    client_close(&c);
    free(fast);
}
END_TEST

START_TEST(route_whoami)
{
    pid_t pids[80];
    int n = server_processes(&shared, pids, 80);
    bool found = false;
    struct client c;

    client_open(&c, &shared);
    for (int i = 1; i <= 3; i++) {
        client_say(&c, "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n");
        client_expect(&c, &r, 200);
        ck_assert_str_eq(response_field(&r, "Content-Type"), "application/json");
        ck_assert_int_eq(json_number(r.body, "requests"), i);
    }
    client_close(&c);
    ck_assert_ptr_nonnull(strstr(r.body, mode->stage));
    for (int i = 0; i < n; i++)
        found = found || json_number(r.body, "pid") == pids[i];
    ck_assert_msg(found || harness_wrapped(), "pid of no process of the server: %s",
                  r.body);
    ck_assert_int_ge(json_number(r.body, "worker"), 0);
    ck_assert_int_lt(json_number(r.body, "worker"), mode->workers ? mode->workers : 1);
}
END_TEST

/* Skip one JSON value (RFC 8259) without escapes. NULL: it is none. */
static const char *skip_json(const char *at)
{
    char end = *at == '{' ? '}' : ']';

    if (*at == '"')
        return (at = strchr(at + 1, '"')) ? at + 1 : NULL;
    if (*at != '{' && *at != '[') {
        size_t n = strspn(at, "0123456789.");

        return n ? at + n : NULL;
    }
    for (at += 1 + strspn(at + 1, " \n"); *at != end; at += strspn(at, " \n")) {
        if (end == '}') {
            at = *at == '"' ? skip_json(at) : NULL;
            if (!at || *at++ != ':')
                return NULL;
        }
        at = skip_json(at + strspn(at, " \n"));
        if (!at || (*at != ',' && *at != end) || (*at == ',' && at[1] == end))
            return NULL;
        at += *at == ',';
    }
    return at + 1;
}

static void check_json(const char *text)
{
    const char *end = skip_json(text);

    ck_assert_msg(end && end[strspn(end, "\n")] == '\0', "not JSON: %s", text);
}

/* The answer holds the name of the program, which may be long. */
START_TEST(whoami_of_a_long_name)
{
    static char long_name[NAME_MAX - 40];
    const char *given = getenv("BUILD_DIR"); /* NULL: above this program */
    struct mode longer = *mode;
    const struct mode *usual = mode;
    char folder[] = "/tmp/blackbox.XXXXXX";
    char program[SERVER_PATH_MAX], link[PATH_MAX];
    struct server s;

    memset(long_name, 'n', sizeof long_name - 1);
    longer.stage = long_name;
    server_path(program);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(link, sizeof link, "%s/%s", folder, long_name);
    ck_assert_int_eq(symlink(program, link), 0);
    setenv("BUILD_DIR", folder, 1);
    mode = &longer;
    server_start(&s, "");
    fetch(&s, "GET", "/whoami", &r, 200);
    check_json(r.body);
    server_stop(&s);
    mode = usual;
    if (given)
        setenv("BUILD_DIR", given, 1);
    else
        unsetenv("BUILD_DIR");
    unlink(link);
    rmdir(folder);
}
END_TEST

START_TEST(route_stats)
{
    static const char *const counters[] = { "accepted", "requests", "bytes_in",
                                            "bytes_out" };
    long long before[COUNT(counters)];

    fetch(&shared, "GET", "/whoami", &r, 200);
    check_json(r.body);
    fetch(&shared, "GET", "/stats", &r, 200);
    check_json(r.body);
    ck_assert_str_eq(response_field(&r, "Content-Type"), "application/json");
    for (int i = 0; i < COUNT(counters); i++)
        before[i] = json_number(r.body, counters[i]);
    for (int i = 0; i < 10; i++)
        fetch(&shared, "GET", "/", &r, 200);
    fetch(&shared, "GET", "/stats", &r, 200);
    for (int i = 0; i < COUNT(counters); i++)
        ck_assert_msg(before[i] >= 0 &&
                          json_number(r.body, counters[i]) >= before[i] + 10,
                      "%s: was %lld: %s", counters[i], before[i], r.body);
    ck_assert_ptr_nonnull(strstr(r.body, "\"workers\""));
    ck_assert_ptr_nonnull(strstr(r.body, "\"pid\""));
}
END_TEST

/* ---- refusals of the application ---- */

static const struct {
    const char *method, *target;
    int status;
    const char *says; /* in the body, or for 405 in Allow */
} refusals[] = {
    { "GET", "/nowhere", 404, "" },
    { "GET", "//", 404, "" },
    { "GET", "/echo/", 404, "" },
    { "POST", "/nowhere", 404, "" },
    { "GET", "/bytesx?n=1", 404, "" },
    { "POST", "/", 405, "GET" },
    { "DELETE", "/", 405, "GET" },
    { "PUT", "/whoami", 405, "GET" },
    { "GET", "/echo", 405, "POST" },
    { "HEAD", "/echo", 405, "PUT" },
    { "DELETE", "/echo", 405, "PUT" },
    { "PATCH", "/bytes?n=1", 405, "GET" },
    { "POST", "/stats", 405, "GET" },
    { "OPTIONS", "/sleep", 405, "GET" },
    { "TRACE", "/burn?ms=1", 405, "GET" },
    { "GET", "/sleep", 400, "ms" },
    { "GET", "/sleep?", 400, "ms" },
    { "GET", "/sleep?ms", 400, "ms" },
    { "GET", "/sleep?ms=", 400, "ms" },
    { "GET", "/sleep?ms=-1", 400, "ms" },
    { "GET", "/sleep?ms=%2D1", 400, "ms" },
    { "GET", "/sleep?ms=+1", 400, "ms" },
    { "GET", "/sleep?ms=%2B1", 400, "ms" },
    { "GET", "/sleep?ms=abc", 400, "ms" },
    { "GET", "/sleep?ms=1x", 400, "ms" },
    { "GET", "/sleep?ms=1.5", 400, "ms" },
    { "GET", "/sleep?ms=60001", 400, "60000" },
    { "GET", "/sleep?ms=99999999999999999999", 400, "ms" },
    { "GET", "/sleep?ms=18446744073709551617", 400, "ms" },
    { "GET", "/sleep?ms=4294967297", 400, "ms" },
    { "GET", "/sleep?MS=1", 400, "ms" },
    { "GET", "/sleep?xms=1", 400, "ms" },
    { "GET", "/sleep?n=1", 400, "ms" },
    { "GET", "/burn", 400, "ms" },
    { "GET", "/burn?ms=-1", 400, "ms" },
    { "GET", "/burn?ms=x", 400, "ms" },
    { "GET", "/burn?ms=60001", 400, "60000" },
    { "GET", "/bytes", 400, "n" },
    { "GET", "/bytes?n=-1", 400, "n" },
    { "GET", "/bytes?n=x", 400, "n" },
    { "GET", "/bytes?n=0x10", 400, "n" },
    { "GET", "/bytes?n=1%00", 400, "n" },
    { "GET", "/bytes?n=67108865", 400, "67108864" },
    { "GET", "/bytes?n=111111111111111111111111111111111111111111111", 400, "n" },
    { "HEAD", "/bytes?n=x", 400, "" },
};

START_TEST(application_refuses)
{
    const char *allow;

    fetch(&shared, refusals[_i].method, refusals[_i].target, &r, refusals[_i].status);
    allow = response_field(&r, "Allow");
    if (refusals[_i].status == 405)
        ck_assert_msg(allow && strstr(allow, refusals[_i].says), "Allow: %s",
                      allow ? allow : "missing");
    else
        ck_assert_msg(strstr(r.body, refusals[_i].says) &&
                          (*r.body || strcmp(refusals[_i].method, "HEAD") == 0),
                      "%s does not name %s: %s", refusals[_i].target, refusals[_i].says,
                      r.body);
}
END_TEST

/* ---- HTTP ---- */

START_TEST(head_is_get_without_body)
{
    static const char *const targets[] = { "/", "/bytes?n=100000", "/sleep?ms=0",
                                           "/nowhere", "/bytes?n=x" };
    struct client c;

    client_open(&c, &shared);
    for (int i = 0; i < COUNT(targets); i++) {
        char get[sizeof r.head], *date, *date_head;

        client_say(&c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", targets[i]);
        client_read(&c, &r, "GET");
        memcpy(get, r.head, sizeof get);
        client_say(&c, "HEAD %s HTTP/1.1\r\nHost: x\r\n\r\n", targets[i]);
        client_read(&c, &r,
                    "HEAD"); /* the next GET would meet a body, if there were one */
        date = strstr(get, "Date: ");
        date_head = strstr(r.head, "Date: ");
        if (date && date_head)
            memcpy(date, date_head, strlen("Date: Thu, 01 Jan 1970 00:00:00 GMT"));
        ck_assert_str_eq(get, r.head);
    }
    client_expect_silence(&c, 20);
    client_close(&c);
}
END_TEST

static const struct {
    const char *version, *fields;
    bool stays;
} keep_alives[] = {
    { "1.1", "", true },
    { "1.1", "Connection: keep-alive\r\n", true },
    { "1.1", "Connection: something\r\n", true },
    { "1.1", "Connection: close\r\n", false },
    { "1.1", "connection:CLOSE\r\n", false },
    { "1.1", "Connection: something, close\r\n", false },
    { "1.1", "Connection: keep-alive, close\r\n", false },
    { "1.1", "Connection: keep-alive\r\nConnection: close\r\n", false },
    { "1.1", "Connection: closed\r\n", true },
    { "1.0", "", false },
    { "1.0", "Connection: close\r\n", false },
    { "1.0", "Connection: keep-alive\r\n", true },
    { "1.0", "Connection: Keep-Alive\r\n", true },
    { "1.0", "Connection: keep-alive, close\r\n", false },
};

START_TEST(keep_alive_rules)
{
    const char *version = keep_alives[_i].version, *said;
    struct client c;

    client_open(&c, &shared);
    for (int i = 0; i < 2; i++) {
        client_say(&c, "GET / HTTP/%s\r\nHost: x\r\n%s\r\n", version,
                   keep_alives[_i].fields);
        client_expect(&c, &r, 200);
        said = response_field(&r, "Connection");
        ck_assert_msg(r.keep_alive == keep_alives[_i].stays, "%s %s: %s", version,
                      keep_alives[_i].fields, r.head);
        if (!r.keep_alive)
            break;
        if (strcmp(version, "1.0") ==
            0) /* RFC 9112 section C.2.2: the client must be told */
            ck_assert_msg(said && strcasecmp(said, "keep-alive") == 0, "%s", r.head);
    }
    if (!keep_alives[_i].stays)
        client_expect_close(&c, PATIENCE_MS);
    client_close(&c);
}
END_TEST

START_TEST(nothing_behind_close_is_answered)
{
    struct client c;

    client_open(&c, &shared);
    client_say(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
                   "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                   "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n");
    client_expect(&c, &r, 200);
    client_expect(&c, &r, 200);
    client_expect_end(&c, PATIENCE_MS);
    client_close(&c);
}
END_TEST

START_TEST(pipelining_keeps_the_order)
{
    enum { REQUESTS = 100 };
    char *all = malloc(REQUESTS * 4096);
    struct client c;
    size_t n = 0;

    for (int i = 0; i < REQUESTS; i++) /* bodies from 8 to some 2,000 bytes */
        n += (size_t)sprintf(
            all + n, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%0*d",
            8 + i * 20, 8 + i * 20, i);
    client_open(&c, &shared);
    client_send(&c, all, n);
    for (int i = 0; i < REQUESTS; i++) {
        client_expect(&c, &r, 200);
        ck_assert_uint_eq(r.body_len, (uint64_t)(8 + i * 20));
        ck_assert_int_eq(atoi(r.body), i);
    }
    client_expect_silence(&c, 20);
    client_close(&c);
    free(all);
}
END_TEST

/* Several kinds of requests in a row, with what each is to be answered. */
static const char mixture[] =
    "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"
    "POST /echo HTTP/1.1\r\nhost:x\r\ncontent-length:3\r\n\r\nabc"
    "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
    "PUT /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked"
    "\r\n\r\n2\r\nde\r\n1;x=y\r\nf\r\n0\r\nT: t\r\n\r\n"
    "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n";

static void expect_mixture(struct client *c)
{
    client_expect(c, &r, 200);
    ck_assert_str_eq(r.body, "hello world!");
    client_expect(c, &r, 200);
    ck_assert_str_eq(r.body, "abc");
    client_read(c, &r, "HEAD");
    ck_assert_int_eq(r.status, 200);
    client_expect(c, &r, 200);
    ck_assert_str_eq(r.body, "def");
    client_expect(c, &r, 404);
}

START_TEST(pipelining_byte_by_byte)
{
    struct client c;

    client_open(&c, &shared);
    for (size_t i = 0; i < sizeof mixture - 1; i++) {
        client_send(&c, mixture + i, 1);
        client_settle(&c);
    }
    expect_mixture(&c);
    client_close(&c);
}
END_TEST

START_TEST(requests_split_at_every_byte)
{
    struct client c;

    client_open(&c, &shared);
    for (size_t i = 1; i < sizeof mixture - 1; i++) {
        client_send(&c, mixture, i);
        client_settle(&c);
        client_send(&c, mixture + i, sizeof mixture - 1 - i);
        expect_mixture(&c);
    }
    client_close(&c);
}
END_TEST

START_TEST(expect_100_continue)
{
    static const char *const framings[] = { "Content-Length: 5",
                                            "Transfer-Encoding: chunked" };
    static const char *const bodies[] = { "hello", "5\r\nhello\r\n0\r\n\r\n" };
    struct client c;

    client_open(&c, &shared);
    for (int i = 0; i < 2; i++) {
        client_say(&c,
                   "POST /echo HTTP/1.1\r\nHost: x\r\n%s\r\nExpect: 100-Continue\r\n\r\n",
                   framings[i]);
        client_expect(&c, &r, 100);
        client_expect_silence(&c, 20); /* once only, and no answer before the body */
        client_say(&c, "%s", bodies[i]);
        client_expect(&c, &r, 200);
        ck_assert_str_eq(r.body, "hello");
    }
    client_say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
                   "Expect: 100-continue\r\n\r\nhello"); /* does not wait for it */
    client_read(&c, &r, "POST");
    if (r.status == 100)
        client_read(&c, &r, "POST");
    ck_assert_int_eq(r.status, 200);
    client_say(&c,
               "GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n"); /* no body */
    client_expect(&c, &r, 200);
    client_close(&c);
}
END_TEST

START_TEST(expect_is_ignored_in_http_1_0)
{
    struct client c;

    client_open(&c, &shared);
    client_say(
        &c, "POST /echo HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    client_settle(&c);
    client_expect_silence(&c, 20);
    client_say(&c, "hello");
    client_expect(&c, &r, 200);
    client_expect_close(&c, PATIENCE_MS);
    client_close(&c);
}
END_TEST

static const char *const accepted[] = {
    "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET http://example.com:80/?a=b HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET http://example.com HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET HTTP://[::1]:8080/ HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: example.com:8080\r\n\r\n",
    "GET / HTTP/1.1\r\nhOST:\t127.0.0.1 \t\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nEmpty:\r\nSpaces:   \r\nText: \"a\tb\" "
    "\xc3\xa4\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n!#$%&'*+-.^_`|~09azAZ: token\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
    "chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /?-._~:/?@!$&'()*+,;=%41 HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
};

START_TEST(accepts)
{
    struct client c;

    client_open(&c, &shared);
    client_say(&c, "%s", accepted[_i]);
    client_expect(&c, &r, 200);
    ck_assert_msg(strcmp(r.body, "hello world!") == 0, "%s: %s", accepted[_i], r.body);
    client_say(&c, "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n"); /* still in step */
    client_expect(&c, &r, 200);
    ck_assert_int_eq(json_number(r.body, "requests"), 2);
    client_close(&c);
}
END_TEST

/* ---- hostile requests ---- */

/* before, `times` times `fill`, after; then a request is smuggled behind it. */
struct hostile {
    int status, or_status; /* or_status: as good; 0: none */
    const char *before;
    size_t before_len;
    const char *fill;
    int times;
    const char *after;
};

#define BAD(status, text)                                                                \
    {                                                                                    \
        status, 0, text, sizeof(text) - 1, "", 0, ""                                     \
    }
#define BAD2(status, or, text)                                                           \
    {                                                                                    \
        status, or, text, sizeof(text) - 1, "", 0, ""                                    \
    }
#define LONG(status, a, fill, times, b)                                                  \
    {                                                                                    \
        status, 0, a, sizeof(a) - 1, fill, times, b                                      \
    }
#define LONG2(s, or, a, fill, times, b)                                                  \
    {                                                                                    \
        s, or, a, sizeof(a) - 1, fill, times, b                                          \
    }
#define GET_HOST    "GET / HTTP/1.1\r\nHost: x\r\n"
#define FIELD(line) GET_HOST line "\r\n\r\n"
#define HOST(value) "GET / HTTP/1.1\r\nHost:" value "\r\n\r\n"
#define POST_WITH(fields, body)                                                          \
    "POST /echo HTTP/1.1\r\nHost: x\r\n" fields "\r\n\r\n" body
#define CHUNKS(body)  POST_WITH("Transfer-Encoding: chunked", body)
#define CODING(value) POST_WITH("Transfer-Encoding:" value, "0\r\n\r\n")
#define LENGTH(value) POST_WITH("Content-Length:" value, "hello")
#define LINE(line)    line "\r\nHost: x\r\n\r\n"

/* clang-format off */
static const struct hostile hostiles[] = {
    /* request line: RFC 9112 section 3 */
    BAD(400, LINE("GET")),
    BAD2(400, 505, LINE("GET /")),
    BAD(400, LINE("GET  / HTTP/1.1")),
    BAD(400, LINE("GET /  HTTP/1.1")),
    BAD(400, LINE("GET / HTTP/1.1 ")),
    BAD(400, LINE(" GET / HTTP/1.1")),
    BAD(400, LINE("GET\t/ HTTP/1.1")),
    BAD(400, LINE("GET /\tHTTP/1.1")),
    BAD(400, LINE("GET /a b HTTP/1.1")),
    BAD(400, LINE("GET HTTP/1.1")),
    BAD2(400, 505, LINE("GET / http/1.1")),
    BAD2(400, 505, LINE("GET / HTTP/1")),
    BAD2(400, 505, LINE("GET / HTTP/11")),
    BAD2(400, 505, LINE("GET / HTTP/1.10")),
    BAD2(400, 505, LINE("GET / HTTP/1.x")),
    BAD2(400, 505, LINE("GET / HTTP/x.1")),
    BAD2(400, 505, LINE("GET / HTTP/ 1.1")),
    BAD2(400, 505, LINE("GET / FTP/1.1")),
    BAD2(400, 505, LINE("GET / HTTP/1.1x")),
    BAD(505, LINE("GET / HTTP/2.0")),
    BAD(505, LINE("GET / HTTP/3.0")),
    BAD(505, LINE("GET / HTTP/0.9")),
    BAD(505, LINE("GET / HTTP/9.9")),
    BAD2(505, 501, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    BAD(501, LINE("FOO / HTTP/1.1")),
    BAD(501, LINE("get / HTTP/1.1")),
    BAD(501, LINE("GETT / HTTP/1.1")),
    BAD(501, LINE("GE / HTTP/1.1")),
    BAD(501, LINE("CONNECT x:443 HTTP/1.1")),
    BAD(400, LINE("G@T / HTTP/1.1")),
    BAD(400, LINE("G(T / HTTP/1.1")),
    BAD(400, LINE("GE\0T / HTTP/1.1")),
    BAD(400, LINE("\0GET / HTTP/1.1")),
    BAD(400, LINE("\x16\x03\x01\x02")), /* TLS */
    BAD(400, LINE("GET /\0 HTTP/1.1")),
    BAD(400, LINE("GET /\x01 HTTP/1.1")),
    BAD(400, LINE("GET /\x7f HTTP/1.1")),
    BAD(400, LINE("GET /\xff HTTP/1.1")),
    BAD(400, LINE("GET /#fragment HTTP/1.1")),
    BAD(400, LINE("GET /%zz HTTP/1.1")),
    BAD(400, LINE("GET /?n=%4 HTTP/1.1")),
    BAD(400, LINE("GET foo HTTP/1.1")),
    BAD(400, LINE("GET * HTTP/1.1")),
    BAD(400, LINE("GET http:// HTTP/1.1")),
    BAD(400, LINE("GET http:///path HTTP/1.1")),
    BAD(400, LINE("GET http:/path HTTP/1.1")),
    BAD(400, LINE("GET http://a b/ HTTP/1.1")),
    /* ends of lines: what section 2.2 lets a server repair is refused here */
    BAD(400, "GET / HTTP/1.1\nHost: x\n\n"),
    BAD(400, "GET / HTTP/1.1\nHost: x\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: x\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: x\r\n\n"),
    BAD(400, "GET / HTTP/1.1\rHost: x\r\r"),
    BAD(400, "GET / HTTP/1.1\r\r\nHost: x\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: x\r\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: x\r\n\rX: y\r\n\r\n"),
    BAD(400, "\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    BAD(400, "\rGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    /* fields: section 5 */
    BAD(400, FIELD("Host : x")),
    BAD(400, FIELD("Name\t: x")),
    BAD(400, FIELD("no colon")),
    BAD(400, FIELD("NoColon")),
    BAD(400, FIELD(": no name")),
    BAD(400, FIELD("Bad Name: x")),
    BAD(400, FIELD("Bad@Name: x")),
    BAD(400, FIELD("Bad\"Name: x")),
    BAD(400, FIELD("N\xc3\xa4me: x")),
    BAD(400, FIELD("N\0: x")),
    BAD(400, FIELD("A: a\0b")),
    BAD(400, FIELD("A: a\x01" "b")),
    BAD(400, FIELD("A: a\x7f" "b")),
    BAD(400, FIELD("A: a\rb")),
    BAD(400, FIELD("A: a\nb")),
    BAD(400, FIELD("A: a\r\n folded")),
    BAD(400, FIELD("A: a\r\n\tfolded")),
    BAD(400, "GET / HTTP/1.1\r\n Host: x\r\nHost: x\r\n\r\n"),
    BAD(400, FIELD("X: y\r\n Transfer-Encoding: chunked")),
    /* Host: section 3.2 */
    BAD(400, "GET / HTTP/1.1\r\n\r\n"),
    BAD(400, "GET http://x/ HTTP/1.1\r\n\r\n"),
    /* https on a plain socket: RFC 9110 section 7.4 */
    BAD(421, "GET https://x/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    BAD(421, "GET HTTPS://x:443/ HTTP/1.1\r\nHost: x:443\r\n\r\n"),
    BAD(400, FIELD("Host: x")),
    BAD(400, FIELD("Host: y")),
    BAD(400, FIELD("host:")),
    BAD(400, "GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n"),
    BAD(400, HOST("a b")),
    BAD(400, HOST("a/b")),
    BAD(400, HOST("a?b")),
    BAD(400, HOST("a#b")),
    BAD(400, HOST("user@x")),
    BAD(400, HOST("x:port")),
    BAD(400, HOST("x:12a")),
    BAD(400, HOST("a:1:2")),
    BAD(400, HOST("[::1")),
    BAD(400, HOST("::1")),
    BAD(400, HOST("a\\b")),
    BAD(400, HOST("<x>")),
    BAD(400, HOST("\xff")),
    /* Content-Length: section 6.2 */
    BAD(400, LENGTH("5\r\nTransfer-Encoding: chunked")),
    BAD(400, POST_WITH("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n")),
    BAD(400, POST_WITH("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nG")),
    BAD(400, LENGTH("5\r\nContent-Length: 6")),
    BAD(400, LENGTH("5\r\nContent-Length: 5")),
    BAD(400, LENGTH("5, 6")),
    BAD(400, LENGTH("5, 5")),
    BAD(400, LENGTH("abc")),
    BAD(400, LENGTH("-5")),
    BAD(400, LENGTH("+5")),
    BAD(400, LENGTH("0x5")),
    BAD(400, LENGTH("5 5")),
    BAD(400, LENGTH("5;")),
    BAD(400, LENGTH("5.0")),
    BAD(400, LENGTH("")),
    BAD(400, LENGTH("\"5\"")),
    BAD(400, LENGTH("5\x0b")),
    BAD(400, POST_WITH("Content-Length : 5", "hello")),
    BAD2(400, 413, LENGTH("99999999999999999999")),
    BAD2(400, 413, LENGTH("18446744073709551616")),
    BAD2(400, 413, LENGTH("18446744073709551621")), /* 5, in 64 bits */
    BAD2(400, 413, LENGTH("9223372036854775808")),
    BAD(413, LENGTH("4294967301")), /* 5, in 32 bits */
    BAD(413, LENGTH("1048577")),
    BAD(413, POST_WITH("Content-Length: 1048577\r\nExpect: 100-continue", "")),
    /* Transfer-Encoding: section 6.1 */
    BAD2(400, 501, CODING("")),
    BAD2(400, 501, CODING("identity")),
    BAD2(400, 501, CODING("gzip")),
    BAD2(400, 501, CODING("chunked, gzip")),
    BAD2(400, 501, CODING("chunked, identity")),
    BAD2(501, 400, CODING("gzip, chunked")),
    BAD2(400, 501, CODING("chunked, chunked")),
    BAD2(400, 501, CODING("xchunked")),
    BAD2(400, 501, CODING("chunkedx")),
    BAD2(400, 501, CODING("chunk")),
    BAD2(400, 501, CODING("\"chunked\"")),
    BAD2(400, 501, CODING("chunked;q=1")),
    BAD2(400, 501, CODING("chunked\r\nTransfer-Encoding: identity")),
    BAD2(400, 501, CODING("chunked\r\nTransfer-Encoding: chunked")),
    BAD(400, CODING("chunked\x0b")),
    BAD(400, CODING("\x0b" "chunked")),
    BAD(400, CODING("\xa0" "chunked")),
    BAD(400, POST_WITH("Transfer-Encoding : chunked", "0\r\n\r\n")),
    BAD(400, POST_WITH("Transfer-Encoding\0: chunked", "0\r\n\r\n")),
    BAD(400, "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    /* chunks: section 7.1 */
    BAD(400, CHUNKS("x\r\nhello\r\n0\r\n\r\n")),
    BAD(400, CHUNKS("-5\r\nhello\r\n0\r\n\r\n")),
    BAD(400, CHUNKS("+5\r\nhello\r\n0\r\n\r\n")),
    BAD(400, CHUNKS("0x5\r\nhello\r\n0\r\n\r\n")),
    BAD(400, CHUNKS(" 5\r\nhello\r\n0\r\n\r\n")),
    BAD(400, CHUNKS("5 \r\nhello\r\n0\r\n\r\n")),
    BAD(400, CHUNKS("5 5\r\nhello\r\n0\r\n\r\n")),
    BAD(400, CHUNKS("\r\nhello\r\n0\r\n\r\n")),
    BAD(400, CHUNKS(";ext\r\nhello\r\n0\r\n\r\n")),
    BAD(400, CHUNKS("5\nhello\r\n0\r\n\r\n")),
    BAD(400, CHUNKS("5\rhello\r\n0\r\n\r\n")),
    BAD(400, CHUNKS("5\r\nhello\n0\r\n\r\n")),
    BAD(400, CHUNKS("5\r\nhello0\r\n\r\n")),
    BAD(400, CHUNKS("5\r\nhello\r0\r\n\r\n")),
    BAD(400, CHUNKS("3\r\nhello\r\n0\r\n\r\n")),
    BAD(400, CHUNKS("5\r\nhello\r\n0\r\n\rX")),
    BAD(400, CHUNKS("5;a\rb\r\nhello\r\n0\r\n\r\n")),
    BAD(400, CHUNKS("5;a\nb\r\nhello\r\n0\r\n\r\n")),
    BAD(400, CHUNKS("5;a\0b\r\nhello\r\n0\r\n\r\n")),
    BAD2(400, 413, CHUNKS("FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n")),
    BAD2(400, 413, CHUNKS("FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n")),
    BAD2(400, 413, CHUNKS("10000000000000005\r\nhello\r\n0\r\n\r\n")), /* 5, in 64 bits */
    BAD2(400, 413, CHUNKS("100000005\r\nhello\r\n0\r\n\r\n")),         /* 5, in 32 bits */
    BAD(413, CHUNKS("100001\r\nhello\r\n0\r\n\r\n")),
    BAD(413, CHUNKS("5\r\nhello\r\nfffff\r\n0\r\n\r\n")),
    BAD(400, CHUNKS("5\r\nhello\r\n0\r\nbad trailer\r\n\r\n")),
    BAD(400, CHUNKS("5\r\nhello\r\n0\r\nT: t\r\n folded\r\n\r\n")),
    BAD(400, CHUNKS("5\r\nhello\r\n0\r\nT: \0\r\n\r\n")),
    BAD(400, CHUNKS("5\r\nhello\r\n0\r\nT: t\n\r\n")),
    LONG(400, CHUNKS("5;"), "x", 5000, "\r\nhello\r\n0\r\n\r\n"),
    LONG(400, CHUNKS(""), "1;0123456789\r\nx\r\n", 500, "0\r\n\r\n"),
    LONG(431, CHUNKS("0\r\n"), "T: t\r\n", 70, "\r\n"),
    LONG(431, CHUNKS("0\r\nT: "), "x", 17000, "\r\n\r\n"),
    /* limits */
    LONG(414, "GET /", "x", 9000, " HTTP/1.1\r\nHost: x\r\n\r\n"),
    LONG(414, "GET /?n=", "1", 9000, " HTTP/1.1\r\nHost: x\r\n\r\n"),
    LONG(414, "GET /", "x", 200000, ""),
    LONG2(501, 414, "", "X", 9000, " / HTTP/1.1\r\nHost: x\r\n\r\n"),
    LONG2(400, 505, "GET / HTTP/1.", "1", 9000, "\r\nHost: x\r\n\r\n"),
    LONG(431, GET_HOST "A: ", "x", 17000, "\r\n\r\n"),
    LONG(431, GET_HOST, "x", 17000, ": y\r\n\r\n"),
    LONG(431, GET_HOST "A: ", "x", 200000, ""),
    LONG(431, GET_HOST, "Name: value\r\n", 64, "\r\n"),
    LONG(431, GET_HOST, "A: \r\n", 5000, "\r\n"),
    BAD(417, FIELD("Expect: something")),
    BAD(417, FIELD("Expect: 100-continue, something")),
    BAD(417, POST_WITH("Expect: 200-ok\r\nContent-Length: 5", "hello")),
};
/* clang-format on */

static void send_hostile(struct client *c, const struct hostile *h)
{
    static const char smuggled[] = "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n";
    size_t fill = strlen(h->fill), after = strlen(h->after), n = 0;
    char *all = malloc(h->before_len + fill * (size_t)h->times + after + sizeof smuggled);

    ck_assert_ptr_nonnull(all);
    memcpy(all, h->before, h->before_len);
    n += h->before_len;
    for (int i = 0; i < h->times; i++, n += fill)
        memcpy(all + n, h->fill, fill);
    memcpy(all + n, h->after, after);
    n += after;
    memcpy(all + n, smuggled, sizeof smuggled - 1);
    n += sizeof smuggled - 1;
    client_offer(c, all, n);
    free(all);
}

START_TEST(refuses)
{
    const struct hostile *h = &hostiles[_i];
    struct client c;

    client_open(&c, &shared);
    send_hostile(&c, h);
    client_read(&c, &r, "GET");
    ck_assert_msg(r.status == h->status || r.status == h->or_status,
                  "\"%.300s\": status %d expected; got: %s\n%.300s", h->before, h->status,
                  r.head, r.body);
    ck_assert_msg(!r.keep_alive, "\"%.300s\": the answer does not say close: %s",
                  h->before, r.head);
    ck_assert_msg(r.body_len > 0, "\"%.300s\": the answer does not say why", h->before);
    client_expect_end(&c, PATIENCE_MS);
    client_close(&c);
}
END_TEST

/* The largest that must be taken, and one more. line: of the request line with its end;
 * head: all of the head; fields: how many. 0: whatever. */
static void send_sized(struct client *c, int line, int head, int fields)
{
    char text[20000];
    int n = 0;

    n += sprintf(text, "GET /?");
    for (int end = line ? line - (int)strlen(" HTTP/1.1\r\n") : n + 1; n < end; n++)
        text[n] = 'x';
    n += sprintf(text + n, " HTTP/1.1\r\nHost: x\r\n");
    for (int i = 1; i < fields; i++)
        n += sprintf(text + n, "F%d: x\r\n", i);
    if (head) {
        n += sprintf(text + n, "Long: ");
        for (; n < head - 4; n++)
            text[n] = 'x';
        n += sprintf(text + n, "\r\n");
    }
    n += sprintf(text + n, "\r\n");
    client_offer(c, text, (size_t)n);
}

static const struct {
    int line, head, fields, status;
} sizes[] = {
    { HTTP_MAX_LINE, 0, 0, 200 },   { HTTP_MAX_LINE + 1, 0, 0, 414 },
    { 0, HTTP_MAX_HEAD, 0, 200 },   { 0, HTTP_MAX_HEAD + 1, 0, 431 },
    { 0, 0, HTTP_MAX_FIELDS, 200 }, { 0, 0, HTTP_MAX_FIELDS + 1, 431 },
};

START_TEST(limits_of_the_head)
{
    struct client c;

    client_open(&c, &shared);
    send_sized(&c, sizes[_i].line, sizes[_i].head, sizes[_i].fields);
    client_expect(&c, &r, sizes[_i].status);
    if (sizes[_i].status != 200)
        client_expect_end(&c, PATIENCE_MS);
    client_close(&c);
}
END_TEST

/* ---- clients that misbehave ---- */

START_TEST(half_closed_client_is_answered)
{
    struct client c;

    client_open(&c, &shared);
    client_say(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    shutdown(c.fd, SHUT_WR);
    client_expect(&c, &r, 200);
    client_expect_close(&c, PATIENCE_MS);
    client_close(&c);

    client_open(&c, &shared);
    client_say(&c, "GET /bytes?n=4194304 HTTP/1.1\r\nHost: x\r\n\r\n"
                   "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    shutdown(c.fd, SHUT_WR);
    client_expect(&c, &r, 200);
    ck_assert_uint_eq(r.body_len, 4 << 20);
    client_expect(&c, &r, 200);
    client_expect_close(&c, PATIENCE_MS);
    client_close(&c);
}
END_TEST

START_TEST(end_of_stream_within_a_request)
{
    static const char *const starts[] = { "", "G", "GET / HTTP/1.1\r\nHo", mixture + 2 };
    struct client c;

    for (int i = 0; i < COUNT(starts); i++) {
        client_open(&c, &shared);
        client_send(&c, starts[i], i < 3 ? strlen(starts[i]) : 70);
        shutdown(c.fd, SHUT_WR);
        if (i == 3)
            client_expect(&c, &r, 200);
        client_expect_close(&c, PATIENCE_MS); /* and no answer to half a request */
        client_close(&c);
    }
}
END_TEST

/* Resets and vanishing readers: no SIGPIPE, no failed write ends a process. */
START_TEST(resets_do_no_harm)
{
    static const char *const starts[] = {
        "",
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
        "GET /bytes?n=67108864 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /bytes?n=67108864 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n",
        "GET /sleep?ms=20 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n",
    };

    for (int i = 0; i < COUNT(starts) * 6; i++) {
        struct client c;

        client_open(&c, &shared);
        client_say(&c, "%s", starts[i / 6]);
        if (i % 2 && i / 6 >= 4)
            ck_assert_int_gt(recv(c.fd, c.in, 100, 0),
                             0); /* in the middle of the answer */
        i % 3 ? client_reset(&c) : client_close(&c);
    }
    fetch(&shared, "GET", "/", &r, 200);
    check_survived(&shared, shared_pids, shared_count);
}
END_TEST

START_TEST(many_short_connections)
{
    for (int i = 0; i < 500; i++)
        fetch(&shared, "GET", "/", &r, 200);
    check_survived(&shared, shared_pids, shared_count);
}
END_TEST

/* With and without clients, stopped, continued, told of windows and of children that are
 * not. */
START_TEST(harmless_signals_do_no_harm)
{
    static const int signals[] = { SIGWINCH, SIGCHLD, SIGURG, SIGCONT };
    struct client c;

    client_open(&c, &shared);
    for (int i = 0; i < COUNT(signals); i++) {
        client_say(&c, "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n");
        client_expect(&c, &r, 200);
        client_say(&c, "GET / HTT"); /* asleep within a request */
        client_settle(&c);
        kill(-shared.pid, SIGSTOP);
        for (int p = 0; p < shared_count; p++)
            eventually(process_state(shared_pids[p]) == 'T', PATIENCE_MS);
        kill(-shared.pid, signals[i]);
        kill(-shared.pid, SIGCONT);
        client_say(&c, "P/1.1\r\nHost: x\r\n\r\n");
        client_expect(&c, &r, 200);
        kill(-shared.pid, signals[i]);
    }
    client_say(&c, "GET /sleep?ms=200 HTTP/1.1\r\nHost: x\r\n\r\n");
    client_settle(&c);
    for (int i = 0; i < COUNT(signals); i++)
        kill(-shared.pid, signals[i]);
    client_expect(&c, &r, 200);
    client_close(&c);
    fetch(&shared, "GET", "/", &r, 200);
    check_survived(&shared, shared_pids, shared_count);
}
END_TEST

/* ---- time-outs: servers of their own ---- */

/* What came between `start` and now must have taken `ms`, and not very much more. */
static void check_took(int64_t start, int ms)
{
    ck_assert_int_ge(clock_ms() - start, ms - 20);
    ck_assert_int_le(clock_ms() - start, scaled_ms(ms + 2000));
}

START_TEST(a_dripping_client_gets_408)
{
    struct server s;
    struct client c;
    int64_t start;

    server_start(&s, "-t 1");
    client_open(&c, &s);
    client_say(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); /* an answer does not buy time */
    client_expect(&c, &r, 200);
    start = clock_ms();
    client_say(&c, "GET / HTTP/1.1\r\nX: ");
    for (struct pollfd p = { c.fd, POLLIN, 0 }; poll(&p, 1, 50) == 0;) {
        ck_assert_msg(clock_ms() - start < scaled_ms(PATIENCE_MS), "dripping buys time");
        client_offer(&c, "x", 1);
    }
    client_expect(&c, &r, 408);
    check_took(start, 1000);
    ck_assert(!r.keep_alive);
    client_expect_close(&c, PATIENCE_MS);
    client_close(&c);
    server_stop(&s);
}
END_TEST

START_TEST(half_a_request_gets_408)
{
    struct server s;
    struct client c;
    int64_t start;

    server_start(&s, "-t 1 -k 30");
    client_open(&c, &s);
    start = clock_ms();
    client_say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf");
    client_expect(&c, &r, 408);
    check_took(start, 1000);
    client_expect_close(&c, PATIENCE_MS);
    client_close(&c);
    server_stop(&s);
}
END_TEST

START_TEST(idle_clients_are_closed)
{
    struct server s;
    struct client c;
    int64_t start;

    server_start(&s, "-k 1");
    client_open(&c, &s);
    start = clock_ms();
    client_say(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client_expect(&c, &r, 200);
    client_expect_close(&c, PATIENCE_MS);
    check_took(start, 1000);
    client_close(&c);

    start = clock_ms();
    client_open(&c, &s); /* and one that never says anything */
    client_expect_close(&c, PATIENCE_MS);
    check_took(start, 1000);
    client_close(&c);
    server_stop(&s);
}
END_TEST

START_TEST(keepalive_0_closes_after_each_answer)
{
    struct server s;
    struct client c;

    server_start(&s, "-k 0");
    client_open(&c, &s);
    client_say(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client_expect(&c, &r, 200);
    ck_assert(!r.keep_alive);
    client_expect_end(&c, PATIENCE_MS);
    client_close(&c);
    fetch(&s, "GET", "/", &r, 200);
    server_stop(&s);
}
END_TEST

/* The last answer on a connection is long, and the client asks on before it has read that
 * it is the last. A reset would cut off what is still on its way: RFC 9112 section 9.6. */
START_TEST(no_reset_cuts_the_last_answer)
{
    static const int lengths[] = { 3000000, 60000 };
    struct server s;
    struct client c;
    char first;

    server_start(&s, "-k 0");
    for (int i = 0; i < COUNT(lengths); i++) {
        c = (struct client){ .fd = connect_small(&s) };
        client_say(&c, "GET /bytes?n=%d HTTP/1.1\r\nHost: x\r\n\r\n", lengths[i]);
        eventually(recv(c.fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) == 1, PATIENCE_MS);
        client_say(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        client_expect(&c, &r, 200);
        ck_assert(!r.keep_alive);
        ck_assert_uint_eq(r.body_len, (size_t)lengths[i]);
        client_expect_end(&c, PATIENCE_MS);
        client_close(&c);
    }
    server_stop(&s);
}
END_TEST

#ifdef __SANITIZE_THREAD__
enum { UNREAD_KIB = 64 << 10 }; /* it keeps a shadow of all memory */
#else
enum { UNREAD_KIB = 16 << 10 };
#endif

/* It is dropped after -t seconds without progress, has cost a bounded amount of memory,
 * and others are served (by a stage that serves one at a time, afterwards). */
START_TEST(a_client_that_never_reads_is_dropped)
{
    struct server s;
    struct client c;
    long before;

    server_start(&s, "-t 1");
    for (int i = 0; i < 5; i++)
        fetch(&s, "GET", "/bytes?n=1000000", &r, 200);
    before = server_peak_kib(&s);
    c = (struct client){ .fd = connect_small(&s) };
    client_say(&c, "GET /bytes?n=67108864 HTTP/1.1\r\nHost: x\r\n\r\n");
    client_settle(&c);
    eventually((fetch(&s, "GET", "/stats", &r, 200), json_number(r.body, "timeouts") > 0),
               PATIENCE_MS);
    ck_assert_int_lt(json_number(r.body, "bytes_out"), 32 << 20);
    ck_assert_int_lt(server_peak_kib(&s) - before, UNREAD_KIB);
    client_close(&c);
    server_stop(&s);
}
END_TEST

/* Pipelined requests of a client that reads nothing must not pile up as answers. */
START_TEST(backpressure_stops_reading)
{
    enum { BODY = 100000 };
    char *request = malloc(BODY + 200);
    int n = sprintf(request,
                    "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", BODY);
    struct server s;
    struct client c;
    size_t sent = 0;
    long before;

    memset(request + n, 'x', BODY);
    server_start(&s, "");
    for (int i = 0; i < 5; i++)
        fetch(&s, "GET", "/bytes?n=1000000", &r, 200);
    before = server_peak_kib(&s);
    c = (struct client){ .fd = connect_small(&s) };
    for (struct pollfd p = { c.fd, POLLOUT, 0 }; poll(&p, 1, scaled_ms(200)) == 1;) {
        size_t at = sent % (size_t)(n + BODY);
        ssize_t took = send(c.fd, request + at, (size_t)(n + BODY) - at, MSG_DONTWAIT);

        ck_assert_int_gt(took, 0);
        sent += (size_t)took;
        ck_assert_msg(sent < 64 << 20,
                      "it reads on and on from a client that never reads");
    }
    ck_assert_int_lt(server_peak_kib(&s) - before, UNREAD_KIB);
    for (size_t i = 0; i < sent / (size_t)(n + BODY); i++) { /* nothing was lost */
        client_expect(&c, &r, 200);
        ck_assert_uint_eq(r.body_len, BODY);
    }
    client_close(&c);
    server_stop(&s);
    free(request);
}
END_TEST

START_TEST(max_body)
{
    struct server s;
    struct client c;

    server_start(&s, "--max-body 10");
    client_open(&c, &s);
    check_echo(&c, "POST", "text/plain", "0123456789", 10);
    client_say(&c,
               "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n0123456789a");
    client_expect(&c, &r, 413);
    client_expect_close(&c, PATIENCE_MS);
    client_close(&c);
    client_open(&c, &s);
    client_say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "a\r\n0123456789\r\n0\r\n\r\n"
                   "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "9\r\n012345678\r\n2\r\n9a\r\n0\r\n\r\n");
    client_expect(&c, &r, 200);
    client_expect(&c, &r, 413);
    client_expect_close(&c, PATIENCE_MS);
    client_close(&c);
    server_stop(&s);
}
END_TEST

/* A refused upload is read out for a while, so that the client gets to read the answer.
 */
START_TEST(refused_upload_reads_its_answer)
{
    char *body = make_body(3 << 20);
    struct client c;

    client_open(&c, &shared);
    client_say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n",
               3 << 20);
    client_offer(&c, body, 3 << 20);
    client_expect(&c, &r, 413);
    client_expect_end(&c, PATIENCE_MS);
    client_close(&c);
    free(body);
}
END_TEST

/* ---- stopping ---- */

static int64_t terminate(const struct server *s, int sig)
{
    kill(s->pid, sig);
    return clock_ms();
}

/* It ends by itself with status 0, within ms (scaled) of `start`. */
static void check_ends(struct server *s, int64_t start, int ms)
{
    int status = server_wait(s, ms);

    ck_assert_msg(status != -1, "still runs %d ms after the signal", ms);
    ck_assert_msg(status == 0, "wait status %#x: %s", (unsigned)status, server_log(s));
    ck_assert_int_le(clock_ms() - start, scaled_ms(ms));
    server_gone(s);
}

/* Idle, also with idle clients: at once. */
START_TEST(stops_at_once_when_idle)
{
    static const int signals[] = { SIGTERM, SIGINT };
    struct server s;
    struct client c;
    int64_t start;

    for (int i = 0; i < 2; i++) {
        server_start(&s, "");
        start = terminate(&s, signals[i]);
        check_ends(&s, start, STOP_TIMEOUT_MS - 500);

        server_start(&s, "");
        client_open(&c, &s);
        client_say(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        client_expect(&c, &r, 200);
        start = terminate(&s, signals[i]);
        client_expect_close(&c, PATIENCE_MS);
        client_close(&c);
        check_ends(&s, start, STOP_TIMEOUT_MS - 500);
    }
}
END_TEST

START_TEST(stops_after_what_is_in_flight)
{
    struct server s;
    struct client c;
    int64_t start;

    server_start(&s, "");
    client_open(&c, &s);
    client_say(&c, "GET /sleep?ms=500 HTTP/1.1\r\nHost: x\r\n\r\n");
    client_settle(&c);
    start = terminate(&s, SIGTERM);
    client_expect(&c, &r, 200);
    ck_assert(!r.keep_alive || r.body_len > 0);
    client_expect_close(&c, PATIENCE_MS);
    client_close(&c);
    check_ends(&s, start, STOP_TIMEOUT_MS + 1500);
}
END_TEST

/* A long answer that a client is reading is finished too. */
START_TEST(stops_after_the_answer_being_read)
{
    struct server s;
    struct client c;
    int64_t start;

    server_start(&s, "");
    c = (struct client){ .fd = connect_small(&s) };
    client_say(&c, "GET /bytes?n=6000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    client_settle(&c);
    start = terminate(&s, SIGTERM);
    client_expect(&c, &r, 200);
    ck_assert_uint_eq(r.body_len, 6000000);
    client_expect_close(&c, PATIENCE_MS);
    client_close(&c);
    check_ends(&s, start, STOP_TIMEOUT_MS + 1500);
}
END_TEST

START_TEST(stops_in_bounded_time)
{
    struct server s;
    struct client c;
    int64_t start;

    server_start(&s, "");
    client_open(&c, &s);
    client_say(&c, "GET / HTTP/1.1\r\nHo");
    client_settle(&c);
    start = terminate(&s, SIGTERM);
    check_ends(&s, start, STOP_TIMEOUT_MS + 1500);
    client_close(&c);
}
END_TEST

/* Without a bound of its own, too: the time-outs of the clients go on. */
START_TEST(time_outs_hold_while_stopping)
{
    static const char *const stalled[] = {
        "GET /bytes?n=67108864 HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHo"
    };
    struct server s;
    struct client c;
    int64_t start;

    server_start(&s, "-t 1");
    c = (struct client){ .fd = connect_small(&s) };
    client_say(&c, "%s", stalled[_i]);
    client_settle(&c);
    start = terminate(&s, SIGQUIT);
    check_ends(&s, start, PATIENCE_MS);
    client_close(&c);
}
END_TEST

START_TEST(a_second_signal_stops_at_once)
{
    struct server s;
    struct client c;
    int64_t start;

    server_start(&s, "");
    client_open(&c, &s);
    client_say(&c, "GET /sleep?ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n");
    client_settle(&c);
    terminate(&s, SIGTERM);
    client_expect_silence(&c, 100);
    start = terminate(&s, SIGTERM);
    ck_assert_msg(server_wait(&s, 1000) != -1,
                  "still runs a second after the second signal");
    ck_assert_int_le(clock_ms() - start, scaled_ms(1000));
    client_close(&c);
    server_gone(&s);
}
END_TEST

/* ---- full: for the stages that hold many clients ---- */

enum { CROWD = 40 };

/* Open clients and have each answered, until one is not. Returns how many were. */
static int fill_up(const struct server *s, struct client crowd[])
{
    for (int i = 0; i < CROWD; i++) {
        struct pollfd p;

        client_open(&crowd[i], s);
        client_say(&crowd[i], "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        p = (struct pollfd){ crowd[i].fd, POLLIN, 0 };
        if (poll(&p, 1, scaled_ms(200)) != 1)
            return i;
        client_expect(&crowd[i], &r, 200);
    }
    ck_abort_msg("%d clients fit", CROWD);
}

/* Full: no spinning; a second after a client left, the one that waits is served. */
static void check_full(struct server *s, int least, int most)
{
    struct client *crowd = calloc(CROWD, sizeof *crowd);
    int served = fill_up(s, crowd);
    int64_t cpu = server_cpu_ms(s), start;

    ck_assert_msg(served >= least && served <= most, "%d clients were served", served);
    client_expect_silence(&crowd[served], 300);
    cpu = server_cpu_ms(s) - cpu;
    ck_assert_msg(cpu <= scaled_ms(30), "%d ms of CPU in 300 ms of waiting", (int)cpu);
    for (int i = 0; i < served; i++) { /* those inside do not suffer */
        client_say(&crowd[i], "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        client_expect(&crowd[i], &r, 200);
    }
    client_close(&crowd[0]);
    start = clock_ms();
    client_expect(&crowd[served], &r, 200);
    ck_assert_int_le(clock_ms() - start, scaled_ms(1000));
    for (int i = 1; i <= served; i++)
        client_close(&crowd[i]);
    fetch(s, "GET", "/", &r, 200);
    free(crowd);
}

START_TEST(full_of_descriptors)
{
    struct server s;

    if (harness_wrapped()) {
        skip("valgrind needs descriptors of its own");
        return;
    }
    server_start_limited(&s, mode->workers ? "-w 1" : "", 24);
    check_full(&s, 10, 24);
    ck_assert_ptr_nonnull(strstr(server_log(&s), "accept"));
    server_stop(&s);
}
END_TEST

START_TEST(full_of_connections)
{
    struct server s;

    server_start(&s, mode->workers ? "-w 1 -c 5" : "-c 5");
    check_full(&s, 5, 5);
    server_stop(&s);
}
END_TEST

/* ---- command line ---- */

enum { WORKERS = 1, NO_WORKERS = 2, SELECT = 4, EPOLL = 8 };

static const struct {
    int status;
    unsigned only; /* for stages of this kind; 0: all */
    const char *args;
} command_lines[] = {
    { 2, 0, "--port abc" },
    { 2, 0, "-p -1" },
    { 2, 0, "-p 65536" },
    { 2, 0, "-p 80x" },
    { 2, 0, "-p 99999999999999999999" },
    { 2, 0, "-p" },
    { 2, 0, "--backlog 0" },
    { 2, 0, "-b x" },
    { 2, 0, "--max-connections 0" },
    { 2, 0, "-c -5" },
    { 2, 0, "--keepalive -1" },
    { 2, 0, "-k 1.5" },
    { 2, 0, "--request-timeout 0" },
    { 2, 0, "-t x" },
    { 2, 0, "-t 99999999999" },
    { 2, 0, "--max-body -1" },
    { 2, 0, "--max-body 1k" },
    { 2, 0, "--address nonsense" },
    { 2, 0, "-a localhost" },
    { 2, 0, "-a 999.0.0.1" },
    { 2, 0, "-a 127.1" },
    { 2, 0, "-a ::g" },
    { 2, 0, "--nonsense" },
    { 2, 0, "-Z" },
    { 2, 0, "stray" },
    { 2, WORKERS, "-w 0" },
    { 2, WORKERS, "-w -1" },
    { 2, WORKERS, "--workers 65" },
    { 2, WORKERS, "--workers two" },
    { 2, NO_WORKERS, "--workers 2" },
    { 2, SELECT, "--multiplexer=kqueue" },
    { 2, EPOLL, "--accept=all" },
    { 2, EPOLL, "--trigger=sometimes" },
    { 1, 0, "-a 192.0.2.1" },
    { 1, 0, "-a 2001:db8::1" },
};

/* Has this stage a mode with the option? */
static bool stage_takes(const char *option)
{
    int n;
    const struct mode *modes = harness_modes(&n);

    for (int i = 0; i < n; i++)
        if (strcmp(modes[i].stage, mode->stage) == 0 && strstr(modes[i].args, option))
            return true;
    return false;
}

static unsigned kind(void)
{
    return (mode->workers ? WORKERS : NO_WORKERS) |
           (stage_takes("--multiplexer") ? SELECT : 0) |
           (stage_takes("--trigger") ? EPOLL : 0);
}

/* The exit status, nothing on stdout, and one line on stderr that starts with the name.
 */
static void check_dies(const char *args, int status)
{
    static struct outcome o;
    const char *end;

    server_run(&o, args);
    ck_assert_msg(o.status == status, "%s: exit status %d; stderr: %s", args, o.status,
                  o.err);
    end = strchr(o.err, '\n');
    ck_assert_msg(end && end[1] == '\0', "%s: not one line on stderr: \"%s\"", args,
                  o.err);
    ck_assert_msg(strncmp(o.err, mode->stage, strlen(mode->stage)) == 0, "%s", o.err);
    ck_assert_str_eq(o.out, "");
}

START_TEST(wrong_command_line)
{
    if (command_lines[_i].only == 0 || command_lines[_i].only & kind())
        check_dies(command_lines[_i].args, command_lines[_i].status);
}
END_TEST

START_TEST(port_in_use)
{
    char args[32];

    snprintf(args, sizeof args, "--port %d", shared.port);
    check_dies(args, 1);
    fetch(&shared, "GET", "/", &r, 200);
}
END_TEST

START_TEST(help_and_version)
{
    static const char *const words[] = { "--address",         "--port",
                                         "--backlog",         "--keepalive",
                                         "--max-connections", "--request-timeout",
                                         "--max-body" };
    static struct outcome o;

    server_run(&o, "--help");
    ck_assert_int_eq(o.status, 0);
    for (int i = 0; i < COUNT(words); i++)
        ck_assert_msg(strstr(o.out, words[i]), "--help does not tell of %s", words[i]);
    ck_assert(!strstr(o.out, "--workers") == !(kind() & WORKERS));
    ck_assert(!strstr(o.out, "--multiplexer") == !(kind() & SELECT));
    ck_assert(!strstr(o.out, "--trigger") == !(kind() & EPOLL));
    server_run(&o, "--version");
    ck_assert_int_eq(o.status, 0);
    ck_assert_str_ne(o.out, "");
}
END_TEST

START_TEST(listens_on_ipv6)
{
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 loopback = { .sin6_family = AF_INET6,
                                     .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    bool there = fd >= 0 && bind(fd, (struct sockaddr *)&loopback, sizeof loopback) == 0;
    struct server s;

    if (fd >= 0)
        close(fd);
    if (!there) {
        skip("there is no IPv6 here");
        return;
    }
    server_start(&s, "-a ::1");
    ck_assert_ptr_nonnull(strstr(s.banner, ": listening on [::1]:"));
    fetch(&s, "GET", "/", &r, 200);
    server_stop(&s);
}
END_TEST

START_TEST(capped_backlog_is_said)
{
    struct server s;

    server_start(&s, "-b 2000000000");
    ck_assert_msg(strstr(server_log(&s), "backlog"), "stderr: %s", server_log(&s));
    fetch(&s, "GET", "/", &r, 200);
    server_stop(&s);
}
END_TEST

START_TEST(quiet_and_verbose)
{
    struct server s;
    struct client c;

    for (int i = 0; i < 2; i++) {
        server_start(&s, i ? "-v" : "-q");
        client_open(&c, &s);
        client_say(&c, "nonsense\r\n\r\n");
        client_expect(&c, &r, 400);
        client_close(&c);
        if (i)
            eventually(*server_log(&s), PATIENCE_MS);
        else
            ck_assert_str_eq(server_log(&s), "");
        server_stop(&s);
    }
}
END_TEST

/* ---- the case of one mode ---- */

static void add_http_tests(TCase *tc)
{
    tcase_add_test(tc, first_line_of_stdout);
    tcase_add_test(tc, route_root);
    tcase_add_test(tc, route_echo);
    tcase_add_test(tc, route_echo_large);
    tcase_add_test(tc, route_echo_chunked);
    tcase_add_test(tc, route_echo_chunked_large);
    tcase_add_test(tc, routes_sleep_and_burn);
    tcase_add_test(tc, route_bytes);
    tcase_add_test(tc, bytes_survive_partial_writes);
    tcase_add_test(tc, route_whoami);
    tcase_add_test(tc, route_stats);
    tcase_add_loop_test(tc, application_refuses, 0, COUNT(refusals));
    tcase_add_test(tc, head_is_get_without_body);
    tcase_add_loop_test(tc, keep_alive_rules, 0, COUNT(keep_alives));
    tcase_add_test(tc, nothing_behind_close_is_answered);
    tcase_add_test(tc, pipelining_keeps_the_order);
    tcase_add_test(tc, pipelining_byte_by_byte);
    tcase_add_test(tc, requests_split_at_every_byte);
    tcase_add_test(tc, expect_100_continue);
    tcase_add_test(tc, expect_is_ignored_in_http_1_0);
    tcase_add_loop_test(tc, accepts, 0, COUNT(accepted));
    tcase_add_loop_test(tc, refuses, 0, COUNT(hostiles));
    tcase_add_loop_test(tc, limits_of_the_head, 0, COUNT(sizes));
}

static void add_client_tests(TCase *tc)
{
    tcase_add_test(tc, half_closed_client_is_answered);
    tcase_add_test(tc, end_of_stream_within_a_request);
    tcase_add_test(tc, resets_do_no_harm);
    tcase_add_test(tc, many_short_connections);
    tcase_add_test(tc, harmless_signals_do_no_harm);
    tcase_add_test(tc, refused_upload_reads_its_answer);
    tcase_add_test(tc, a_dripping_client_gets_408);
    tcase_add_test(tc, half_a_request_gets_408);
    tcase_add_test(tc, idle_clients_are_closed);
    tcase_add_test(tc, keepalive_0_closes_after_each_answer);
    tcase_add_test(tc, no_reset_cuts_the_last_answer);
    tcase_add_test(tc, a_client_that_never_reads_is_dropped);
    tcase_add_test(tc, backpressure_stops_reading);
    tcase_add_test(tc, max_body);
}

static void add_process_tests(TCase *tc)
{
    tcase_add_test(tc, stops_at_once_when_idle);
    tcase_add_test(tc, stops_after_what_is_in_flight);
    tcase_add_test(tc, stops_after_the_answer_being_read);
    tcase_add_test(tc, stops_in_bounded_time);
    tcase_add_loop_test(tc, time_outs_hold_while_stopping, 0, 2);
    tcase_add_test(tc, a_second_signal_stops_at_once);
    if (mode->at_once == INT_MAX) {
        tcase_add_test(tc, full_of_descriptors);
        tcase_add_test(tc, full_of_connections);
    }
    tcase_add_loop_test(tc, wrong_command_line, 0, COUNT(command_lines));
    tcase_add_test(tc, port_in_use);
    tcase_add_test(tc, help_and_version);
    tcase_add_test(tc, whoami_of_a_long_name);
    tcase_add_test(tc, listens_on_ipv6);
    tcase_add_test(tc, capped_backlog_is_said);
    tcase_add_test(tc, quiet_and_verbose);
}

static void add_tests(TCase *tc)
{
    tcase_add_unchecked_fixture(tc, start_shared, stop_shared);
    add_http_tests(tc);
    add_client_tests(tc);
    if (!harness_foreign())
        add_process_tests(tc);
    tcase_add_test(tc, shared_server_survived);
}

int main(void)
{
    return harness_run("blackbox", add_tests, 20);
}
