/* test_protocol.c - a second protocol, without a line of HTTP, proves what protocol.h
 * promises: a line comes in, a line goes out.
 * Does not: start a stage. */
#include "conn/protocol.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/stop.h"
#include "board/stats.h"
#include "conn/app.h"
#include "conn/conn.h"
#include "conn/turn.h"

enum {
    MAX_LINE = 64, /* bytes, with its end */
    ROOM = 1 << 20,
    PATIENCE_MS = 5000,
};

/* ---- The protocol ---- */

/* The application's on_message() gets one. */
struct line {
    const char *base; /* without its end */
    size_t len;
};

static size_t message_max(const struct options *opt)
{
    (void)opt;
    return MAX_LINE;
}

/* c->state[0]: bytes that were searched for an end already. */
static ssize_t take(struct conn *c, char *bytes, size_t *len)
{
    size_t searched = c->state[0];
    char *end = memchr(bytes + searched, '\n', *len - searched);
    size_t n = end ? (size_t)(end + 1 - bytes) : *len;

    ck_assert_uint_lt(searched, *len); /* it is called for something new */
    c->state[0] = 0;
    if (n > MAX_LINE) {
        out_put(c, "! too long\n", 11);
        return -1;
    }
    if (end == NULL) {
        c->state[0] = n;
        return 0;
    }
    c->behind = n < *len;
    app.on_message(c, &(struct line){ bytes, n - 1 });
    return (ssize_t)n;
}

static void refuse(struct conn *c, enum refusal why)
{
    static const char *const answers[] = {
        [REFUSE_LATE] = "! late\n", [REFUSE_MEMORY] = "! no memory\n"
    };

    out_put(c, answers[why], strlen(answers[why]));
}

static void unanswered(struct conn *c)
{
    out_put(c, "! unanswered\n", 13);
    conn_answered(c);
}

static const struct protocol line_protocol = { "line", message_max, take, refuse,
                                               unanswered };

/* The answer is the line itself. "bye" is the last one. */
static void line_reply(struct conn *c, const struct line *line)
{
    char *room;

    ck_assert_ptr_nonnull(c);
    room = out_room(c, line->len + 1);
    ck_assert_ptr_nonnull(room);
    memcpy(room, line->base, line->len);
    room[line->len] = '\n';
    c->closing = conn_is_last(c) || (line->len == 3 && memcmp(line->base, "bye", 3) == 0);
    out_add(c, line->len + 1);
    conn_answered(c);
}

static const struct line *line_defer(struct conn *c, const struct line *line)
{
    struct line *copy = malloc(sizeof(*copy));

    ck_assert_ptr_nonnull(copy);
    copy->len = line->len;
    copy->base = conn_defer(c, copy);
    ck_assert_ptr_nonnull(copy->base);
    return copy;
}

/* ---- The application ---- */

static const struct line *waiting; /* NULL: nothing is deferred */
static int cancelled;

/* What begins with "later" is. */
static void on_message(struct conn *c, const void *message)
{
    const struct line *line = message;

    if (line->len < 5 || memcmp(line->base, "later", 5) != 0) {
        line_reply(c, line);
        return;
    }
    ck_assert_ptr_null(waiting);
    waiting = line_defer(c, line);
}

static void on_cancel(struct conn *c)
{
    ck_assert_ptr_eq(c->deferral, waiting);
    waiting = NULL;
    cancelled++;
}

const struct app app = { .protocol = &line_protocol,
                         .on_message = on_message,
                         .on_cancel = on_cancel };

/* ---- Both ends ---- */

static struct options opt;
static struct conn *c; /* NULL: closed */
static int peer;
static char received[ROOM];
static size_t received_len;
static bool ended;

static void begin(int type)
{
    int fds[2];

    conn_setup(&opt, false);
    ck_assert_int_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    peer = fds[1];
    c = conn_open(fds[0]);
    ck_assert_ptr_nonnull(c);
    received_len = 0;
    ended = false;
}

static void end(void)
{
    if (c)
        conn_close(c);
    c = NULL;
    close(peer);
    ck_assert_int_eq(conn_count, 0);
    ck_assert_ptr_null(waiting);
}

static void set_up(void)
{
    opt = (struct options){ .keepalive_ms = 60000,
                            .request_timeout_ms = 60000,
                            .reply_timeout_ms = 60000 };
}

static void step(void)
{
    if (c->want == WANT_WRITE)
        conn_drain(c);
    else
        conn_fill(c);
    if (c->want == WANT_CLOSE) {
        conn_close(c);
        c = NULL;
    }
}

/* Serve and receive until there is nothing left to do. */
static void run(void)
{
    bool more = true;

    while (more) {
        struct pollfd p = { .fd = c ? c->fd : -1,
                            .events = !c || c->want == WANT_REPLY ? 0
                                      : c->want == WANT_READ      ? POLLIN
                                                                  : POLLOUT };
        ssize_t n = recv(peer, received + received_len, ROOM - received_len, 0);

        more = n > 0;
        ended |= n == 0;
        received_len += n > 0 ? (size_t)n : 0;
        if (c && (poll(&p, 1, 0) > 0 || conn_expired() == c)) {
            step();
            more = true;
        }
    }
}

static void say(const char *text, size_t len)
{
    ck_assert_int_eq(send(peer, text, len, MSG_NOSIGNAL), (ssize_t)len);
    run();
}

/* All that was received until now. */
static void expect(const char *text)
{
    ck_assert_msg(received_len == strlen(text) &&
                      memcmp(received, text, received_len) == 0,
                  "expected [%s], got [%.*s]", text, (int)received_len, received);
}

static void expect_idle(void)
{
    ck_assert_ptr_nonnull(c);
    ck_assert_int_eq(c->want, WANT_READ);
    ck_assert_int_eq(c->clock, CLOCK_IDLE);
    ck_assert(c->in.base == NULL && c->out.kept.base == NULL);
}

static void wait_for_expiry(void)
{
    int64_t give_up = clock_ms() + PATIENCE_MS;

    while (conn_expired() != c) {
        ck_assert_msg(clock_ms() < give_up, "nothing has expired");
        poll(NULL, 0, conn_timeout_ms());
    }
}

static void answer(void)
{
    const struct line *line = waiting;

    waiting = NULL;
    line_reply(c, line);
}

/* ---- */

static const char lines[] = "one\n\nthree\nlines of four words\nfive\n";

START_TEST(cut_anywhere)
{
    for (size_t cut = 1; cut < strlen(lines); cut++) {
        begin(SOCK_STREAM);
        say(lines, cut);
        say(lines + cut, strlen(lines) - cut);
        expect(lines);
        ck_assert_uint_eq(c->requests, 5);
        expect_idle();
        end();
    }
}
END_TEST

START_TEST(byte_by_byte)
{
    begin(SOCK_STREAM);
    for (size_t i = 0; i < strlen(lines); i++)
        say(lines + i, 1);
    expect(lines);
    expect_idle();
    end();
}
END_TEST

/* A SOCK_SEQPACKET socket keeps the bytes of each send(2) apart. */
START_TEST(a_hundred_lines_cost_one_send)
{
    static char text[100 * 16 + 1];
    size_t len = 0;

    begin(SOCK_SEQPACKET);
    for (int i = 0; i < 100; i++)
        len += (size_t)sprintf(text + len, "line %d\n", i);
    ck_assert_int_eq(send(peer, text, len, 0), (ssize_t)len);
    conn_fill(c);
    ck_assert_int_eq(recv(peer, received, ROOM, 0), (ssize_t)len);
    ck_assert_mem_eq(received, text, len);
    ck_assert_int_eq(recv(peer, received, ROOM, 0), -1);
    ck_assert_uint_eq(c->requests, 100);
    expect_idle();
    end();
}
END_TEST

/* A line of the greatest length is answered; one byte more, with or without its end, in
 * one piece or in two, is refused behind what came before, and nothing behind it is
 * taken. */
START_TEST(limit)
{
    char line[MAX_LINE + 3], text[3 * MAX_LINE], expected[3 * MAX_LINE];

    for (size_t cut = 1; cut < 4 + MAX_LINE; cut++) {
        memset(line, 'x', sizeof(line));
        strcpy(line + MAX_LINE - 1 + _i, "\n");
        sprintf(text, "one\n%s%s", line, "bye\n");
        sprintf(expected, "one\n%s", _i == 0 ? line : "! too long\n");
        if (_i == 2)
            text[4 + MAX_LINE + 1] = '\0'; /* cut off before its end */
        begin(SOCK_STREAM);
        say(text, cut);
        say(text + cut, strlen(text) - cut);
        if (_i == 0)
            strcat(expected, "bye\n");
        expect(expected);
        ck_assert(ended);
        ck_assert_uint_eq(stats_get(&stats->refused), _i == 0 ? 0 : cut);
        end();
    }
}
END_TEST

START_TEST(late)
{
    opt.request_timeout_ms = 50;
    begin(SOCK_STREAM);
    say("one\ntwo", 7);
    expect("one\n");
    wait_for_expiry();
    run();
    expect("one\n! late\n");
    ck_assert(ended);
    end();
}
END_TEST

/* It had asked for nothing. */
START_TEST(idle)
{
    opt.keepalive_ms = 50;
    begin(SOCK_STREAM);
    say("one\n", 4);
    wait_for_expiry();
    run();
    expect("one\n");
    ck_assert(ended && c == NULL);
    end();
}
END_TEST

START_TEST(deferred)
{
    static const char text[] = "one\nlater two\nthree\nlater four\nfi";

    for (size_t cut = 1; cut < strlen(text); cut++) {
        begin(SOCK_STREAM);
        say(text, cut);
        if (waiting)
            answer();
        say(text + cut, strlen(text) - cut);
        while (waiting) {
            answer();
            run();
        }
        expect("one\nlater two\nthree\nlater four\n");
        say("ve\n", 3);
        expect("one\nlater two\nthree\nlater four\nfive\n");
        expect_idle();
        end();
    }
    ck_assert_int_eq(cancelled, 0);
}
END_TEST

START_TEST(never_answered)
{
    opt.reply_timeout_ms = 50;
    begin(SOCK_STREAM);
    say("one\nlater two\nthree\n", 20);
    expect("one\n");
    wait_for_expiry();
    run();
    expect("one\n! unanswered\nthree\n");
    expect_idle();
    ck_assert_int_eq(cancelled, 1);
    end();
}
END_TEST

START_TEST(closing)
{
    begin(SOCK_STREAM);
    say("one\nbye\nthree\n", 14);
    expect("one\nbye\n");
    ck_assert(ended);
    end();
}
END_TEST

START_TEST(stops)
{
    begin(SOCK_STREAM);
    say("one\nlater two\nthree\n", 20);
    stopping = STOP_GRACEFUL;
    run();
    ck_assert_ptr_nonnull(c);
    answer();
    run();
    expect("one\nlater two\nthree\n");
    ck_assert(ended);
    end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("protocol");
    TCase *t = tcase_create("line");

    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, cut_anywhere);
    tcase_add_test(t, byte_by_byte);
    tcase_add_test(t, a_hundred_lines_cost_one_send);
    tcase_add_loop_test(t, limit, 0, 3);
    tcase_add_test(t, late);
    tcase_add_test(t, idle);
    tcase_add_test(t, deferred);
    tcase_add_test(t, never_answered);
    tcase_add_test(t, closing);
    tcase_add_test(t, stops);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
