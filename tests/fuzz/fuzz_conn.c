/* fuzz_conn.c - libFuzzer: any bytes, in any pieces, into a conn over a socketpair(2).
 * Does not: check replies beyond their number and their order. */
#include "conn/conn.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "conn/app.h"
#include "conn/http1.h"

/* The input: a byte of switches, then pieces: a byte n and n bytes of what the client
 * sends. n = 0: the client reads. n = 255: it shuts its sending side. */
enum {
    CLIENT_READS_AT_ONCE = 1,
    SMALL_BUFFERS = 2,
    NO_KEEP_ALIVE = 4,
    CLIENT_VANISHES = 8
};

enum { MAX_BODY = 3000, LONG_REPLY = 70000 };

static int messages; /* that the application has got on this connection */
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

static void on_message(struct conn *c, const void *message)
{
    const struct request *req = message;
    char number[16];

    messages++;
    snprintf(number, sizeof(number), "%d", messages);
    if (req->path.len == 2)
        http_reply_produced(c, req, SLICE("text/plain"), LONG_REPLY, letters);
    else if (req->body.len > 0)
        http_reply(c, req, 200, req->type, SLICE("X: y\r\n"), req->body);
    else
        http_reply(c, req, 200, SLICE("text/plain"), SLICE(""),
                   (struct slice){ number, strlen(number) });
}

const struct app app = { .protocol = &http1, .on_message = on_message };

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
    struct http_parser p = c->parser;
    struct request req;
    size_t len = c->in.len;
    char *bytes = malloc(len + 1);

    if (bytes == NULL || c->in.base == NULL) {
        free(bytes);
        return false;
    }
    memcpy(bytes, c->in.base, len);
    ssize_t n = http_parse(&p, bytes, &len, MAX_BODY, &req);
    free(bytes);
    return n != 0;
}

static void check(const struct conn *c)
{
    if (c->want != WANT_READ && c->want != WANT_WRITE && c->want != WANT_CLOSE)
        fail("want is none of the three");
    if ((size_t)c->in.cap + c->out.cap > 4 * 65536 + 2 * MAX_BODY + 4 * HTTP_MAX_HEAD)
        fail("too much memory");
    if (c->in.len > c->in.cap || c->out.len > c->out.cap)
        fail("a buffer holds more than it has room for");
    if (c->want == WANT_WRITE && c->out.len == 0 && c->produce == NULL)
        fail("wants to write nothing");
    if (c->lingering && (c->in.base || c->out.base))
        fail("lingers with memory");
    if (c->want == WANT_READ && c->in.len > 0 && holds_a_request(c))
        fail("waits to read, while a request that it has read is unanswered");
    if (conn_timeout_ms() < 0)
        fail("nothing would ever end this connection");
    if (c->requests != (uint32_t)messages)
        fail("the application was asked more or less often than there are requests");
}

/* The stage. Returns NULL when the connection is closed. */
static struct conn *serve(struct conn *c, int client, bool reads)
{
    for (int turn = 0; turn < 100000; turn++) {
        struct pollfd p = { .fd = c->fd,
                            .events = c->want == WANT_READ ? POLLIN : POLLOUT };

        check(c);
        if (c->want == WANT_CLOSE) {
            conn_close(c);
            return NULL;
        }
        if (poll(&p, 1, 0) == 0)
            return c;
        if (c->want == WANT_READ)
            conn_fill(c);
        else
            conn_drain(c);
        if (reads)
            client_reads(client);
    }
    fail("never comes to rest");
    return NULL;
}

/* Every reply there is begins with a status line, and the refusal, if any, is the last
 * one. Bodies may hold the same words, so only without a body that the client chose. */
static void check_replies(bool echoed)
{
    static const char start[] = "HTTP/1.1 ";
    const char *at = received, *end = received + received_len;
    int replies = 0, refusals = 0;

    while (!echoed &&
           (at = memmem(at, (size_t)(end - at), start, strlen(start))) != NULL) {
        at += strlen(start);
        if (end - at < 3 || at[0] < '1' || at[0] > '9') /* in the text of a refusal */
            continue;
        if (refusals > 0)
            fail("a reply behind a refusal");
        if (memcmp(at, "200", 3) == 0)
            replies++;
        else if (memcmp(at, "100", 3) != 0)
            refusals++;
    }
    if (replies > messages)
        fail("more replies than requests");
    if (received_len > 0 && (received_len < 9 || memcmp(received, start, 9) != 0))
        fail("does not begin with a status line");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct options opt;
    int fds[2], small = 1;
    bool shut = false;

    if (size < 1)
        return 0;
    log_level = LOG_ERROR;
    messages = 0;
    received_len = 0;
    opt = (struct options){ .keepalive_ms = data[0] & NO_KEEP_ALIVE ? 0 : 60000,
                            .request_timeout_ms = 60000,
                            .max_body = MAX_BODY };
    conn_setup(&opt, false);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == -1)
        abort();
    if (data[0] & SMALL_BUFFERS)
        setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    bool reads = data[0] & CLIENT_READS_AT_ONCE;
    struct conn *c = conn_open(fds[0]);
    for (size_t at = 1; c && at < size && !shut;) {
        size_t n = data[at++];

        if (n == 0) {
            client_reads(fds[1]);
        } else if (n == 255) {
            shutdown(fds[1], SHUT_WR);
            shut = true;
        } else {
            if (n > size - at)
                n = size - at;
            if (n > 0 && send(fds[1], data + at, n, MSG_NOSIGNAL) == -1)
                shut = true;
            at += n;
        }
        c = serve(c, fds[1], reads);
    }
    /* The client reads all there is, then goes. */
    for (size_t before = 1; !(data[0] & CLIENT_VANISHES) && before != received_len;) {
        before = received_len;
        client_reads(fds[1]);
        if (c)
            c = serve(c, fds[1], true);
        client_reads(fds[1]);
    }
    if (c && !(data[0] & CLIENT_VANISHES) && c->want == WANT_WRITE)
        fail("everything was read, and it still waits to write");
    close(fds[1]);
    if (c)
        c = serve(c, -1, false);
    if (c)
        fail("the client is gone, the connection is not");
    if (conn_count != 0)
        fail("conn_count is not 0");
    check_replies(memmem(data, size, "HTTP/1.1 ", 9) &&
                  memmem(data, size, "Content-", 8));
    return 0;
}
