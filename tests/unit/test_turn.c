/* test_turn.c - what a turn holds belongs to a thread, and can be put aside and taken up:
 * connections that are served in the middle of each other's turns, and side by side.
 * Does not: start a stage. */
#include "conn/turn.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn/app.h"
#include "conn/conn.h"
#include "conn/http1.h"

enum {
    CLIENTS = 3,
    BODY = 60000, /* nearly all of the scratch */
    ROOM = 1 << 20,
};

#define HOST        "Host: a\r\n"
#define GET(target) "GET " target " HTTP/1.1\r\n" HOST "\r\n"

static struct options opt = { .keepalive_ms = 60000,
                              .request_timeout_ms = 60000,
                              .reply_timeout_ms = 60000,
                              .max_body = BODY };

static struct client {
    struct conn *c;
    int fd;
} clients[CLIENTS];

static pthread_barrier_t together;
static const struct request *waiting; /* of the last /aside/later */

static void letters(uint64_t offset, char *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (char)('a' + (offset + i) % 26);
}

/* As a stage does that has to wait within a handler: the next client is served meanwhile,
 * from its first byte to its last. */
static void serve_the_next(struct conn *c)
{
    struct turn_kept *kept = turn_put_aside();
    int i = 0;

    ck_assert_ptr_nonnull(kept);
    ck_assert_uint_eq(turn.input_len + turn.output_len, 0);
    while (clients[i].c != c)
        i++;
    conn_fill(clients[i + 1].c);
    ck_assert_int_eq(clients[i + 1].c->want, WANT_READ);
    turn_take_up(kept);
    ck_assert_ptr_eq(turn.conn, c);
}

/* /aside: the next client is served first. /meet: two threads are in a turn at once. /aside/later: and the answer comes later. POST:
 * the body; /letters: many of them, produced; else the query. */
static void on_message(struct conn *c, const void *message)
{
    const struct request *req = message;

    if (req->path.len >= 6 && memcmp(req->path.base, "/aside", 6) == 0)
        serve_the_next(c);
    if (slice_equal(req->path, SLICE("/meet")))
        pthread_barrier_wait(&together);
    if (slice_equal(req->path, SLICE("/aside/later"))) {
        waiting = http_defer(c, req);
        ck_assert_ptr_nonnull(waiting);
    } else if (slice_equal(req->path, SLICE("/letters"))) {
        http_reply_produced(c, req, SLICE("text/plain"), 100000, letters);
    } else {
        http_reply(c, req, 200, SLICE("text/plain"), SLICE(""),
                   req->method == HTTP_POST ? req->body : req->query);
    }
}

const struct app app = { .protocol = &http1, .on_message = on_message };

static void make_pair(int fds[2])
{
    int size = ROOM;

    ck_assert_int_eq(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static void set_up(void)
{
    conn_setup(&opt, false);
    for (int i = 0; i < CLIENTS; i++) {
        int fds[2];

        make_pair(fds);
        clients[i] = (struct client){ conn_open(fds[0]), fds[1] };
        ck_assert_ptr_nonnull(clients[i].c);
    }
}

static void tear_down(void)
{
    for (int i = 0; i < CLIENTS; i++) {
        conn_close(clients[i].c);
        close(clients[i].fd);
    }
    ck_assert_int_eq(conn_count, 0);
}

static void say(const struct client *k, const char *bytes, size_t len)
{
    ck_assert_int_eq(send(k->fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* A body of this letter, BODY bytes. */
static void post(const struct client *k, char letter)
{
    static char text[BODY + 256];
    int head =
        sprintf(text, "POST / HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n", (int)BODY);

    memset(text + head, letter, BODY);
    say(k, text, (size_t)head + BODY);
}

/* Everything this client got: these bodies, each BODY bytes of a capital or a text. */
static void expect_bodies(const struct client *k, const char *const *bodies)
{
    static char received[ROOM + 1], body[100001];
    ssize_t n = recv(k->fd, received, ROOM, 0);
    char *at = received, *head_end;

    ck_assert_int_gt(n, 0);
    received[n] = '\0';
    for (; *bodies; bodies++) {
        size_t len = strlen(*bodies);

        memcpy(body, *bodies, len);
        if (len == 1 && *body >= 'A' && *body <= 'Z')
            memset(body, *body, len = BODY);
        else if (strcmp(*bodies, "letters") == 0)
            letters(0, body, len = 100000);
        head_end = strstr(at, "\r\n\r\n");
        ck_assert_msg(head_end && memcmp(at, "HTTP/1.1 200", 12) == 0, "no reply: %.80s",
                      at);
        ck_assert_msg(received + n - (head_end + 4) >= (ssize_t)len &&
                          memcmp(head_end + 4, body, len) == 0,
                      "expected %s, got %.80s", *bodies, head_end + 4);
        at = head_end + 4 + len;
    }
    ck_assert_msg(at == received + n, "and then: %.80s", at);
}
#define expect(k, ...) expect_bodies(k, (const char *const[]){ __VA_ARGS__, NULL })

/* In the middle of a batch: replies are put already, more requests are behind it in the
 * scratch. The other's fill all of the scratch, both ways. In the second round the batch
 * stands in the connection's own memory. */
START_TEST(another_in_the_middle)
{
    static const char batch[] =
        "POST / HTTP/1.1\r\n" HOST
        "Transfer-Encoding: chunked\r\n\r\n2\r\non\r\n1\r\ne\r\n"
        "0\r\n\r\n" GET("/?two") GET("/aside?three") GET("/?four") GET("/?five");

    if (_i == 1) {
        say(&clients[0], batch, 20);
        conn_fill(clients[0].c);
    }
    say(&clients[0], batch + 20 * _i, strlen(batch) - 20 * (size_t)_i);
    say(&clients[1], GET("/letters"), strlen(GET("/letters")));
    post(&clients[1], 'X');
    conn_fill(clients[0].c); /* which serves the other, too, as far as one read goes */
    conn_fill(clients[1].c);
    expect(&clients[0], "one", "two", "three", "four", "five");
    expect(&clients[1], "letters", "X");
    ck_assert_uint_eq(clients[0].c->requests, 5);
}
END_TEST

/* And a third in the middle of the second; each answer in full. */
START_TEST(one_within_the_other)
{
    say(&clients[0], GET("/?1") GET("/aside?2"), strlen(GET("/?1") GET("/aside?2")));
    say(&clients[1], GET("/?3") GET("/aside?4") GET("/?5"),
        strlen(GET("/?3") GET("/aside?4") GET("/?5")));
    post(&clients[2], 'Z');
    conn_fill(clients[0].c);
    expect(&clients[0], "1", "2");
    expect(&clients[1], "3", "4", "5");
    expect(&clients[2], "Z");
}
END_TEST

/* What was taken up can be deferred as ever. */
START_TEST(deferred_after_it)
{
    static const char batch[] = GET("/?1") GET("/aside/later?2") GET("/?3");

    say(&clients[0], batch, strlen(batch));
    post(&clients[1], 'Y');
    conn_fill(clients[0].c);
    expect(&clients[0], "1");
    expect(&clients[1], "Y");
    http_reply(clients[0].c, waiting, 200, SLICE("text/plain"), SLICE(""),
               waiting->query);
    ck_assert_ptr_eq(conn_expired(), clients[0].c);
    conn_drain(clients[0].c);
    expect(&clients[0], "2", "3");
}
END_TEST

START_TEST(nothing_to_put_aside)
{
    errno = ENOMEM;
    ck_assert_ptr_null(turn_put_aside());
    ck_assert_int_eq(errno, 0);
    turn_take_up(NULL);
    ck_assert_ptr_null(turn.conn);
}
END_TEST

/* ---- Threads ---- */

enum { ROUNDS = 500 };

struct server {
    pthread_t thread;
    int fds[2]; /* its end, and its client's */
    char letter;
    int good;  /* answers as they should be */
    int count; /* conn_count while both have their connection */
};

/* Check's assertions are for the thread that runs the test: this one only counts. */
static void *serve_alone(void *arg)
{
    struct server *s = arg;
    static _Thread_local char request[512], reply[1024];
    struct conn *c = conn_open(s->fds[0]);
    int len;

    pthread_barrier_wait(&together);
    s->count = conn_count;
    for (int i = 0; c && i < ROUNDS; i++) {
        len = sprintf(request, GET("/?%c%d") GET("/meet?%c"), s->letter, i, s->letter);
        if (send(s->fds[1], request, (size_t)len, MSG_NOSIGNAL) != len)
            break;
        conn_fill(c);
        len = (int)recv(s->fds[1], reply, sizeof(reply) - 1, 0);
        if (len <= 0)
            break;
        reply[len] = '\0';
        sprintf(request, "\r\n\r\n%c%dHTTP/1.1 200", s->letter, i);
        s->good += strstr(reply, request) != NULL && reply[len - 1] == s->letter;
    }
    pthread_barrier_wait(&together);
    if (c)
        conn_close(c);
    close(s->fds[1]);
    return NULL;
}

START_TEST(two_threads)
{
    struct server servers[2] = { { .letter = 'x' }, { .letter = 'y' } };

    ck_assert_int_eq(pthread_barrier_init(&together, NULL, 2), 0);
    for (int i = 0; i < 2; i++) {
        make_pair(servers[i].fds);
        ck_assert_int_eq(
            pthread_create(&servers[i].thread, NULL, serve_alone, &servers[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_join(servers[i].thread, NULL), 0);
        ck_assert_int_eq(servers[i].good, ROUNDS);
        ck_assert_int_eq(servers[i].count, CLIENTS + 2); /* of the whole process */
    }
    ck_assert_int_eq(conn_count, CLIENTS);
    ck_assert_int_eq(pthread_barrier_destroy(&together), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("turn");
    TCase *t = tcase_create("aside");

    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, another_in_the_middle, 0, 2);
    tcase_add_test(t, one_within_the_other);
    tcase_add_test(t, deferred_after_it);
    tcase_add_test(t, nothing_to_put_aside);
    t = tcase_create("threads");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, two_threads);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
