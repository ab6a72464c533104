/* harness_client.c - the clients of the black-box tests: one connection, one answer at a
 * time. Does not: start servers. */
#include "harness/harness.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* ---- connections ---- */

enum { SMALL_WINDOW = 32768 };

static int connect_with(const struct server *s, int receive_buffer)
{
    struct sockaddr_in six_less = { .sin_family = AF_INET,
                                    .sin_port = htons((uint16_t)s->port),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct sockaddr_in6 six = { .sin6_family = AF_INET6,
                                .sin6_port = htons((uint16_t)s->port),
                                .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    int fd = socket(s->ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;

    ck_assert_msg(fd >= 0, "socket: %s", strerror(errno));
    if (receive_buffer)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (s->ipv6 ? connect(fd, (struct sockaddr *)&six, sizeof six) == -1
                : connect(fd, (struct sockaddr *)&six_less, sizeof six_less) == -1)
        ck_abort_msg("connect: %s", strerror(errno));
    return fd;
}

int connect_to(const struct server *s)
{
    return connect_with(s, 0);
}

int connect_small(const struct server *s)
{
    return connect_with(s, SMALL_WINDOW);
}

void client_open(struct client *c, const struct server *s)
{
    c->len = 0;
    c->fd = connect_to(s);
}

void client_close(struct client *c)
{
    close(c->fd);
    c->fd = -1;
}

void client_reset(struct client *c)
{
    struct linger linger = { .l_onoff = 1, .l_linger = 0 };

    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    client_close(c);
}

/* ---- sending ---- */

/* Send all; false: the peer closed, errno says how. */
static bool send_all(const struct client *c, const char *bytes, size_t n)
{
    int64_t end = clock_ms() + scaled_ms(PATIENCE_MS);

    while (n > 0) {
        struct pollfd p = { c->fd, POLLOUT, 0 };
        int64_t left = end - clock_ms();
        ssize_t sent;

        ck_assert_msg(left > 0 && poll(&p, 1, (int)left) == 1,
                      "the server takes no more bytes; %zu are left", n);
        sent = send(c->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent == -1 && errno != EAGAIN && errno != EINTR)
            return false;
        if (sent > 0) {
            bytes += sent;
            n -= (size_t)sent;
        }
    }
    return true;
}

void client_send(struct client *c, const void *bytes, size_t n)
{
    ck_assert_msg(send_all(c, bytes, n), "send: %s", strerror(errno));
}

void client_offer(struct client *c, const void *bytes, size_t n)
{
    send_all(c, bytes, n);
}

void client_say(struct client *c, const char *format, ...)
{
    char text[4096];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ck_assert_int_lt(n, (int)sizeof text);
    client_send(c, text, (size_t)n);
}

/* Bytes that the server's end of this connection holds unread; -1: it is not there yet.
 */
static long unread_at_server(int netlink, const struct sockaddr_in *mine,
                             const struct sockaddr_in *its)
{
    struct {
        struct nlmsghdr head;
        struct inet_diag_req_v2 diag;
    } ask = { { sizeof ask, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0 }, { 0 } };
    _Alignas(struct nlmsghdr) char answer[4096];
    const struct nlmsghdr *head = (const struct nlmsghdr *)(const void *)answer;
    const struct inet_diag_msg *found;

    ask.diag.sdiag_family = AF_INET;
    ask.diag.sdiag_protocol = IPPROTO_TCP;
    ask.diag.idiag_states = ~0U;
    ask.diag.id.idiag_sport = its->sin_port;
    ask.diag.id.idiag_dport = mine->sin_port;
    ask.diag.id.idiag_src[0] = its->sin_addr.s_addr;
    ask.diag.id.idiag_dst[0] = mine->sin_addr.s_addr;
    ask.diag.id.idiag_cookie[0] = ask.diag.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    ck_assert_int_eq(send(netlink, &ask, sizeof ask, 0), (ssize_t)sizeof ask);
    ck_assert_int_gt(recv(netlink, answer, sizeof answer, 0), (ssize_t)sizeof *head);
    if (head->nlmsg_type != SOCK_DIAG_BY_FAMILY)
        return -1;
    found = NLMSG_DATA(head);
    return found->idiag_rqueue;
}

void client_settle(const struct client *c)
{
    struct sockaddr_in mine = { 0 }, its = { 0 };
    socklen_t len = sizeof mine;
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    int unsent = 0;

    ck_assert_msg(netlink >= 0, "sock_diag(7): %s", strerror(errno));
    getsockname(c->fd, (struct sockaddr *)&mine, &len);
    len = sizeof its;
    getpeername(c->fd, (struct sockaddr *)&its, &len);
    for (int64_t end = clock_ms() + scaled_ms(PATIENCE_MS);; pause_ms(1)) {
        ioctl(c->fd, SIOCOUTQ, &unsent);
        if (unsent == 0 && unread_at_server(netlink, &mine, &its) == 0)
            break;
        ck_assert_msg(clock_ms() < end, "the server does not read what was sent");
    }
    close(netlink);
}

/* ---- receiving ---- */

/* Wait for bytes and read some into `room`. Returns as recv(2); -2: the deadline came. */
static ssize_t receive(const struct client *c, void *room, size_t cap, int64_t end)
{
    struct pollfd p = { c->fd, POLLIN, 0 };
    int64_t left = end - clock_ms();

    if (poll(&p, 1, left > 0 ? (int)left : 0) != 1)
        return -2;
    return recv(c->fd, room, cap, 0);
}

/* Copy the head of the next answer into r->head and take it from the client's bytes. */
static void read_head(struct client *c, struct response *r, int64_t end)
{
    const char *stop;
    size_t n;

    while ((stop = memmem(c->in, c->len, "\r\n\r\n", 4)) == NULL) {
        ssize_t got = -3;

        if (c->len < sizeof c->in)
            got = receive(c, c->in + c->len, sizeof c->in - c->len, end);
        if (got <= 0)
            ck_abort_msg("no answer, but %s; received: \"%.*s\"",
                         got == 0    ? "the end of the stream"
                         : got == -1 ? strerror(errno)
                         : got == -2 ? "silence"
                                     : "a head that never ends",
                         (int)(c->len < 2000 ? c->len : 2000), c->in);
        c->len += (size_t)got;
    }
    n = (size_t)(stop - c->in) + 2; /* the last field keeps its end */
    ck_assert_uint_lt(n, sizeof r->head);
    memcpy(r->head, c->in, n);
    r->head[n] = '\0';
    c->len -= n + 2;
    memmove(c->in, c->in + n + 2, c->len);
}

/* The next r->body_len bytes, of which BODY_KEPT are kept. */
static void read_body(struct client *c, struct response *r, int64_t end)
{
    static char kept[BODY_KEPT + 1];
    uint64_t have = c->len < r->body_len ? c->len : r->body_len;

    memcpy(kept, c->in, have);
    c->len -= have;
    memmove(c->in, c->in + have, c->len);
    while (have < r->body_len) {
        char rest[65536];
        bool keep = have < BODY_KEPT;
        uint64_t cap = keep ? BODY_KEPT - have : sizeof rest;
        ssize_t got;

        if (cap > r->body_len - have)
            cap = r->body_len - have;
        got = receive(c, keep ? kept + have : rest, cap, end);
        ck_assert_msg(got > 0, "%llu of %llu bytes of body, then %s",
                      (unsigned long long)have, (unsigned long long)r->body_len,
                      got == -2 ? "silence" : "the end");
        have += (uint64_t)got;
    }
    kept[have < BODY_KEPT ? have : BODY_KEPT] = '\0';
    r->body = kept;
}

const char *response_field(const struct response *r, const char *name)
{
    static char value[1024];
    size_t n = strlen(name);

    for (const char *line = strstr(r->head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
            line += n + 1;
            line += strspn(line, " ");
            snprintf(value, sizeof value, "%.*s", (int)strcspn(line, "\r"), line);
            return value;
        }
    }
    return NULL;
}

/* Every line a field, none of the important ones twice, no stray control character. */
static void check_fields(const struct response *r)
{
    static const char *const once[] = { "content-length", "connection", "date",
                                        "content-type" };
    int seen[sizeof once / sizeof once[0]] = { 0 };

    for (const char *line = strstr(r->head, "\r\n") + 2; *line; line += 2) {
        size_t n = strcspn(line, "\r\n"), name = strcspn(line, ": \r\n");

        ck_assert_msg(name > 0 && line[name] == ':', "not a field: %s", r->head);
        ck_assert_msg(strncmp(line + n, "\r\n", 2) == 0, "a bare CR or LF: %s", r->head);
        for (size_t i = 0; i < sizeof once / sizeof once[0]; i++) {
            if (name == strlen(once[i]) && strncasecmp(line, once[i], name) == 0)
                ck_assert_msg(seen[i]++ == 0, "%s twice: %s", once[i], r->head);
        }
        line += n;
    }
}

/* IMF-fixdate of RFC 9110 section 5.6.7, and it is now. */
static void check_date(const struct response *r)
{
    const char *date = response_field(r, "Date");
    char again[64];
    struct tm tm = { 0 };
    time_t then;

    if (date == NULL && harness_foreign())
        return; /* else this alone would be the verdict of every test */
    ck_assert_msg(date != NULL, "no Date: %s", r->head);
    ck_assert_ptr_nonnull(strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &tm));
    then = timegm(&tm);
    strftime(again, sizeof again, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    ck_assert_str_eq(date, again);
    /* It may have waited in the socket for as long as we are patient. */
    ck_assert_msg(llabs((long long)(time(NULL) - then)) <=
                      2 + scaled_ms(PATIENCE_MS) / 1000,
                  "Date is not now: %s", date);
}

/* Status line: RFC 9112 section 4. Returns the status. */
static int check_status_line(const struct response *r)
{
    int status = 0, end = 0;

    sscanf(r->head, "HTTP/1.1 %3d %n", &status, &end);
    ck_assert_msg(status >= 100 && end == 13 && isprint((unsigned char)r->head[13]),
                  "not a status line: %s", r->head);
    return status;
}

void client_read(struct client *c, struct response *r, const char *method)
{
    int64_t end = clock_ms() + scaled_ms(PATIENCE_MS);
    const char *value;
    char *behind;

    read_head(c, r, end);
    r->status = check_status_line(r);
    r->body = "";
    r->body_len = 0;
    check_fields(r);
    value = response_field(r, "Connection");
    r->keep_alive = !value || strcasestr(value, "close") == NULL;
    value = response_field(r, "Content-Length");
    if (r->status < 200) {
        ck_assert_msg(value == NULL, "Content-Length in 1xx: %s", r->head);
        return;
    }
    ck_assert_msg(value && isdigit((unsigned char)*value), "no Content-Length: %s",
                  r->head);
    r->body_len = strtoull(value, &behind, 10);
    ck_assert_msg(*behind == '\0', "bad Content-Length: %s", r->head);
    if (r->status != 503)
        check_date(r);
    if (strcmp(method, "HEAD") == 0)
        r->body_len = 0;
    read_body(c, r, end);
}

void client_expect(struct client *c, struct response *r, int status)
{
    client_read(c, r, "GET");
    ck_assert_msg(r->status == status, "status %d expected; got: %s\n%.500s", status,
                  r->head, r->body);
}

void client_expect_silence(const struct client *c, int ms)
{
    struct pollfd p = { c->fd, POLLIN, 0 };
    char byte;

    ck_assert_uint_eq(c->len, 0);
    if (poll(&p, 1, ms) == 0)
        return;
    ck_abort_msg("silence expected, but %s came",
                 recv(c->fd, &byte, 1, MSG_PEEK) == 1 ? "an answer" : "the end");
}

/* Returns what ended the connection: 0, or -1 for a reset. */
static ssize_t await_end(struct client *c, int ms)
{
    int64_t end = clock_ms() + scaled_ms(ms);
    ssize_t got;

    ck_assert_msg(c->len == 0, "more than was asked for: \"%.*s\"", (int)c->len, c->in);
    got = receive(c, c->in, sizeof c->in, end);
    ck_assert_msg(got != -2, "the connection is still open after %d ms", ms);
    ck_assert_msg(got <= 0, "more than was asked for: \"%.*s\"", (int)got, c->in);
    return got;
}

void client_expect_close(struct client *c, int ms)
{
    await_end(c, ms);
}

void client_expect_end(struct client *c, int ms)
{
    ck_assert_msg(await_end(c, ms) == 0, "the connection was reset");
}

void fetch(const struct server *s, const char *method, const char *target,
           struct response *r, int status)
{
    struct client c;

    client_open(&c, s);
    client_say(&c, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method,
               target);
    client_read(&c, r, method);
    ck_assert_msg(r->status == status, "%s %s: status %d expected; got: %s\n%.500s",
                  method, target, status, r->head, r->body);
    client_expect_close(&c, PATIENCE_MS);
    client_close(&c);
}

long long json_number(const char *json, const char *key)
{
    char quoted[64];
    const char *at;

    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    at = strstr(json, quoted);
    if (!at)
        return -1;
    at += strlen(quoted);
    at += strspn(at, ": ");
    return isdigit((unsigned char)*at) ? strtoll(at, NULL, 10) : -1;
}
