/* http1.c - see http1.h.
 * Does not: decide when a connection ends, but for what the two sides have said. */
#include "conn/http1.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "conn/app.h"
#include "conn/framed_body.h"
#include "conn/turn.h"
#include "http/http_relay.h"

_Static_assert(sizeof(struct http_parser) <= sizeof(((struct conn *)0)->state),
               "the parser's progress fits into a connection");

enum { BODY_WITH_HEAD = SCRATCH / 4 }; /* so short a body is put together with its head */

static struct http_parser *parser_of(struct conn *c)
{
    return (struct http_parser *)c->state;
}

static size_t message_max(const struct options *opt)
{
    return HTTP_MAX_HEAD + opt->max_body;
}

/* Once for each turn is often enough. */
static void date_update(void)
{
    static _Thread_local int64_t dated;

    if (turn.now == dated)
        return;
    dated = turn.now;
    http_date_update();
}

/* body: what goes behind the head at once, as short as it is; empty: nothing. */
static inline void put_head(struct conn *c, const struct http_head *head,
                            struct slice body)
{
    size_t size = HTTP_HEAD_ROOM + head->type.len + head->fields.len + body.len;
    char *room = out_room(c, size);
    size_t len;

    if (room == NULL) { /* an echoed type of that length passed no parser */
        c->out.broken = true;
        return;
    }
    len = http_format_head(room, head);
    memcpy(room + len, body.base, body.len);
    out_add(c, len + body.len);
}

/* A process that stops answers what it has read, and says so with the last answer. */
static inline bool ends_with(const struct conn *c, const struct request *req)
{
    return !req->keep_alive || serving.opt->keepalive_ms == 0 || conn_is_last(c);
}

static inline void head_for(struct conn *c, const struct request *req,
                            struct http_head *head, struct slice body)
{
    c->closing = ends_with(c, req);
    head->minor = req->minor;
    head->keep_alive = !c->closing;
    date_update();
    put_head(c, head, body);
}

void http_reply(struct conn *c, const struct request *req, int status, struct slice type,
                struct slice fields, struct slice body)
{
    struct http_head head = {
        .status = status, .type = type, .fields = fields, .content_length = body.len
    };

    if (req->method == HTTP_HEAD)
        body.len = 0;
    if (body.len <= BODY_WITH_HEAD) {
        head_for(c, req, &head, body);
    } else {
        head_for(c, req, &head, SLICE(""));
        out_put(c, body.base, body.len);
    }
    conn_answered(c);
}

void http_reply_produced(struct conn *c, const struct request *req, struct slice type,
                         uint64_t length, out_produce *produce)
{
    struct http_head head = { .status = 200, .type = type, .content_length = length };

    head_for(c, req, &head, SLICE(""));
    if (req->method != HTTP_HEAD)
        out_put_produced(c, length, produce);
    conn_answered(c);
}

static void put_relayed_head(struct conn *c, const struct request *req,
                             const struct http_response *res)
{
    struct slice self = { serving.opt->name, strlen(serving.opt->name) };
    char *room = out_room(c, http_relay_response_room(res, self));

    date_update();
    if (room)
        out_add(c, http_relay_response(room, res, self, req->minor, !c->closing));
    else /* a head of that length passed no parser */
        c->out.broken = true;
}

void http_reply_relayed(struct conn *c, const struct request *req,
                        const struct http_response *res, struct out_source *body)
{
    enum relay_framing framing = http_relay_framing(res, req->minor);
    struct out_source *framed = body;

    if (body && framing != RELAY_AS_IT_IS)
        framed = framed_body(c, body, framing == RELAY_CHUNKED);
    if (body && framed == NULL) {
        body->end(body);
        http_reply(c, req, 503, SLICE("text/plain"), (struct slice){ "", 0 },
                   SLICE("no memory\n"));
        return;
    }
    c->closing = ends_with(c, req) || framing == RELAY_UNTIL_CLOSE;
    put_relayed_head(c, req, res);
    if (framed)
        out_put_pulled(c, framed);
    conn_answered(c);
}

/* The stream behind this point cannot be trusted, or its end not be awaited: say why. */
static void refuse_with(struct conn *c, int status, const char *why)
{
    enum http_method method = parser_of(c)->method;
    char text[HTTP_ERROR_ROOM];
    struct slice body = http_error_body(text, status, why);
    struct http_head head = { .status = status,
                              .minor = 1,
                              .type = SLICE("text/plain"),
                              .content_length = body.len };

    log_line(LOG_DEBUG, "client %d: refused: %.*s", c->fd, (int)body.len - 1, text);
    date_update();
    put_head(c, &head, method == HTTP_HEAD ? SLICE("") : body);
    *parser_of(c) = (struct http_parser){ 0 };
}

static void refuse(struct conn *c, enum refusal why)
{
    static const struct {
        int status;
        const char *why;
    } answers[] = {
        [REFUSE_LATE] = { 408, "the request did not arrive in time" },
        [REFUSE_MEMORY] = { 503, "no memory" },
    };

    refuse_with(c, answers[why].status, answers[why].why);
}

static void unanswered(struct conn *c)
{
    char text[HTTP_ERROR_ROOM];

    http_reply(c, c->deferral, 504, SLICE("text/plain"), SLICE(""),
               http_error_body(text, 504, "the answer did not come in time"));
}

static ssize_t take(struct conn *c, char *bytes, size_t *len)
{
    struct http_parser *parser = parser_of(c);
    struct request req;
    ssize_t n = http_parse(parser, bytes, len, serving.opt->max_body, &req);

    if (n > 0) {
        c->behind = (size_t)n < *len;
        app.on_message(c, &req);
    } else if (n < 0) {
        refuse_with(c, (int)-n, parser->why);
    } else if (http_wants_continue(parser)) {
        out_put(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    }
    return n;
}

const struct protocol http1 = { "http", message_max, take, refuse, unanswered };

/* Where bytes have gone that were at `from` and are at `to` now. */
static struct slice moved(struct slice s, struct slice from, const char *to)
{
    if (s.len == 0)
        return (struct slice){ to, 0 };
    if (s.base < from.base || s.base >= from.base + from.len)
        return s; /* a path that the target did not spell out */
    return (struct slice){ to + (s.base - from.base), s.len };
}

const struct request *http_defer(struct conn *c, const struct request *req)
{
    struct request *copy = malloc(sizeof(*copy));
    struct slice from = { turn.message, *turn.left };
    const char *to = copy ? conn_defer(c, copy) : NULL;

    if (to == NULL) {
        free(copy);
        return NULL;
    }
    *copy = *req;
    copy->path = moved(req->path, from, to);
    copy->query = moved(req->query, from, to);
    copy->type = moved(req->type, from, to);
    copy->body = moved(req->body, from, to);
    copy->head = moved(req->head, from, to);
    return copy;
}
