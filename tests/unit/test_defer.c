/* test_defer.c - answers that come later: conn.c and http1.c over socketpair(2), and over
 * TCP where only TCP shows a reset, with an application that defers.
 * Does not: start a stage. */
#include <check.h>
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/stop.h"
#include "board/stats.h"
#include "conn/app.h"
#include "conn/conn.h"
#include "conn/http1.h"
#include "conn/turn.h"
#include "harness/pair.h"

enum {
    MAX_BODY = 100000,
    DESCRIPTION = MAX_BODY + 3 * HTTP_MAX_LINE,
    CLIENTS = 16,
    JOBS = 20000,
    REPLIES = 4 << 20, /* the most a client receives */
    PATIENCE_MS = 5000,
};

#define HOST         "Host: a\r\n"
#define GET(target)  "GET " target " HTTP/1.1\r\n" HOST "\r\n"
#define SAID(target) "GET " target " [] []" /* what the application answers to it */

/* ---- The application ---- */

static struct task {
    struct conn *c; /* NULL: answered or cancelled */
    const struct request *req;
} jobs[JOBS];
static int deferred, answered, cancelled, closed; /* counts */
static char history[64];                          /* of cancels and closes */

static void remember(const char *what)
{
    if (strlen(history) + strlen(what) < sizeof(history))
        strcat(history, what);
}

static void letters(uint64_t offset, char *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (char)('a' + (offset + i) % 26);
}

static bool begins(struct slice s, const char *with)
{
    return s.len >= strlen(with) && memcmp(s.base, with, strlen(with)) == 0;
}

/* ---- A body that comes late ---- */

/* Letters, as many as were let out. In whichever framing `tap.response` needs. */
static struct tap {
    struct out_source source; /* first */
    struct http_response response;
    struct conn *c;
    size_t out, pulled; /* letters: let out, and taken of them */
    bool ended, broken; /* behind them */
    int late, gone;     /* how often it was late, and given back */
} tap;

static bool tap_ready(struct out_source *source)
{
    (void)source;
    return tap.pulled < tap.out || tap.ended || tap.broken;
}

static ssize_t tap_pull(struct out_source *source, char *room, size_t size)
{
    size_t n = tap.out - tap.pulled < size ? tap.out - tap.pulled : size;

    ck_assert_ptr_eq(source, &tap.source);
    ck_assert_int_eq(tap.gone, 0);
    ck_assert_uint_ge(size, OUT_PIECE);
    if (n == 0 && !tap_ready(source)) {
        tap.late++;
        return OUT_LATER;
    }
    if (n == 0)
        return tap.broken ? OUT_BROKEN : 0;
    letters(tap.pulled, room, n);
    tap.pulled += n;
    return (ssize_t)n;
}

static void tap_end(struct out_source *source)
{
    ck_assert_ptr_eq(source, &tap.source);
    tap.gone++;
}

/* More letters, then perhaps the end, or a break. */
static void let_out(size_t n, bool ended, bool broken)
{
    bool awaited = tap.c->out.late;

    tap.out += n;
    tap.ended = ended;
    tap.broken = broken;
    if (awaited)
        conn_pull_on(tap.c);
}

enum { TAPPED = 300000 }; /* letters of a body with a length */

/* /tap?length, /tap?chunked, /tap?close */
static void reply_by_tap(struct conn *c, const struct request *req)
{
    enum http_framing framing =
        req->query.base[0] == 'l' ? HTTP_BODY_LENGTH : HTTP_BODY_CHUNKED;

    tap = (struct tap){ .source = { tap_pull, tap_ready, tap_end },
                        .response = { .status = 200,
                                      .minor = 1,
                                      .framing = framing,
                                      .has_length = framing == HTTP_BODY_LENGTH,
                                      .length = TAPPED,
                                      .reason = SLICE("OK"),
                                      .fields = SLICE("") },
                        .c = c };
    http_reply_relayed(c, req, &tap.response, &tap.source);
}

/* To .../letters?n=N: N letters, produced; else all there is to know of the request. */
static void reply_to(struct conn *c, const struct request *req)
{
    static char text[DESCRIPTION];
    char number[16];
    int len;

    if (memmem(req->path.base, req->path.len, "/tap", 4)) {
        reply_by_tap(c, req);
        return;
    }
    if (memmem(req->path.base, req->path.len, "/letters", 8)) {
        ck_assert_int_gt(http_query(req->query, "n", number, sizeof(number)), 0);
        http_reply_produced(c, req, SLICE("text/plain"), strtoul(number, NULL, 10),
                            letters);
        return;
    }
    len =
        snprintf(text, sizeof(text), "%s %.*s%s%.*s [%.*s] [%.*s]",
                 http_method_name(req->method), (int)req->path.len, req->path.base,
                 req->query.len > 0 ? "?" : "", (int)req->query.len, req->query.base,
                 (int)req->type.len, req->type.base, (int)req->body.len, req->body.base);
    http_reply(c, req, 200, SLICE("text/plain"), SLICE(""),
               (struct slice){ text, (size_t)len });
}

static void answer(int number)
{
    struct task *job = &jobs[number];
    struct conn *c = job->c;

    ck_assert_msg(number < deferred && c && c->deferred && c->job == job,
                  "job %d of %d is not waiting", number, deferred);
    job->c = NULL;
    answered++;
    reply_to(c, job->req);
    ck_assert_ptr_null(c->job);
}

/* /now: answered at once. /both: deferred, and answered at once. /wake: first the oldest
 * that waits is answered, whosever it is. /later, and whatever else: deferred. */
static void on_message(struct conn *c, const void *message)
{
    const struct request *req = message;
    struct task *job = &jobs[deferred];

    ck_assert(!c->deferred);
    if (begins(req->path, "/wake")) {
        int oldest = 0;

        while (jobs[oldest].c == NULL)
            oldest++;
        answer(oldest);
    }
    if (begins(req->path, "/wake") || begins(req->path, "/now")) {
        reply_to(c, req);
        return;
    }
    ck_assert_int_lt(deferred, JOBS);
    *job = (struct task){ c, http_defer(c, req) };
    ck_assert_ptr_nonnull(job->req);
    c->job = job;
    deferred++;
    if (begins(job->req->path, "/both"))
        answer(deferred - 1);
}

static void on_cancel(struct conn *c)
{
    struct task *job = c->job;

    ck_assert(c->deferred);
    ck_assert_ptr_eq(job->c, c);
    ck_assert_uint_gt(job->req->path.len, 0); /* it lives until this has returned */
    ck_assert_int_eq(job->req->path.base[0], '/');
    job->c = NULL;
    cancelled++;
    remember("cancel ");
}

static void on_close(struct conn *c)
{
    ck_assert(!c->deferred && c->job == NULL);
    closed++;
    remember("close ");
}

const struct app app = { .protocol = &http1,
                         .on_message = on_message,
                         .on_cancel = on_cancel,
                         .on_close = on_close };

/* ---- Both ends ---- */

enum way { UNIX, TCP };

static struct options opt;
static struct client {
    struct conn *c; /* the server's end; NULL: closed */
    int fd;         /* the client's end; -1: closed */
    char *received;
    size_t len, read; /* of which so much was looked at */
    bool ended;       /* the end of the stream was received */
    bool reset;       /* recv(2) failed */
} clients[CLIENTS];
static int clients_count;

static struct client *come(enum way way)
{
    struct client *k = &clients[clients_count];
    int fds[2];

    ck_assert_int_lt(clients_count, CLIENTS);
    if (clients_count++ == 0)
        conn_setup(&opt, false);
    if (way == TCP)
        tcp_pair(fds, SOCK_NONBLOCK);
    else
        ck_assert_int_eq(
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    *k = (struct client){ .c = conn_open(fds[0]),
                          .fd = fds[1],
                          .received = malloc(REPLIES) };
    ck_assert(k->c && k->received);
    return k;
}

static void set_up(void)
{
    opt = (struct options){ .name = "test_defer",
                            .workers = 1,
                            .keepalive_ms = 60000,
                            .request_timeout_ms = 60000,
                            .reply_timeout_ms = 60000,
                            .max_body = MAX_BODY };
}

/* Whatever the test did, nothing may be left, and each deferral had one end. */
static void tear_down(void)
{
    for (int i = 0; i < clients_count; i++) {
        if (clients[i].c)
            conn_close(clients[i].c);
        if (clients[i].fd >= 0)
            close(clients[i].fd);
        free(clients[i].received);
    }
    ck_assert_int_eq(conn_count, 0);
    ck_assert_int_eq(conn_timeout_ms(), -1);
    ck_assert_int_eq(deferred, answered + cancelled);
    ck_assert_uint_eq(turn.output_len, 0);
}

/* The one call that c->want names. */
static void step(struct conn *c)
{
    if (c->want == WANT_WRITE)
        conn_drain(c);
    else if (c->want != WANT_CLOSE)
        conn_fill(c);
}

static void close_if_wanted(struct client *k)
{
    if (k->c && k->c->want == WANT_CLOSE) {
        conn_close(k->c);
        k->c = NULL;
    }
}

/* What a stage does with one connection, as long as there is something to do. */
static bool serve(struct client *k)
{
    static const short events[] = { [WANT_READ] = POLLIN, [WANT_WRITE] = POLLOUT };
    bool any = false;

    close_if_wanted(k);
    for (int turns = 0; k->c; turns++) {
        struct pollfd p = { .fd = k->c->fd,
                            .events = k->c->want == WANT_REPLY ? 0 : events[k->c->want] };

        ck_assert_msg(turns < 100000, "want %d again and again", (int)k->c->want);
        if (poll(&p, 1, 0) == 0)
            break;
        any = true;
        step(k->c);
        close_if_wanted(k);
    }
    return any;
}

static bool receive_some(struct client *k, size_t most)
{
    ssize_t n = -1;

    ck_assert_uint_lt(k->len, REPLIES);
    if (k->fd >= 0 && !k->ended && !k->reset) {
        if (most > REPLIES - k->len)
            most = REPLIES - k->len;
        n = recv(k->fd, k->received + k->len, most, MSG_DONTWAIT);
        k->ended = n == 0;
        k->reset = n == -1 && errno != EAGAIN;
    }
    k->len += n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* The loop of a stage after a batch of events. */
static bool serve_expired(void)
{
    bool any = false;
    struct conn *c;

    for (; (c = conn_expired()) != NULL; any = true) {
        step(c);
        for (int i = 0; i < clients_count; i++)
            if (clients[i].c == c)
                close_if_wanted(&clients[i]);
    }
    return any;
}

/* Serve all, and receive, until no end has anything left to do. */
static void run(void)
{
    bool more = true;

    while (more) {
        more = false;
        for (int i = 0; i < clients_count; i++) {
            more |= serve(&clients[i]);
            more |= receive_some(&clients[i], REPLIES);
        }
        more |= serve_expired();
    }
}

/* What another socket's end has done may take a moment to be seen, over TCP. */
#define run_until(condition)                                                             \
    do {                                                                                 \
        int64_t give_up = clock_ms() + PATIENCE_MS;                                      \
        for (run(); !(condition); run()) {                                               \
            ck_assert_msg(clock_ms() < give_up, "never: %s", #condition);                \
            poll(NULL, 0, 1);                                                            \
        }                                                                                \
    } while (0)

static size_t send_what_fits(struct client *k, const char *bytes, size_t len)
{
    ssize_t n = send(k->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

    return n == -1 ? 0 : (size_t)n;
}

static void say(struct client *k, const char *text)
{
    ck_assert_uint_eq(send_what_fits(k, text, strlen(text)), strlen(text));
}

static void exchange(struct client *k, const char *text)
{
    say(k, text);
    run();
}

static void leave(struct client *k)
{
    close(k->fd);
    k->fd = -1;
}

struct reply {
    int status;
    bool closes;
    const char *body;
    size_t length; /* Content-Length */
};

/* The next reply of what was received. has_body: as a reply to HEAD has not. */
static struct reply next_reply(struct client *k, bool has_body)
{
    const char *start = k->received + k->read, *end = k->received + k->len, *length;
    const char *stop = memmem(start, (size_t)(end - start), "\r\n\r\n", 4);
    struct reply r = { 0 };
    static char head[1024];

    ck_assert_msg(stop != NULL, "no reply in [%.*s]", (int)(end - start), start);
    snprintf(head, sizeof(head), "%.*s", (int)(stop + 2 - start), start);
    ck_assert_msg(sscanf(head, "HTTP/1.1 %d ", &r.status) == 1, "not a reply: %s", head);
    length = strstr(head, "\r\nContent-Length: ");
    r.length = length ? strtoul(length + 18, NULL, 10) : 0;
    r.closes = strstr(head, "\r\nConnection: close\r\n") != NULL;
    r.body = stop + 4;
    if (has_body)
        stop += r.length;
    ck_assert_msg(stop + 4 <= end, "%zu bytes of body, not all arrived", r.length);
    k->read = (size_t)(stop + 4 - k->received);
    return r;
}

static struct reply expect_reply(struct client *k, int status, const char *body)
{
    struct reply r = next_reply(k, true);

    ck_assert_msg(r.status == status && (!body || (r.length == strlen(body) &&
                                                   memcmp(r.body, body, r.length) == 0)),
                  "expected %d [%s], got %d [%.*s]", status, body ? body : "...",
                  r.status, (int)r.length, r.body);
    return r;
}

static void expect_letters(struct client *k, size_t n)
{
    struct reply r = next_reply(k, true);

    ck_assert_int_eq(r.status, 200);
    ck_assert_uint_eq(r.length, n);
    for (size_t i = 0; i < n; i++)
        if (r.body[i] != (char)('a' + i % 26))
            ck_abort_msg("byte %zu of %zu is %d", i, n, r.body[i]);
}

static void expect_nothing_more(const struct client *k)
{
    ck_assert_msg(k->read == k->len, "and then: [%.*s]", (int)(k->len - k->read),
                  k->received + k->read);
}

/* It waits for a request and owns nothing but its struct. */
static void expect_idle(const struct client *k)
{
    expect_nothing_more(k);
    ck_assert_ptr_nonnull(k->c);
    ck_assert_int_eq(k->c->want, WANT_READ);
    ck_assert(!k->c->deferred && k->c->deferral == NULL);
    ck_assert_int_eq(k->c->clock, CLOCK_IDLE);
    ck_assert_msg(k->c->in.base == NULL && k->c->out.kept.base == NULL,
                  "in: %u of %u, out: %u of %u", k->c->in.len, k->c->in.cap,
                  k->c->out.kept.len, k->c->out.kept.cap);
}

/* The end of the stream came, and not by a reset; so does the client's. */
static void expect_ended(struct client *k)
{
    expect_nothing_more(k);
    ck_assert(k->ended && !k->reset);
    leave(k);
    run_until(k->c == NULL);
}

static void expect_waiting(const struct client *k)
{
    expect_nothing_more(k);
    ck_assert_ptr_nonnull(k->c);
    ck_assert(k->c->deferred);
    ck_assert_int_eq(k->c->clock, CLOCK_REPLY);
}

/* ---- It comes ---- */

/* Requests in one piece stand in the scratch, those in two in memory of the
 * connection. */
START_TEST(answered_at_once)
{
    struct client *k = come(UNIX);

    if (_i == 0) {
        exchange(k, GET("/now?1") GET("/both?2") GET("/both?3") GET("/now?4"));
    } else {
        exchange(k, "GET /now?1 HT");
        exchange(k, "TP/1.1\r\n" HOST "\r\n" GET("/both?2") GET("/both?3") GET("/now?4"));
    }
    expect_reply(k, 200, SAID("/now?1"));
    expect_reply(k, 200, SAID("/both?2"));
    expect_reply(k, 200, SAID("/both?3"));
    expect_reply(k, 200, SAID("/now?4"));
    expect_idle(k);
    ck_assert_uint_eq(k->c->requests, 4);
    ck_assert_uint_eq(stats_get(&stats->requests), 4);
}
END_TEST

/* What the stage watches for changes only when something comes that nobody wants: most
 * answers are there before. */
START_TEST(answered_later)
{
    struct client *k = come(UNIX);

    say(k, GET("/later?1"));
    conn_fill(k->c);
    ck_assert_int_eq(k->c->want, WANT_READ);
    expect_waiting(k);
    if (_i == 1) {
        say(k, GET("/now?2"));
        conn_fill(k->c);
        ck_assert_int_eq(k->c->want, WANT_REPLY);
        ck_assert(k->c->would_block);
    }
    ck_assert_ptr_null(conn_expired());
    ck_assert_uint_eq(k->c->requests, 0);
    answer(0);
    ck_assert_uint_eq(k->c->requests, 1);
    ck_assert(receive_some(k, REPLIES)); /* sent, without another step */
    expect_reply(k, 200, SAID("/later?1"));
    ck_assert_int_eq(k->c->want, WANT_WRITE);
    ck_assert_int_eq(conn_timeout_ms(), 0);
    ck_assert_ptr_eq(conn_expired(), k->c);
    conn_drain(k->c);
    ck_assert_int_eq(k->c->want, WANT_READ);
    ck_assert_ptr_null(conn_expired());
    run();
    if (_i == 1)
        expect_reply(k, 200, SAID("/now?2"));
    expect_idle(k);
    ck_assert_uint_eq(k->c->requests, 1u + (unsigned)_i);
    ck_assert_uint_eq(stats_get(&stats->requests), 1u + (unsigned)_i);
}
END_TEST

START_TEST(again_and_again)
{
    struct client *k = come(UNIX);

    for (int i = 0; i < 1000; i++) {
        exchange(k, GET("/later?1"));
        expect_waiting(k);
        answer(i);
        run();
        expect_reply(k, 200, SAID("/later?1"));
        expect_idle(k);
    }
}
END_TEST

START_TEST(long_body_later)
{
    struct client *k = come(UNIX);

    exchange(k, GET("/later/letters?n=3000000") GET("/later?2"));
    expect_waiting(k);
    answer(0);
    ck_assert_msg(k->c->out.kept.cap <= 2048, "%u bytes kept", k->c->out.kept.cap);
    run();
    expect_letters(k, 3000000);
    expect_waiting(k);
    answer(1);
    run();
    expect_reply(k, 200, SAID("/later?2"));
    expect_idle(k);
}
END_TEST

/* The answer came when its time was over, but before anybody had looked. */
START_TEST(an_answer_in_time_counts)
{
    struct client *k;
    int64_t end;

    opt.reply_timeout_ms = 250;
    k = come(UNIX);
    exchange(k, GET("/later?1"));
    for (end = k->c->deadline; clock_ms() <= end;)
        poll(NULL, 0, 1);
    answer(0);
    run();
    expect_reply(k, 200, SAID("/later?1"));
    expect_idle(k);
    ck_assert_uint_eq(stats_get(&stats->timeouts), 0);
}
END_TEST

/* ---- The kept request ---- */

static const struct kept_case {
    const char *request, *description;
} kept_cases[] = {
    { GET("/later"), SAID("/later") },
    { GET("/later?a=%20b&c"), SAID("/later?a=%20b&c") },
    { GET("http://host/later?x"), SAID("/later?x") },
    { GET("http://host"), SAID("/") }, /* a path that no byte of the message holds */
    { "POST /later?q HTTP/1.1\r\n" HOST
      "Content-Type: a/b\r\nContent-Length: 5\r\n\r\nhello",
      "POST /later?q [a/b] [hello]" },
    { "PUT /later HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Type: c/d\r\n"
      "\r\n3;x=y\r\nabc\r\n2\r\nde\r\n00\r\nT: u\r\n\r\n",
      "PUT /later [c/d] [abcde]" },
};
enum { KEPT_CASES = sizeof(kept_cases) / sizeof(*kept_cases) };

/* Cut anywhere, with others before and behind it, and while it waits another client's
 * requests go through the scratch. */
START_TEST(kept_request_is_intact)
{
    const struct kept_case *one = &kept_cases[_i % KEPT_CASES];
    bool in_company = _i >= KEPT_CASES;
    struct client *k = come(UNIX), *other = come(UNIX);
    static char noise[SCRATCH], text[2000];
    size_t len;

    len = (size_t)sprintf(
        noise, "POST /now HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n", SCRATCH - 100);
    memset(noise + len, '#', SCRATCH - 100);
    len += SCRATCH - 100;
    snprintf(text, sizeof(text), "%s%s%s", in_company ? GET("/now?1") : "", one->request,
             in_company ? GET("/now?3") : "");
    for (size_t cut = 1; cut <= strlen(text); cut++) {
        k->len = k->read = other->len = other->read = 0;
        ck_assert_uint_eq(send_what_fits(k, text, cut), cut);
        run();
        exchange(k, text + cut);
        if (in_company)
            expect_reply(k, 200, SAID("/now?1"));
        expect_waiting(k);
        ck_assert_uint_eq(send_what_fits(other, noise, len), len);
        run();
        expect_reply(other, 200, NULL);
        answer(deferred - 1);
        run();
        expect_reply(k, 200, one->description);
        if (in_company)
            expect_reply(k, 200, SAID("/now?3"));
        expect_idle(k);
    }
}
END_TEST

/* ---- It never comes ---- */

static void wait_for_expiry(const struct client *k)
{
    int64_t give_up = clock_ms() + PATIENCE_MS;
    struct conn *c = NULL;

    while (c == NULL) {
        int ms = conn_timeout_ms();

        ck_assert_msg(ms >= 0, "nothing will ever expire");
        ck_assert_msg(clock_ms() < give_up, "nothing has expired");
        poll(NULL, 0, ms < PATIENCE_MS ? ms : PATIENCE_MS);
        c = conn_expired();
    }
    ck_assert_ptr_eq(c, k->c);
    ck_assert_int_ge(clock_ms(), c->deadline);
}

/* 504 in its place; then what came behind it, read or not, is answered. */
START_TEST(never)
{
    bool head = _i % 2, behind = _i >= 2;
    struct client *k;

    opt.reply_timeout_ms = 50;
    k = come(behind ? TCP : UNIX);
    say(k, head ? "HEAD /later HTTP/1.1\r\n" HOST "\r\n" : GET("/later"));
    if (behind)
        say(k, GET("/now?2"));
    run_until(deferred == 1);
    expect_waiting(k);
    if (behind)
        exchange(k, GET("/now?3"));
    wait_for_expiry(k);
    step(k->c);
    ck_assert_int_eq(cancelled, 1);
    run_until(k->c->requests == (behind ? 3 : 1) && k->c->clock == CLOCK_IDLE);
    run_until(receive_some(k, REPLIES) || k->len > 0);
    struct reply r = next_reply(k, !head);
    ck_assert_int_eq(r.status, 504);
    ck_assert(!r.closes);
    ck_assert_uint_gt(r.length, 0);
    if (behind) {
        run_until(k->len >= k->read + 2 * strlen("HTTP/1.1 200"));
        expect_reply(k, 200, SAID("/now?2"));
        expect_reply(k, 200, SAID("/now?3"));
    }
    expect_idle(k);
    ck_assert_str_eq(history, "cancel ");
    ck_assert_uint_eq(stats_get(&stats->timeouts), 0);
    ck_assert_uint_eq(stats_get(&stats->refused), 1);
    ck_assert_uint_eq(stats_get(&stats->waiting), 0);
}
END_TEST

/* ---- The client goes ---- */

/* By a reset, while the stage still watches for input, or no more. A unix socket says the
 * same when both its directions are gone. */
START_TEST(client_vanishes)
{
    static const struct linger at_once = { 1, 0 };
    enum way way = _i < 2 ? TCP : UNIX;
    struct client *k = come(way);

    say(k, GET("/later"));
    run_until(deferred == 1);
    if (_i % 2 == 1) {
        say(k, "GET"); /* makes it look, and see that it is not interested */
        run_until(k->c->want == WANT_REPLY);
    }
    if (way == TCP)
        ck_assert_int_eq(
            setsockopt(k->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
    leave(k);
    run_until(k->c == NULL);
    ck_assert_str_eq(history, "cancel close ");
}
END_TEST

/* The answer meets a client that is gone. */
START_TEST(client_is_gone_when_it_comes)
{
    struct client *k = come(UNIX);

    say(k, GET("/later"));
    conn_fill(k->c);
    leave(k);
    answer(0);
    run_until(k->c == NULL);
    ck_assert_str_eq(history, "close ");
    ck_assert_uint_eq(stats_get(&stats->send_failures), 1);
}
END_TEST

START_TEST(half_closed_client_is_answered)
{
    struct client *k = come(_i ? TCP : UNIX);

    say(k, GET("/later?1") GET("/now?2") GET("/later?3"));
    ck_assert_int_eq(shutdown(k->fd, SHUT_WR), 0);
    run_until(k->c->want == WANT_REPLY);
    expect_waiting(k);
    answer(0);
    run_until(deferred == 2 && k->c->want == WANT_REPLY);
    answer(1);
    run_until(k->c == NULL && k->ended);
    expect_reply(k, 200, SAID("/later?1"));
    expect_reply(k, 200, SAID("/now?2"));
    expect_reply(k, 200, SAID("/later?3"));
    expect_nothing_more(k);
    ck_assert_str_eq(history, "close ");
}
END_TEST

/* ---- Its body comes late ---- */

/* The head has come, and `n` letters behind it in that framing; so has nothing more. */
static void expect_tapped(struct client *k, const char *query, size_t n)
{
    const char *at = k->received + k->read;
    const char *body = memmem(at, k->len - k->read, "\r\n\r\n", 4);
    const char *end = k->received + k->len;
    size_t seen = 0;

    ck_assert_msg(body && memcmp(at, "HTTP/1.1 200 OK\r\n", 17) == 0, "[%.*s]",
                  (int)(end - at), at);
    for (body += 4; body < end && seen < n;) {
        size_t piece = (size_t)(end - body) < n ? (size_t)(end - body) : n;

        if (query[0] == 'c' && query[1] == 'h') {
            piece = strtoul(body, NULL, 16);
            body = (const char *)memchr(body, '\n', (size_t)(end - body)) + 1;
        }
        for (size_t i = 0; i < piece; i++, seen++)
            ck_assert_int_eq(body[i], (char)('a' + seen % 26));
        body += piece + (query[0] == 'c' && query[1] == 'h' ? 2 : 0);
    }
    ck_assert_uint_eq(seen, n);
    k->read = (size_t)(body - k->received);
}

static const char *const framings[] = { "length", "chunked", "close" };
enum { FRAMINGS = 3 };

/* At once or deferred, and in that framing; the first ten letters are here. */
static struct client *tapped(enum way way, int framing, bool later)
{
    struct client *k = come(way);
    char text[128];

    sprintf(text, "GET %s/tap?%s HTTP/1.%d\r\n" HOST "\r\n", later ? "/later" : "/now",
            framings[framing], framing != 2);
    say(k, text);
    if (later) {
        run_until(deferred == 1);
        answer(0);
    }
    run_until(k->len > 0);
    ck_assert(k->c->out.late);
    ck_assert_int_eq(k->c->clock, CLOCK_REPLY);
    ck_assert_int_eq(tap.late, 1);
    let_out(10, false, false);
    run_until(k->len >= 10 + 17 && memmem(k->received, k->len, "abcdefghij", 10));
    ck_assert_int_eq(k->c->clock, CLOCK_REPLY);
    ck_assert_int_ne(k->c->want, WANT_WRITE);
    return k;
}

/* What follows in pieces, with the end; what is pipelined behind it waits for its turn. */
START_TEST(body_comes_in_pieces)
{
    int framing = _i / 2;
    struct client *k = tapped(UNIX, framing, _i % 2);

    exchange(k, GET("/now?2"));
    ck_assert_int_eq(k->c->want, WANT_REPLY); /* it looked, and is not interested */
    let_out(1000, false, false);
    run();
    let_out(0, false, false); /* nothing after all */
    run();
    let_out(TAPPED - 1010, true, false);
    run();
    expect_tapped(k, framings[framing], TAPPED);
    ck_assert_int_eq(tap.gone, 1);
    if (framing == 1) {
        ck_assert_int_eq(memcmp(k->received + k->read, "0\r\n\r\n", 5), 0);
        k->read += 5;
    }
    if (framing == 2) { /* 1.0: the end is the connection's; what is behind is lost */
        expect_ended(k);
        return;
    }
    expect_reply(k, 200, SAID("/now?2"));
    expect_idle(k);
    ck_assert_uint_eq(k->c->requests, 2);
}
END_TEST

/* It comes before the loop has gone on with the beginning. */
START_TEST(body_overtakes_the_loop)
{
    struct client *k = come(UNIX);

    say(k, GET("/later/tap?length"));
    conn_fill(k->c);
    answer(0);
    let_out(10, false, false);
    ck_assert_int_eq(k->c->clock, CLOCK_READY);
    let_out(TAPPED - 10, true, false);
    run();
    expect_tapped(k, "length", TAPPED);
    expect_idle(k);
}
END_TEST

/* Nothing is pulled that the client does not take. */
START_TEST(body_backs_up)
{
    struct client *k = tapped(UNIX, 0, _i);

    let_out(TAPPED - 10, true, false);
    for (int turns = 0; k->c->clock != CLOCK_SEND; turns++) {
        ck_assert_int_lt(turns, 100);
        step(k->c);
    }
    ck_assert_int_eq(k->c->want, WANT_WRITE);
    ck_assert_int_eq(tap.gone, 0);
    ck_assert_uint_lt(tap.pulled, TAPPED);
    run_until(k->len >= TAPPED);
    expect_tapped(k, "length", TAPPED);
    run_until(k->c->clock == CLOCK_IDLE);
    expect_idle(k);
}
END_TEST

/* It breaks off; with letters in front of that, or none. */
START_TEST(body_breaks_off)
{
    int framing = _i / 2;
    struct client *k = tapped(TCP, framing, _i % 2);

    let_out(_i % 2 ? 5 : 0, false, true);
    run_until(k->c == NULL && (k->ended || k->reset));
    ck_assert_int_eq(tap.gone, 1);
    ck_assert(framing != 2 || k->reset);
    ck_assert_ptr_null(memmem(k->received, k->len, "\r\n0\r\n", 5));
    ck_assert_str_eq(history, "close ");
}
END_TEST

/* Too late: a reset, whatever was to end it. */
START_TEST(body_never_comes)
{
    struct client *k;

    opt.reply_timeout_ms = 50;
    k = tapped(TCP, _i / 2, true);
    if (_i % 2)
        exchange(k, GET("/now?2"));
    wait_for_expiry(k);
    step(k->c);
    serve(k);
    ck_assert_ptr_null(k->c);
    run_until(k->reset);
    ck_assert_int_eq(tap.gone, 1);
    ck_assert_uint_eq(stats_get(&stats->timeouts), 1);
}
END_TEST

START_TEST(client_goes_within_the_body)
{
    static const struct linger at_once = { 1, 0 };
    struct client *k = tapped(TCP, 1, _i / 2);

    if (_i % 2)
        exchange(k, "GET");
    ck_assert_int_eq(setsockopt(k->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)),
                     0);
    leave(k);
    run_until(k->c == NULL);
    ck_assert_int_eq(tap.gone, 1);
}
END_TEST

/* It has shut its side, and gets all. */
START_TEST(half_closed_client_gets_the_body)
{
    struct client *k = tapped(TCP, _i, true);

    ck_assert_int_eq(shutdown(k->fd, SHUT_WR), 0);
    run_until(k->c->want == WANT_REPLY);
    let_out(TAPPED - 10, true, false);
    run_until(k->c == NULL && k->ended);
    expect_tapped(k, framings[_i], TAPPED);
}
END_TEST

/* The rest is waited for. The head, which is out, could not say that this is the end. */
START_TEST(stopping_within_the_body)
{
    static const int ways[] = { STOP_SOON, STOP_GRACEFUL, STOP_DRAIN };
    struct client *k = tapped(UNIX, 0, true);

    stopping = ways[_i];
    run();
    ck_assert(k->c && k->c->out.late);
    let_out(TAPPED - 10, true, false);
    run_until(k->len >= TAPPED);
    expect_tapped(k, "length", TAPPED);
    if (ways[_i] == STOP_DRAIN) { /* its next request may be on its way */
        expect_idle(k);
        return;
    }
    run_until(k->c == NULL && k->ended);
}
END_TEST

/* Its time begins anew with each piece, and when the application says so. */
START_TEST(time_begins_anew)
{
    struct client *k = tapped(UNIX, 0, true);
    struct client *other = come(UNIX);

    k->c->deadline = 0;
    let_out(10, false, false);
    ck_assert_int_gt(k->c->deadline, 0);
    ck_assert_ptr_null(conn_expired());
    exchange(other, GET("/later?1"));
    other->c->deadline = 0;
    conn_postpone(other->c);
    ck_assert_int_gt(other->c->deadline, 0);
    ck_assert_ptr_null(conn_expired());
    answer(1);
    run();
    expect_reply(other, 200, SAID("/later?1"));
    conn_postpone(other->c); /* nothing is awaited: nothing happens */
    expect_idle(other);
}
END_TEST

/* ---- Others behind it, and before it ---- */

/* The first, and as many more as _i says, are deferred. */
START_TEST(a_hundred_behind_it)
{
    enum { BEHIND = 100 };
    static char requests[(BEHIND + 1) * 64];
    int every = _i == 0 ? BEHIND + 1 : _i;
    struct client *k = come(UNIX);
    char expected[64];
    size_t len = 0;

    for (int i = 0; i <= BEHIND; i++)
        len += (size_t)sprintf(requests + len, "GET /%s?%d HTTP/1.1\r\n" HOST "\r\n",
                               i % every == 0 ? "later" : "now", i);
    ck_assert_uint_eq(send_what_fits(k, requests, len), len);
    run();
    for (int i = 0; i <= BEHIND; i++) {
        if (i % every == 0) {
            ck_assert_int_eq(deferred, i / every + 1); /* one at a time */
            expect_waiting(k);
            answer(i / every);
            run();
        }
        sprintf(expected, "GET /%s?%d [] []", i % every == 0 ? "later" : "now", i);
        expect_reply(k, 200, expected);
    }
    expect_idle(k);
}
END_TEST

/* A client that goes on sending costs no more memory, and loses nothing. */
START_TEST(nothing_is_read_meanwhile)
{
    enum { MOST = 100000 };
    struct client *k = come(UNIX);
    int requests = 0;
    size_t n;

    exchange(k, GET("/later"));
    uint64_t before = stats_get(&stats->bytes_in);
    uint32_t room = k->c->in.cap;
    static const char one[] = GET("/now");
    do {
        n = send_what_fits(k, one, strlen(one));
        requests += n > 0;
        run();
    } while (n == strlen(one) && requests < MOST);
    ck_assert_int_lt(requests, MOST);
    ck_assert_uint_eq(n, 0);
    ck_assert_uint_eq(stats_get(&stats->bytes_in), before);
    ck_assert_uint_eq(k->c->in.cap, room);
    ck_assert_int_eq(k->c->want, WANT_REPLY);
    answer(0);
    run();
    expect_reply(k, 200, SAID("/later"));
    for (int i = 0; i < requests; i++)
        expect_reply(k, 200, SAID("/now"));
    expect_idle(k);
}
END_TEST

/* Replies of the same batch have not been sent yet, for the client does not read. */
START_TEST(earlier_replies_are_unsent)
{
    enum { ANSWERED_FIRST, READ_FIRST, ANSWERED_LONG, NEVER_READ, GONE };
    int small = 4096;
    struct client *k;

    opt.request_timeout_ms = _i == NEVER_READ ? 50 : 60000;
    k = come(UNIX);
    setsockopt(k->c->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    say(k, GET("/now/letters?n=30000") GET("/now/letters?n=30000"));
    say(k, _i == ANSWERED_LONG ? GET("/later/letters?n=300000") : GET("/later?x"));
    say(k, GET("/now?y"));
    serve(k);
    ck_assert(k->c->deferred);
    ck_assert_int_eq(k->c->want, WANT_WRITE);
    ck_assert_int_eq(k->c->clock, CLOCK_SEND);
    if (_i == NEVER_READ) {
        wait_for_expiry(k);
    } else if (_i == GONE) {
        leave(k);
    } else if (_i == READ_FIRST) {
        run();
        expect_letters(k, 30000);
        expect_letters(k, 30000);
        expect_waiting(k);
    }
    if (_i == NEVER_READ || _i == GONE) {
        step(k->c);
        serve(k);
        ck_assert_ptr_null(k->c);
        ck_assert_str_eq(history, "cancel close ");
        return;
    }
    answer(0);
    run();
    if (_i != READ_FIRST) {
        expect_letters(k, 30000);
        expect_letters(k, 30000);
    }
    if (_i == ANSWERED_LONG)
        expect_letters(k, 300000);
    else
        expect_reply(k, 200, SAID("/later?x"));
    expect_reply(k, 200, SAID("/now?y"));
    expect_idle(k);
}
END_TEST

/* ---- Kinds of requests ---- */

static const struct kind {
    const char *request, *description;
    bool closes;
    int keepalive_ms;
} kinds[] = {
    { GET("/later"), SAID("/later"), false, 60000 },
    { GET("/later"), SAID("/later"), true, 0 },
    { "HEAD /later HTTP/1.1\r\n" HOST "\r\n", NULL, false, 60000 },
    { "HEAD /later HTTP/1.0\r\n\r\n", NULL, true, 60000 },
    { "GET /later HTTP/1.0\r\n\r\n", SAID("/later"), true, 60000 },
    { "GET /later HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", SAID("/later"), false,
      60000 },
    { "GET /later HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", SAID("/later"), true,
      60000 },
};
enum { KINDS = sizeof(kinds) / sizeof(*kinds) };

/* Nothing is behind it, or another that was read with it, or one that is not read yet:
 * an answer that ends the connection must not be overtaken by a reset. */
START_TEST(kinds_of_requests)
{
    const struct kind *kind = &kinds[_i % KINDS];
    int behind = _i / KINDS % 3;
    struct client *k;
    struct reply r;

    opt.keepalive_ms = kind->keepalive_ms;
    k = come(_i / KINDS < 3 ? UNIX : TCP);
    say(k, kind->request);
    if (behind == 1)
        say(k, GET("/now?2"));
    run_until(deferred == 1);
    if (behind == 2) {
        exchange(k, GET("/now?2"));
        expect_waiting(k);
    }
    answer(0);
    run_until(k->ended || k->reset ||
              (!kind->closes && k->c->requests == (behind ? 2 : 1) && k->len > 0 &&
               k->c->want == WANT_READ));
    r = kind->description ? expect_reply(k, 200, kind->description)
                          : next_reply(k, false);
    ck_assert_int_eq(r.status, 200);
    ck_assert_uint_gt(r.length, 0);
    ck_assert_int_eq(r.closes, kind->closes);
    if (kind->closes) {
        ck_assert(k->c == NULL || k->c->in.base == NULL);
        expect_ended(k);
        return;
    }
    run_until(behind == 0 || k->len > k->read);
    if (behind)
        expect_reply(k, 200, SAID("/now?2"));
    expect_idle(k);
}
END_TEST

/* The body comes after "100 Continue", the answer later. A request behind it is told to
 * go on when it is its turn. */
START_TEST(expecting)
{
    static const char head[] = "POST /later HTTP/1.1\r\n" HOST
                               "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    struct client *k = come(UNIX);

    exchange(k, head);
    expect_reply(k, 100, NULL);
    exchange(k, "hello");
    expect_waiting(k);
    exchange(k, head);
    expect_waiting(k);
    answer(0);
    run();
    expect_reply(k, 200, "POST /later [] [hello]");
    expect_reply(k, 100, NULL);
    exchange(k, "again");
    expect_waiting(k);
    answer(1);
    run();
    expect_reply(k, 200, "POST /later [] [again]");
    expect_idle(k);
}
END_TEST

/* ---- Stopping ---- */

static const int ways_to_stop[] = { STOP_SOON, STOP_GRACEFUL, STOP_DRAIN };

START_TEST(stopping_waits_for_it)
{
    struct client *k = come(UNIX);

    exchange(k, GET("/now?1") GET("/later?2"));
    expect_reply(k, 200, SAID("/now?1"));
    stopping = ways_to_stop[_i];
    run();
    expect_waiting(k);
    ck_assert_int_gt(conn_timeout_ms(), 0);
    answer(0);
    run();
    struct reply r = expect_reply(k, 200, SAID("/later?2"));
    ck_assert(r.closes);
    expect_ended(k);
}
END_TEST

/* All that was read is answered; the last answer says that it is the last. */
START_TEST(stopping_answers_what_is_behind_it)
{
    struct client *k = come(UNIX);

    exchange(k, GET("/later?1") GET("/now?2") GET("/later?3"));
    stopping = ways_to_stop[_i];
    answer(0);
    run();
    ck_assert(!expect_reply(k, 200, SAID("/later?1")).closes);
    ck_assert(!expect_reply(k, 200, SAID("/now?2")).closes);
    expect_waiting(k);
    answer(1);
    run();
    ck_assert(expect_reply(k, 200, SAID("/later?3")).closes);
    expect_ended(k);
}
END_TEST

START_TEST(stopping_and_never_answered)
{
    struct client *k;

    opt.reply_timeout_ms = 50;
    k = come(UNIX);
    exchange(k, GET("/later"));
    stopping = ways_to_stop[_i];
    wait_for_expiry(k);
    run();
    ck_assert(expect_reply(k, 504, NULL).closes);
    expect_ended(k);
    ck_assert_str_eq(history, "cancel close ");
}
END_TEST

/* ---- Many ---- */

START_TEST(in_another_order)
{
    char text[128];

    for (int i = 0; i < CLIENTS; i++) {
        struct client *k = come(UNIX);

        sprintf(text, GET("/now?%d") GET("/later?%d"), i, i);
        exchange(k, text);
    }
    for (int i = 0; i < CLIENTS; i++) {
        int who = i * 5 % CLIENTS; /* each of them once */

        sprintf(text, "GET /now?%d [] []", who);
        expect_reply(&clients[who], 200, text);
        expect_waiting(&clients[who]);
        answer(who);
        if (i % 3 == 0)
            run();
    }
    run();
    for (int i = 0; i < CLIENTS; i++) {
        sprintf(text, "GET /later?%d [] []", i);
        expect_reply(&clients[i], 200, text);
        expect_idle(&clients[i]);
    }
}
END_TEST

/* The answer comes out of the middle of another client's turn, whose own replies are on
 * their way: each gets what is his. */
START_TEST(answered_by_another_clients_turn)
{
    struct client *one = come(UNIX), *two = come(UNIX), *three = come(UNIX);

    exchange(one, _i ? GET("/later/letters?n=200000") : GET("/later?1"));
    exchange(two, GET("/now?2") GET("/later?3"));
    expect_reply(two, 200, SAID("/now?2"));
    exchange(three, GET("/now?4") GET("/wake?5") GET("/now?6") GET("/wake?7"));
    if (_i)
        expect_letters(one, 200000);
    else
        expect_reply(one, 200, SAID("/later?1"));
    expect_idle(one);
    expect_reply(two, 200, SAID("/later?3"));
    expect_idle(two);
    expect_reply(three, 200, SAID("/now?4"));
    expect_reply(three, 200, SAID("/wake?5"));
    expect_reply(three, 200, SAID("/now?6"));
    expect_reply(three, 200, SAID("/wake?7"));
    expect_idle(three);
}
END_TEST

static void raise_descriptors(void)
{
    struct rlimit limit;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* Ten thousand, or as many as there are descriptors for: each waits, all are answered,
 * last come, first served, and what a deferral costs is small. */
START_TEST(ten_thousand)
{
    enum { MANY = 10000, KILOBYTE = 1024 };
    static struct conn *conns[MANY];
    static int peers[MANY];
    static const char request[] = GET("/later");
    char reply[1024];
    int many = 0, fds[2];
    size_t before, after;
    struct conn *c;

    raise_descriptors();
    conn_setup(&opt, false);
    for (; many < MANY; many++) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == -1)
            break;
        conns[many] = conn_open(fds[0]);
        peers[many] = fds[1];
        if (send(fds[1], request, strlen(request), 0) == -1) { /* valgrind's own limit */
            conn_close(conns[many]);
            close(fds[1]);
            break;
        }
    }
    ck_assert_int_gt(many, 100);
    before = mallinfo2().uordblks;
    for (int i = 0; i < many; i++)
        conn_fill(conns[i]);
    after = mallinfo2().uordblks;
    ck_assert_int_eq(deferred, many);
    ck_assert_uint_lt((after - before) / (size_t)many + sizeof(*c), KILOBYTE);
    if (after > before)
        printf("note: %d deferred at a time: %zu bytes each, beside %zu of the struct\n",
               many, (after - before) / (size_t)many, sizeof(*c));
    else /* a sanitizer's or valgrind's allocator */
        printf("note: %d deferred at a time; not malloc's memory, not measured\n", many);
    for (int i = many - 1; i >= 0; i--)
        answer(i);
    for (int i = 0; (c = conn_expired()) != NULL; i++) {
        ck_assert_ptr_eq(c, conns[many - 1 - i]);
        conn_drain(c);
        ck_assert_int_eq(c->want, WANT_READ);
    }
    for (int i = 0; i < many; i++) {
        ck_assert_int_gt(recv(peers[i], reply, sizeof(reply), MSG_DONTWAIT), 0);
        ck_assert_int_eq(conns[i]->clock, CLOCK_IDLE);
        conn_close(conns[i]);
        close(peers[i]);
    }
}
END_TEST

/* Nobody else would run there, and no answer ever come. */
START_TEST(blocking_stage_must_not_defer)
{
    static const struct rlimit no_core = { 0, 0 };
    int fds[2];

    setrlimit(RLIMIT_CORE, &no_core);
    ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr)); /* the assertion says why */
    conn_setup(&opt, true);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct conn *c = conn_open(fds[0]);
    ck_assert_int_gt(send(fds[1], GET("/later"), strlen(GET("/later")), 0), 0);
    conn_fill(c);
}
END_TEST

#define COUNT(table) ((int)(sizeof(table) / sizeof(*(table))))

static TCase *add_case(Suite *s, const char *name)
{
    TCase *t = tcase_create(name);

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    return t;
}

int main(void)
{
    const struct {
        const char *name;
        const TTest *test;
        int times;
    } tests[] = {
        { "comes", answered_at_once, 2 },
        { "comes", answered_later, 2 },
        { "comes", again_and_again, 1 },
        { "comes", long_body_later, 1 },
        { "comes", an_answer_in_time_counts, 1 },
        { "kept", kept_request_is_intact, 2 * KEPT_CASES },
        { "never", never, 4 },
        { "gone", client_vanishes, 4 },
        { "gone", client_is_gone_when_it_comes, 1 },
        { "gone", half_closed_client_is_answered, 2 },
        { "late", body_comes_in_pieces, 2 * FRAMINGS },
        { "late", body_overtakes_the_loop, 1 },
        { "late", body_backs_up, 2 },
        { "late", body_breaks_off, 2 * FRAMINGS },
        { "late", body_never_comes, 2 * FRAMINGS },
        { "late", client_goes_within_the_body, 4 },
        { "late", half_closed_client_gets_the_body, FRAMINGS },
        { "late", stopping_within_the_body, COUNT(ways_to_stop) },
        { "late", time_begins_anew, 1 },
        { "neighbours", a_hundred_behind_it, 10 },
        { "neighbours", nothing_is_read_meanwhile, 1 },
        { "neighbours", earlier_replies_are_unsent, 5 },
        { "kinds", kinds_of_requests, 6 * KINDS },
        { "kinds", expecting, 1 },
        { "stopping", stopping_waits_for_it, COUNT(ways_to_stop) },
        { "stopping", stopping_answers_what_is_behind_it, COUNT(ways_to_stop) },
        { "stopping", stopping_and_never_answered, COUNT(ways_to_stop) },
        { "many", in_another_order, 1 },
        { "many", answered_by_another_clients_turn, 2 },
        { "many", ten_thousand, 1 },
    };
    Suite *s = suite_create("defer");
    TCase *t = NULL;

    for (int i = 0; i < COUNT(tests); i++) {
        if (i == 0 || strcmp(tests[i].name, tests[i - 1].name) != 0)
            t = add_case(s, tests[i].name);
        tcase_add_loop_test(t, tests[i].test, 0, tests[i].times);
    }
    t = add_case(s, "blocking");
    tcase_add_test_raise_signal(t, blocking_stage_must_not_defer, SIGABRT);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
