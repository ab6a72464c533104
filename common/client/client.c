/* client.c - see client.h.
 * Does not: know for whom it asks. */
#include "client/client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/log.h"

static void fail(struct client *cl, int status, const char *why)
{
    log_line(LOG_DEBUG, "upstream %d: %d: %s", cl->fd, status, why);
    cl->want = CLIENT_FAILED;
    cl->status = (uint16_t)status;
    cl->why = why;
    if (cl->fd != -1)
        client_pool_close(cl->pool, cl->fd);
    cl->fd = -1;
}

static size_t unsent(const struct client *cl)
{
    return cl->unsendable ? 0 : cl->head.len + cl->body.len - cl->sent;
}

static void start_clock(struct client *cl, int ms)
{
    cl->deadline = clock_ms() + ms;
}

/* --- the connection ----------------------------------------------------------------- */

static void connect_failed(struct client *cl)
{
    bool here = errno == EBUSY || errno == EMFILE || errno == ENFILE ||
                errno == ENOBUFS || errno == ENOMEM;

    if (errno == EBUSY)
        fail(cl, 503, "as many connections to the upstream as may be are in use");
    else
        fail(cl, here ? 503 : 502, strerror(errno));
}

static void connect_new(struct client *cl)
{
    int ms = cl->timeout_ms < CLIENT_CONNECT_MS ? cl->timeout_ms : CLIENT_CONNECT_MS;

    cl->reused = false;
    cl->sent = 0;
    cl->unsendable = false;
    cl->want = CLIENT_CONNECT;
    start_clock(cl, ms);
    cl->fd = client_pool_connect(cl->pool);
    if (cl->fd == -1)
        connect_failed(cl);
}

static void connected(struct client *cl)
{
    cl->want = CLIENT_WRITE;
    start_clock(cl, cl->timeout_ms);
}

/* Asked again, connect(2) says what became of it. */
static void await_connection(struct client *cl)
{
    const struct client_pool *pool = cl->pool;

    if (connect(cl->fd, &pool->address.any, pool->address_len) == 0 || errno == EISCONN)
        connected(cl);
    else if (errno != EALREADY && errno != EINPROGRESS && errno != EINTR)
        connect_failed(cl);
}

/* May the request reach the server twice? */
static bool idempotent(enum http_method method)
{
    return method != HTTP_POST && method != HTTP_PATCH;
}

/* [client.retry] */
/* The connection ended where it should not have. */
static void died(struct client *cl, const char *why)
{
    if (!cl->reused || cl->heard || !idempotent(cl->method)) {
        fail(cl, 502, why);
        return;
    }
    client_pool_close(cl->pool, cl->fd);
    connect_new(cl); /* which is not reused: there is no third time */
}

/* --- the request -------------------------------------------------------------------- */

/* What the server takes. If it takes no more, an answer may be there that says why. */
static void send_request(struct client *cl)
{
    size_t in_body = cl->sent > cl->head.len ? cl->sent - cl->head.len : 0;
    size_t in_head = cl->sent - in_body;
    struct iovec parts[2] = {
        { (char *)cl->head.base + in_head, cl->head.len - in_head },
        { (char *)cl->body.base + in_body, cl->body.len - in_body },
    };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
    ssize_t n = sendmsg(cl->fd, &message, MSG_NOSIGNAL);

    if (n >= 0) {
        cl->sent += (size_t)n;
        start_clock(cl, cl->timeout_ms);
    } else if (errno != EAGAIN && errno != EINTR) {
        cl->unsendable = true;
    }
    if (unsent(cl) == 0)
        cl->want = CLIENT_READ;
}

/* --- the answer --------------------------------------------------------------------- */

static void look_for_end(struct client *cl)
{
    if (http_response_ended(&cl->parser))
        cl->want = CLIENT_DONE;
}

/* Heads, until there is one that is not 1xx. */
static void parse_head(struct client *cl)
{
    while (!cl->answered && cl->start < cl->end) {
        ssize_t n = http_parse_response(&cl->parser, cl->buf + cl->start,
                                        cl->end - cl->start, cl->method, &cl->response);

        if (n < 0)
            fail(cl, 502, cl->parser.why);
        if (n <= 0)
            return;
        cl->start += (uint32_t)n;
        cl->answered = cl->response.status >= 200;
        if (!cl->answered && ++cl->interims > CLIENT_INTERIM_MAX) {
            fail(cl, 502, "no answer, but 1xx without end");
            return;
        }
    }
    look_for_end(cl);
}

/* An exchange has a buffer only while bytes are in it, since thousands may wait. One more
 * is kept for whoever needs it next. */
static bool make_room(struct client *cl)
{
    if (cl->buf == NULL)
        cl->buf = client_pool_take_buffer(cl->pool);
    if (cl->buf == NULL)
        cl->buf = malloc(CLIENT_BUFFER);
    if (cl->buf == NULL)
        return false;
    if (cl->start > 0)
        memmove(cl->buf, cl->buf + cl->start, cl->end - cl->start);
    cl->end -= cl->start;
    cl->start = 0;
    return true;
}

static void drop_buffer(struct client *cl)
{
    if (cl->buf && !client_pool_keep_buffer(cl->pool, cl->buf))
        free(cl->buf);
    cl->buf = NULL;
    cl->start = cl->end = 0;
}

static void received(struct client *cl, size_t n)
{
    cl->heard = true;
    cl->end += (uint32_t)n;
    if (cl->answered)
        start_clock(cl, cl->timeout_ms);
    else
        parse_head(cl);
}

/* The parsers leave a head's length of bytes at most, so there is always room. */
static void receive(struct client *cl)
{
    ssize_t n;

    if (!make_room(cl)) {
        fail(cl, 503, "no memory");
        return;
    }
    n = recv(cl->fd, cl->buf + cl->end, CLIENT_BUFFER - cl->end, 0);
    if (n > 0)
        received(cl, (size_t)n);
    else if (n == 0 && cl->answered && http_response_closed(&cl->parser))
        cl->want = CLIENT_DONE;
    else if (n == 0)
        died(cl, cl->heard ? "the connection closed within the response"
                           : "the connection closed without a response");
    else if (errno != EAGAIN && errno != EINTR)
        died(cl, strerror(errno));
    else if (cl->start == cl->end)
        drop_buffer(cl);
}

/* --- steps -------------------------------------------------------------------------- */

static bool waiting(const struct client *cl)
{
    return cl->want != CLIENT_DONE && cl->want != CLIENT_FAILED;
}

void client_begin(struct client *cl, struct client_pool *pool, enum http_method method,
                  struct slice head, struct slice body, int timeout_ms)
{
    *cl = (struct client){ .pool = pool,
                           .method = method,
                           .head = head,
                           .body = body,
                           .timeout_ms = timeout_ms };
    cl->fd = client_pool_take(pool);
    if (cl->fd == -1) {
        connect_new(cl);
    } else {
        cl->reused = true;
        connected(cl);
    }
    if (cl->want == CLIENT_WRITE)
        send_request(cl);
}

/* Of a piece that was not pulled the bytes stay where they are: nothing is read. */
static bool reads(const struct client *cl)
{
    return (cl->want == CLIENT_READ || cl->want == CLIENT_WRITE) && cl->piece.len == 0;
}

void client_step(struct client *cl)
{
    bool sending = cl->want != CLIENT_READ;

    if (cl->want == CLIENT_CONNECT)
        await_connection(cl);
    if (cl->want == CLIENT_WRITE)
        send_request(cl);
    if (sending && cl->want == CLIENT_READ && !cl->unsendable)
        return; /* the last of it has just left: nothing will be there yet */
    if (reads(cl))
        receive(cl);
    if (waiting(cl) && clock_ms() >= cl->deadline)
        fail(cl, 504,
             cl->want == CLIENT_CONNECT ? "the upstream did not accept in time"
                                        : "the upstream did not answer in time");
}

short client_events(const struct client *cl)
{
    short events = cl->want == CLIENT_CONNECT || cl->want == CLIENT_WRITE ? POLLOUT : 0;

    if (reads(cl))
        events |= POLLIN;
    return events;
}

int client_timeout_ms(const struct client *cl)
{
    int64_t left = cl->deadline - clock_ms();

    if (!waiting(cl) || left <= 0)
        return 0;
    return (int)left + 1;
}

/* --- the body ----------------------------------------------------------------------- */

/* Decode until there is something to pull. False: there is not. */
static bool next_piece(struct client *cl)
{
    while (cl->piece.len == 0 && waiting(cl) && cl->start < cl->end) {
        ssize_t n = http_response_body(&cl->parser, cl->buf + cl->start,
                                       cl->end - cl->start, &cl->piece);

        if (n < 0)
            fail(cl, 502, cl->parser.why);
        else
            look_for_end(cl);
        if (n <= 0)
            break;
        cl->start += (uint32_t)n;
    }
    return cl->piece.len > 0;
}

ssize_t client_pull(struct client *cl, char *room, size_t size)
{
    size_t len = 0;

    while (len < size && next_piece(cl)) {
        size_t n = cl->piece.len < size - len ? cl->piece.len : size - len;

        memcpy(room + len, cl->piece.base, n);
        len += n;
        cl->piece.base += n;
        cl->piece.len -= n;
    }
    if (len > 0) { /* the server may have waited for us */
        start_clock(cl, cl->timeout_ms);
        return (ssize_t)len;
    }
    if (cl->want == CLIENT_FAILED)
        return CLIENT_BROKEN;
    if (cl->want == CLIENT_DONE)
        return 0;
    if (cl->start == cl->end)
        drop_buffer(cl);
    return CLIENT_NOTHING;
}

bool client_ready(struct client *cl)
{
    return next_piece(cl) || !waiting(cl);
}

bool client_keep_body(struct client *cl)
{
    if (unsent(cl) == 0 || cl->kept || cl->body.len == 0)
        return true;
    cl->kept = malloc(cl->body.len);
    if (cl->kept == NULL)
        return false;
    memcpy(cl->kept, cl->body.base, cl->body.len);
    cl->body.base = cl->kept;
    return true;
}

/* [client.end] */
/* Whatever is behind the answer was sent unasked, and would pass for the next one; and
 * behind half a request the server takes the next one for its rest. */
void client_end(struct client *cl)
{
    bool clean = cl->want == CLIENT_DONE && cl->response.keep_alive &&
                 cl->start == cl->end && cl->sent == cl->head.len + cl->body.len;

    if (cl->fd != -1 && clean)
        client_pool_give(cl->pool, cl->fd);
    else if (cl->fd != -1)
        client_pool_close(cl->pool, cl->fd);
    cl->fd = -1;
    drop_buffer(cl);
    free(cl->kept);
    cl->kept = NULL;
}
