/* test_client.c - client.c and client_pool.c against a peer that does as it is told, step
 * by step, over a loopback connection.
 * Does not: run a stage; test_upstream.c does. */
#include "client/client.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { PATIENCE_MS = 5000, LONG_MS = 60000, MUCH = 8 << 20 };

static struct client_pool pool;
static struct client client;
static int listener = -1;
static int peer = -1; /* the other end of client.fd */

/* ---- both ends ---- */

static int pool_max_open = 4;

static void set_up(void)
{
    socklen_t len = sizeof(pool.address.v4);
    int small = 65536; /* the kernel does not take all of a request for the peer */

    memset(&client, 0, sizeof(client));
    client.fd = -1;
    pool = (struct client_pool){ .max_open = pool_max_open, .address_len = len };
    pool.address.v4.sin_family = AF_INET;
    pool.address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    ck_assert_int_eq(bind(listener, &pool.address.any, len), 0);
    ck_assert_int_eq(listen(listener, 64), 0);
    ck_assert_int_eq(getsockname(listener, &pool.address.any, &len), 0);
}

/* With FIN: bytes that were not read would make it a reset. */
static void close_peer(void)
{
    char rest[4096];

    if (peer == -1)
        return;
    while (recv(peer, rest, sizeof(rest), MSG_DONTWAIT) > 0)
        continue;
    close(peer);
    peer = -1;
}

static void reset_peer(void)
{
    struct linger linger = { .l_onoff = 1, .l_linger = 0 };

    setsockopt(peer, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(peer);
    peer = -1;
}

/* Nothing is left open, in the pool's opinion and in fact. */
static void tear_down(void)
{
    client_end(&client);
    client_pool_empty(&pool);
    ck_assert_int_eq(pool.open, 0);
    close_peer();
    close(listener);
}

static void accept_peer(void)
{
    int on = 1;

    close_peer();
    peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(peer, 0);
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static struct slice slice_of(const char *text)
{
    return (struct slice){ text, strlen(text) };
}

static void begin(enum http_method method, const char *body)
{
    client_begin(&client, &pool, method, SLICE("GET / HTTP/1.1\r\n\r\n"), slice_of(body),
                 LONG_MS);
}

/* Wait as the header tells, and take a step. */
static void wait_and_step(void)
{
    struct pollfd p = { client.fd, client_events(&client), 0 };
    int ms = client_timeout_ms(&client);

    ck_assert_int_ne(poll(&p, 1, ms < PATIENCE_MS ? ms : PATIENCE_MS), -1);
    ck_assert_msg(p.revents != 0 || ms < PATIENCE_MS, "nothing came of want %d",
                  (int)client.want);
    client_step(&client);
}

/* Until all of the request is sent. */
static void send_it(void)
{
    while (client.want == CLIENT_CONNECT || client.want == CLIENT_WRITE)
        wait_and_step();
}

static void ask(enum http_method method, const char *body)
{
    begin(method, body);
    send_it();
    ck_assert_int_eq(client.want, CLIENT_READ);
    accept_peer();
}

static void say(const char *text, size_t len)
{
    ck_assert_int_eq(send(peer, text, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* Bytes, or the end, are there for the client. */
static void arrive(void)
{
    struct pollfd p = { client.fd, POLLIN, 0 };

    ck_assert_int_eq(poll(&p, 1, PATIENCE_MS), 1);
}

static void await_head(void)
{
    while (!client.answered && client.want != CLIENT_FAILED)
        wait_and_step();
}

/* Pull all of the body, in pieces of `size`. Returns what ended it. */
static char pulled[MUCH + 1];
static size_t pulled_len;

static ssize_t pull_all(size_t size)
{
    ssize_t n;

    pulled_len = 0;
    for (;;) {
        bool ready = client_ready(&client);

        n = client_pull(&client, pulled + pulled_len,
                        size < MUCH - pulled_len ? size : MUCH - pulled_len);
        ck_assert_int_eq(ready, n != CLIENT_NOTHING);
        if (n == CLIENT_NOTHING)
            wait_and_step();
        else if (n <= 0)
            break;
        else
            pulled_len += (size_t)n;
    }
    pulled[pulled_len] = '\0';
    return n;
}

/* ---- every split of an answer ---- */

enum ending { ENDED, ENDED_BY_CLOSE, BROKEN, REFUSED };

#define OK(fields, body) "HTTP/1.1 200 OK\r\n" fields "\r\n" body
#define CHUNKED(body)    OK("Transfer-Encoding: chunked\r\n", body)

static const struct {
    const char *answer;
    enum http_method method;
    int status;
    const char *body;
    enum ending ending;
    bool kept; /* the connection goes back to the pool */
} answers[] = {
    { OK("Content-Length: 5\r\n", "hello"), HTTP_GET, 200, "hello", ENDED, true },
    { OK("Content-Length: 0\r\n", ""), HTTP_GET, 200, "", ENDED, true },
    { OK("Content-Length: 5\r\n", ""), HTTP_HEAD, 200, "", ENDED, true },
    { OK("Content-Length: 5\r\nConnection: close\r\n", "hello"), HTTP_GET, 200, "hello",
      ENDED, false },
    { "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", HTTP_GET, 200, "hi", ENDED,
      false },
    { "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
      HTTP_POST, 200, "hi", ENDED, true },
    { CHUNKED("2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"), HTTP_GET, 200, "hello", ENDED,
      true },
    { CHUNKED("5\r\nhello\r\n0\r\nT: 1\r\nU: 2\r\n\r\n"), HTTP_GET, 200, "hello", ENDED,
      true },
    { CHUNKED("0\r\n\r\n"), HTTP_GET, 200, "", ENDED, true },
    { OK("", "hello"), HTTP_GET, 200, "hello", ENDED_BY_CLOSE, false },
    { OK("", ""), HTTP_GET, 200, "", ENDED_BY_CLOSE, false },
    { "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\n" OK(
          "Content-Length: 2\r\n", "hi"),
      HTTP_GET, 200, "hi", ENDED, true },
    { "HTTP/1.1 204 No Content\r\n\r\n", HTTP_POST, 204, "", ENDED, true },
    { "HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n", HTTP_GET, 304, "", ENDED, true },
    { OK("Content-Length: 5\r\n", "hell"), HTTP_GET, 200, "hell", BROKEN, false },
    { CHUNKED("5\r\nhello\r\n"), HTTP_GET, 200, "hello", BROKEN, false },
    { CHUNKED("2\r\nhi\r\nx\r\n"), HTTP_GET, 200, "hi", BROKEN, false },
    { CHUNKED("2\r\nhi\r\n0\r\nT: 1\r\n"), HTTP_GET, 200, "hi", BROKEN, false },
    { "HTTP/1.1 200 OK\r\nContent-Le", HTTP_GET, 502, "", REFUSED, false },
    { "HTTP/1.1 101 S\r\n\r\n", HTTP_GET, 502, "", REFUSED, false },
    { "HTTP/2 200\r\n\r\n", HTTP_GET, 502, "", REFUSED, false },
    { "HTTP/1.1 100 C\r\n\r\n", HTTP_GET, 502, "", REFUSED, false },
};
enum { ANSWERS = sizeof(answers) / sizeof(*answers) };

/* The answer's bytes in two parts, the second when the first was read. */
static void check_split(int i, size_t split, size_t size)
{
    const char *text = answers[i].answer;
    size_t len = strlen(text);
    ssize_t n = CLIENT_BROKEN;

    ask(answers[i].method, answers[i].method == HTTP_POST ? "body" : "");
    say(text, split);
    if (split > 0)
        arrive();
    if (split > 0)
        client_step(&client);
    say(text + split, len - split);
    if (answers[i].ending != ENDED)
        close_peer();
    await_head();
    if (answers[i].ending != REFUSED) {
        ck_assert_msg(client.answered, "%s: %s", text, client.why);
        ck_assert_int_eq(client.response.status, answers[i].status);
        n = pull_all(size);
        ck_assert_str_eq(pulled, answers[i].body);
    } else {
        ck_assert_int_eq(client.status, answers[i].status);
    }
    ck_assert_msg((n == CLIENT_BROKEN) == (answers[i].ending >= BROKEN), "%s", text);
    client_end(&client);
    ck_assert_msg(pool.idle == answers[i].kept, "%s at %zu", text, split);
    client_pool_empty(&pool);
    ck_assert_int_eq(pool.open, 0);
}

START_TEST(every_split)
{
    size_t len = strlen(answers[_i].answer);

    for (size_t split = 0; split < len; split++)
        check_split(_i, split, split % 3 == 0 ? 1 : 4096);
}
END_TEST

/* A byte behind the answer, at once or when it is here already: not for the next one. */
START_TEST(unasked_byte)
{
    ask(HTTP_GET, "");
    say(OK("Content-Length: 2\r\n", "hi!"), strlen(OK("Content-Length: 2\r\n", "hi!")));
    await_head();
    ck_assert_int_eq(pull_all(4096), 0);
    ck_assert_str_eq(pulled, "hi");
    client_end(&client);
    ck_assert_int_eq(pool.open, 0);
}
END_TEST

/* ---- partial writes, early answers ---- */

#define HEAD "POST / HTTP/1.1\r\nContent-Length: 8388608\r\n\r\n"
static const struct slice head = { HEAD, sizeof(HEAD) - 1 };

/* Up to so many bytes of `head` and letters in all. */
static void read_request(size_t upto)
{
    static char room[65536];
    static size_t at;

    while (at < upto) {
        size_t cap = upto - at < sizeof(room) ? upto - at : sizeof(room);
        ssize_t n = recv(peer, room, cap, 0);

        ck_assert_int_gt(n, 0);
        for (ssize_t i = 0; i < n; i++, at++)
            if (at >= head.len && room[i] != 'a' + (char)((at - head.len) % 26))
                ck_abort_msg("byte %zu is %c", at, room[i]);
    }
}

static char *letters(void)
{
    char *text = malloc(MUCH);

    for (size_t i = 0; i < MUCH; i++)
        text[i] = 'a' + (char)(i % 26);
    return text;
}

static char *begin_much(void)
{
    char *body = letters();

    client_begin(&client, &pool, HTTP_POST, head, (struct slice){ body, MUCH }, LONG_MS);
    while (client.want == CLIENT_CONNECT)
        wait_and_step();
    accept_peer();
    return body;
}

/* The socket takes a part at a time; all of it arrives, in order. */
START_TEST(partial_writes)
{
    char *body = begin_much();

    ck_assert_int_eq(client.want, CLIENT_WRITE);
    while (client.want == CLIENT_WRITE) {
        read_request(client.sent);
        wait_and_step();
    }
    ck_assert_uint_eq(client.sent, head.len + MUCH);
    read_request(head.len + MUCH);
    say(OK("Content-Length: 0\r\n", ""), strlen(OK("Content-Length: 0\r\n", "")));
    await_head();
    ck_assert_int_eq(pull_all(10), 0);
    client_end(&client);
    ck_assert_int_eq(pool.idle, 1);
    free(body);
}
END_TEST

/* The answer comes while the request goes up, and both end: the connection is as good as
 * new. The request's bytes need not stay, once client_keep_body() was called. */
START_TEST(answer_before_the_request_is_sent)
{
    static const char text[] = OK("Content-Length: 5\r\n", "");
    char *body = begin_much();

    say(text, strlen(text));
    while (!client.answered)
        wait_and_step();
    ck_assert(client_keep_body(&client));
    memset(body, 'x', MUCH);
    free(body);
    ck_assert_int_eq(client_pull(&client, pulled, 100), CLIENT_NOTHING);
    while (client.want == CLIENT_WRITE) {
        read_request(client.sent);
        wait_and_step();
    }
    read_request(head.len + MUCH);
    say("hello", 5);
    ck_assert_int_eq(pull_all(100), 0);
    ck_assert_str_eq(pulled, "hello");
    client_end(&client);
    ck_assert_int_eq(pool.idle, 1);
}
END_TEST

/* It ended although the server has not got all of the request: what the server takes for
 * the rest of it would be the next request. */
START_TEST(answer_instead_of_the_request)
{
    static const char text[] = OK("Content-Length: 5\r\n", "hello");
    char *body = begin_much();

    say(text, strlen(text));
    while (!client.answered)
        wait_and_step();
    ck_assert_int_eq(pull_all(100), 0);
    ck_assert_str_eq(pulled, "hello");
    client_end(&client);
    ck_assert_int_eq(pool.open, 0);
    free(body);
}
END_TEST

/* The server closes with most of the request unread, and has answered: that is read. */
START_TEST(answer_and_reset)
{
    static const char text[] = OK("Content-Length: 5\r\n", "hello");
    char *body = begin_much();

    say(text, strlen(text));
    arrive();
    client_step(&client);
    close_peer();
    await_head();
    ck_assert_int_eq(client.response.status, 200);
    ck_assert_int_eq(pull_all(100), 0);
    ck_assert_str_eq(pulled, "hello");
    free(body);
}
END_TEST

/* ---- limits ---- */

START_TEST(much_in_a_small_buffer)
{
    static const char text[] = CHUNKED("");
    char *body = letters(), size[16];

    ask(HTTP_GET, "");
    say(text, strlen(text));
    fcntl(peer, F_SETFL, O_NONBLOCK);
    await_head();
    snprintf(size, sizeof(size), "%x\r\n", (unsigned)MUCH);
    say(size, strlen(size));
    pulled_len = 0;
    for (size_t sent = 0; pulled_len < MUCH;) {
        ssize_t n = send(peer, body + sent, MUCH - sent, MSG_NOSIGNAL);

        sent += n > 0 ? (size_t)n : 0;
        while ((n = client_pull(&client, pulled + pulled_len, MUCH - pulled_len)) > 0) {
            ck_assert_int_le(n, CLIENT_BUFFER);
            pulled_len += (size_t)n;
        }
        ck_assert_int_eq(n, CLIENT_NOTHING);
        if (pulled_len < MUCH)
            wait_and_step();
    }
    ck_assert_int_eq(memcmp(body, pulled, MUCH), 0);
    say("\r\n0\r\n\r\n", 7);
    ck_assert_int_eq(client_pull(&client, pulled, 1), CLIENT_NOTHING);
    wait_and_step();
    ck_assert_int_eq(client_pull(&client, pulled, 1), 0);
    free(body);
}
END_TEST

/* What waits to be pulled keeps the client from reading more. */
START_TEST(reads_no_more_than_is_pulled)
{
    static const char text[] = OK("Content-Length: 100000\r\n", "0123456789");

    ask(HTTP_GET, "");
    say(text, strlen(text));
    await_head();
    ck_assert(client_ready(&client));
    ck_assert_int_eq(client_events(&client), 0);
    ck_assert_int_eq(client_pull(&client, pulled, 4), 4);
    ck_assert_int_eq(client_events(&client), 0);
    ck_assert_int_eq(client_pull(&client, pulled + 4, 100), 6);
    ck_assert_int_eq(memcmp(pulled, "0123456789", 10), 0);
    ck_assert_int_eq(client_events(&client), POLLIN);
    ck_assert(!client_ready(&client));
}
END_TEST

static const struct {
    const char *unit; /* again and again */
    int most;         /* of them, bytes: what follows is refused */
    const char *begin;
    bool answered;
} floods[] = {
    { "HTTP/1.1 103 Early Hints\r\n\r\n", 1000, "", false },
    { "X: 0123456789012345678901234567890123456789\r\n", HTTP_MAX_HEAD,
      "HTTP/1.1 200 OK\r\n", false },
    { "x", HTTP_MAX_HEAD + 4096, "HTTP/1.1 200 ", false },
    { "x", HTTP_MAX_HEAD + 4096, CHUNKED("1;"), true },
    { "x", HTTP_MAX_HEAD + 4096, CHUNKED("0\r\nT: "), true },
    { "0", 64, CHUNKED(""), true },
};
enum { FLOODS = sizeof(floods) / sizeof(*floods) };

/* Whatever comes without end, it is refused, and soon. */
START_TEST(flood)
{
    size_t len = strlen(floods[_i].unit);
    int sent = 0;

    ask(HTTP_GET, "");
    say(floods[_i].begin, strlen(floods[_i].begin));
    while (client.want != CLIENT_FAILED) {
        ck_assert_int_le(sent, floods[_i].most + 2 * (int)len);
        say(floods[_i].unit, len);
        sent += (int)len;
        arrive();
        client_step(&client);
        client_ready(&client);
    }
    ck_assert_int_eq(client.status, 502);
    ck_assert_int_eq(client.answered, floods[_i].answered);
    if (client.answered)
        ck_assert_int_eq(client_pull(&client, pulled, 10), CLIENT_BROKEN);
}
END_TEST

/* ---- the pool ---- */

static const char hi[] = OK("Content-Length: 2\r\n", "hi");

static void answer_hi(void)
{
    say(hi, strlen(hi));
    await_head();
    ck_assert_msg(client.answered, "%s", client.why);
    ck_assert_int_eq(pull_all(100), 0);
    ck_assert_str_eq(pulled, "hi");
    client_end(&client);
}

START_TEST(used_again)
{
    ask(HTTP_GET, "");
    answer_hi();
    ck_assert_int_eq(pool.idle, 1);
    for (int i = 0; i < 5; i++) {
        begin(i % 2 ? HTTP_GET : HTTP_POST, "");
        ck_assert(client.reused);
        ck_assert_int_eq(client.want, CLIENT_READ); /* it was sent at once */
        ck_assert_int_eq(pool.idle, 0);
        answer_hi();
        ck_assert_int_eq(pool.open, 1);
    }
}
END_TEST

enum { SPEAKS, CLOSES, RESETS };

/* An idle connection that is not silent is closed, and the request goes over a new one. */
START_TEST(idle_connection_is_looked_at)
{
    ask(HTTP_GET, "");
    answer_hi();
    if (_i == SPEAKS)
        say("!", 1);
    else if (_i == CLOSES)
        close_peer();
    else
        reset_peer();
    struct pollfd p = { pool.idle_fds[0], POLLIN, 0 };
    ck_assert_int_eq(poll(&p, 1, PATIENCE_MS), 1);
    ask(HTTP_POST, "x");
    ck_assert(!client.reused);
    ck_assert_int_eq(pool.open, 1);
    answer_hi();
}
END_TEST

START_TEST(pool_is_bounded)
{
    struct client more[4];

    for (int i = 0; i < pool_max_open; i++)
        client_begin(&more[i], &pool, HTTP_GET, SLICE("x"), SLICE(""), LONG_MS);
    ck_assert_int_eq(pool.open, pool_max_open);
    begin(HTTP_GET, "");
    ck_assert_int_eq(client.want, CLIENT_FAILED);
    ck_assert_int_eq(client.status, 503);
    client_end(&client);
    client_end(&more[0]);
    begin(HTTP_GET, "");
    ck_assert_int_eq(client.want, CLIENT_CONNECT);
    client_end(&client);
    for (int i = 1; i < pool_max_open; i++)
        client_end(&more[i]);
    ck_assert_int_eq(pool.open, 0);
}
END_TEST

/* All are kept that were in use at once: who comes with a crowd of clients again finds a
 * connection for each. */
START_TEST(pool_keeps_thousands)
{
    enum { MANY = 1000 }; /* below the 1,024 descriptors that a process has at least */
    static int fds[MANY];
    int open = 0, fd;

    pool.max_open = MANY;
    for (; open < MANY && (fds[open] = client_pool_connect(&pool)) >= 0; open++)
        continue;
    ck_assert_int_gt(open, MANY / 2);
    for (int i = 0; i < open; i++)
        client_pool_give(&pool, fds[i]);
    ck_assert_int_eq(pool.idle, open);
    ck_assert_int_eq(pool.open, open);
    ck_assert_int_eq(pool.idle_fds[open - 1], fds[open - 1]);
    ck_assert_int_eq(pool.idle_fds[0], fds[0]);
    pool.max_open = open;
    fd = client_pool_connect(&pool); /* an idle one makes room */
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pool.open, open);
    ck_assert_int_eq(pool.idle, open - 1);
    client_pool_close(&pool, fd);
}
END_TEST

START_TEST(endpoints)
{
    union address a;

    ck_assert_uint_eq(address_endpoint("10.0.0.1:65535", &a), sizeof(a.v4));
    ck_assert_int_eq(a.v4.sin_family, AF_INET);
    ck_assert_uint_eq(ntohl(a.v4.sin_addr.s_addr), 0x0a000001);
    ck_assert_uint_eq(ntohs(a.v4.sin_port), 65535);
    ck_assert_uint_eq(address_endpoint("[::1]:9", &a), sizeof(a.v6));
    ck_assert_int_eq(a.v6.sin6_family, AF_INET6);
    ck_assert_int_eq(memcmp(&a.v6.sin6_addr, &in6addr_loopback, 16), 0);
    ck_assert_uint_eq(ntohs(a.v6.sin6_port), 9);
    ck_assert_uint_eq(address_endpoint("[::1]", &a), 0);
    ck_assert_uint_eq(address_endpoint("[]:1", &a), 0);
    ck_assert_uint_eq(address_endpoint("", &a), 0);
}
END_TEST

/* Whose socket it is: nobody's but ours, and it never sleeps. */
START_TEST(socket_flags)
{
    int on = 0;
    socklen_t len = sizeof(on);

    ask(HTTP_GET, "");
    ck_assert_int_ne(fcntl(client.fd, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_ne(fcntl(client.fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_eq(getsockopt(client.fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
    ck_assert_int_eq(on, 1);
}
END_TEST

/* ---- retrying ---- */

static const struct {
    enum http_method method;
    bool reused;
    const char *said; /* before it dies */
    bool reset, retried;
} deaths[] = {
    { HTTP_GET, true, "", false, true },
    { HTTP_GET, true, "", true, true },
    { HTTP_HEAD, true, "", false, true },
    { HTTP_HEAD, true, "", true, true },
    { HTTP_POST, true, "", false, false },
    { HTTP_POST, true, "", true, false },
    { HTTP_PATCH, true, "", false, false },
    { HTTP_GET, true, "H", false, false },
    { HTTP_GET, true, "H", true, false },
    { HTTP_GET, false, "", false, false },
    { HTTP_GET, false, "", true, false },
    { HTTP_PUT, true, "", false, true },
    { HTTP_GET, true, "HTTP/1.1 100 C\r\n\r\n", false, false },
};
enum { DEATHS = sizeof(deaths) / sizeof(*deaths) };

START_TEST(dies_before_it_answers)
{
    if (deaths[_i].reused) {
        ask(HTTP_GET, "");
        answer_hi();
        begin(deaths[_i].method, "body");
        send_it();
    } else {
        ask(deaths[_i].method, "body");
    }
    ck_assert_int_eq(client.reused, deaths[_i].reused);
    say(deaths[_i].said, strlen(deaths[_i].said));
    if (*deaths[_i].said) {
        arrive();
        client_step(&client);
    }
    if (deaths[_i].reset)
        reset_peer();
    else
        close_peer();
    arrive();
    client_step(&client);
    if (!deaths[_i].retried) {
        ck_assert_int_eq(client.want, CLIENT_FAILED);
        ck_assert_int_eq(client.status, 502);
        ck_assert_int_eq(pool.open, 0);
        return;
    }
    send_it();
    ck_assert(!client.reused);
    accept_peer();
    ck_assert_int_eq(pool.open, 1);
    close_peer(); /* and it dies again: that is that */
    arrive();
    client_step(&client);
    ck_assert_int_eq(client.want, CLIENT_FAILED);
    ck_assert_int_eq(client.status, 502);
}
END_TEST

/* All of the request is sent again, not the rest of it. */
START_TEST(retry_sends_all)
{
    char got[64] = "";

    ask(HTTP_GET, "");
    answer_hi();
    begin(HTTP_PUT, "body");
    reset_peer();
    arrive();
    client_step(&client);
    send_it();
    accept_peer();
    ck_assert_int_eq(recv(peer, got, sizeof(got) - 1, 0), 22);
    ck_assert_str_eq(got, "GET / HTTP/1.1\r\n\r\nbody");
    answer_hi();
    ck_assert_int_eq(pool.idle, 1);
}
END_TEST

/* ---- failures and deadlines ---- */

START_TEST(refused)
{
    close(listener);
    listener = -1;
    begin(HTTP_GET, "");
    while (client.want == CLIENT_CONNECT)
        wait_and_step();
    ck_assert_int_eq(client.want, CLIENT_FAILED);
    ck_assert_int_eq(client.status, 502);
    ck_assert_str_eq(client.why, strerror(ECONNREFUSED));
    ck_assert_int_eq(pool.open, 0);
}
END_TEST

/* The deadline's time is not waited for, but brought near. */
static void pass_deadline(int status)
{
    ck_assert_int_le(client_timeout_ms(&client), LONG_MS + 1);
    client.deadline = clock_ms();
    ck_assert_int_eq(client_timeout_ms(&client), 0);
    client_step(&client);
    ck_assert_int_eq(client.want, CLIENT_FAILED);
    ck_assert_int_eq(client.status, status);
}

START_TEST(deadline_for_connecting)
{
    int fds[4];

    /* A queue for one, and nobody accepts: the kernel drops what comes then. */
    pool.max_open = 8;
    ck_assert_int_eq(listen(listener, 0), 0);
    for (int i = 0; i < 4; i++)
        fds[i] = client_pool_connect(&pool);
    begin(HTTP_GET, "");
    ck_assert_int_eq(client.want, CLIENT_CONNECT);
    ck_assert_int_le(client_timeout_ms(&client), CLIENT_CONNECT_MS + 1);
    client_step(&client);
    ck_assert_int_eq(client.want, CLIENT_CONNECT);
    pass_deadline(504);
    for (int i = 0; i < 4; i++)
        client_pool_close(&pool, fds[i]);
}
END_TEST

START_TEST(deadline_for_the_answer)
{
    ask(HTTP_GET, "");
    client_step(&client); /* too early: no harm */
    ck_assert_int_eq(client.want, CLIENT_READ);
    int64_t deadline = client.deadline;
    say("HTTP/1.1 200 OK\r\n", 17); /* a part of the head does not lengthen it */
    arrive();
    client_step(&client);
    ck_assert_int_eq(client.deadline, deadline);
    pass_deadline(504);
}
END_TEST

START_TEST(deadline_within_the_body)
{
    static const char text[] = OK("Content-Length: 10\r\n", "hello");

    ask(HTTP_GET, "");
    say(text, strlen(text));
    await_head();
    ck_assert_int_eq(client_pull(&client, pulled, 100), 5);
    client.deadline = clock_ms() + 1000;
    say("w", 1);
    wait_and_step();
    ck_assert_int_gt(client_timeout_ms(&client), LONG_MS - 2000); /* progress */
    ck_assert_int_eq(client_pull(&client, pulled, 100), 1);
    client.deadline = 0;
    client_step(&client);
    ck_assert_int_eq(client.want, CLIENT_FAILED);
    ck_assert_int_eq(client_pull(&client, pulled, 100), CLIENT_BROKEN);
}
END_TEST

/* While it is not read, because nobody pulls, the server may be silent. */
START_TEST(pulling_late)
{
    static const char text[] = OK("Content-Length: 10\r\n", "hello");

    ask(HTTP_GET, "");
    say(text, strlen(text));
    await_head();
    client.deadline = clock_ms() - 1;
    ck_assert_int_eq(client_pull(&client, pulled, 100), 5);
    client_step(&client);
    ck_assert_int_eq(client.want, CLIENT_READ);
    say("world", 5);
    ck_assert_int_eq(pull_all(100), 0);
    ck_assert_str_eq(pulled, "world");
}
END_TEST

/* A waiting request owns no buffer. */
START_TEST(waits_without_a_buffer)
{
    ask(HTTP_GET, "");
    ck_assert_ptr_null(client.buf);
    answer_hi();
    ck_assert_ptr_null(client.buf);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client");
    TCase *t = tcase_create("client");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, every_split, 0, ANSWERS);
    tcase_add_test(t, unasked_byte);
    tcase_add_test(t, partial_writes);
    tcase_add_test(t, answer_before_the_request_is_sent);
    tcase_add_test(t, answer_instead_of_the_request);
    tcase_add_test(t, answer_and_reset);
    tcase_add_test(t, much_in_a_small_buffer);
    tcase_add_test(t, reads_no_more_than_is_pulled);
    tcase_add_loop_test(t, flood, 0, FLOODS);
    tcase_add_test(t, used_again);
    tcase_add_loop_test(t, idle_connection_is_looked_at, SPEAKS, RESETS + 1);
    tcase_add_test(t, pool_is_bounded);
    tcase_add_test(t, pool_keeps_thousands);
    tcase_add_test(t, endpoints);
    tcase_add_test(t, socket_flags);
    tcase_add_loop_test(t, dies_before_it_answers, 0, DEATHS);
    tcase_add_test(t, retry_sends_all);
    tcase_add_test(t, refused);
    tcase_add_test(t, deadline_for_connecting);
    tcase_add_test(t, deadline_for_the_answer);
    tcase_add_test(t, deadline_within_the_body);
    tcase_add_test(t, pulling_late);
    tcase_add_test(t, waits_without_a_buffer);
    suite_add_tcase(s, t);

    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
