/* http_response.c - see http_response.h.
 * Does not: repair; what an upstream may not send is not relayed. */
#include "http/http_response.h"

#include <strings.h>

#include "http/http_body.h"

/* Fixed places in a status line, "HTTP/1.1 200 OK". */
enum { MINOR_AT = 7, STATUS_AT = 9, REASON_AT = 13 };

/* HTTP-version SP status-code SP [ reason-phrase ] CRLF, RFC 9112 section 4. */
static int parse_status_line(struct http_parser *p, const char *bytes, const char *end)
{
    static const char form[] = "HTTP/1.d ddd ";
    const char *c = bytes;
    int step;

    for (int i = 0; form[i]; i++, c++) {
        if (c == end)
            return MORE;
        if (form[i] == 'd' ? !is_digit(*c) : *c != form[i])
            return http_refuse(p, 502, "no status line of HTTP/1.1 or HTTP/1.0");
    }
    if (bytes[STATUS_AT] < '1' || bytes[STATUS_AT] > '5')
        return http_refuse(p, 502, "no such class of status");
    c = skip_text(c, end);
    step = end_of_line(p, c, end);
    if (step == NEXT) {
        p->minor = bytes[MINOR_AT] == '0' ? 0 : 1;
        p->at = (uint32_t)(c + 2 - bytes);
        p->state = FIELDS;
    }
    return step;
}

static int parse_fields(struct http_parser *p, const char *bytes, const char *end)
{
    const char *c = bytes + p->at;
    int step = NEXT;

    while (step == NEXT && c < end && *c != '\r') {
        struct slice name, value;

        step = parse_field(p, &c, end, &name, &value);
        if (step == NEXT)
            step = http_framing_field(p, name, value);
    }
    p->at = (uint32_t)(c - bytes);
    if (step == NEXT)
        step = end_of_line(p, c, end);
    if (step == NEXT)
        p->at += 2;
    return step;
}

static int status_of(const char *bytes)
{
    const char *digits = bytes + STATUS_AT;

    return (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0');
}

/* The head is complete: decide where the body ends. RFC 9112 section 6.3. */
static int begin_body(struct http_parser *p, int status, enum http_method method)
{
    bool framed = p->flags & (HAS_LENGTH | HAS_CODING);
    int step = http_begin_body(p);

    if (step != NEXT)
        return step;
    if (status == 101)
        return http_refuse(p, 502, "another protocol, which nobody asked for");
    /* RFC 9110 section 8.6, RFC 9112 section 6.1: the fields have no place there. A
     * length of 0 is at least no lie. */
    if ((status < 200 || status == 204) && p->state != DONE)
        return http_refuse(p, 502, "a body where there must be none");
    if (method == HTTP_HEAD || status == 304 || status == 204 || status < 200) {
        p->state = DONE;
    } else if (!framed) {
        p->flags |= UNTIL_CLOSE;
        p->missing = UINT64_MAX;
        p->state = BODY;
    }
    return NEXT;
}

static enum http_framing framing(const struct http_parser *p)
{
    if (p->state == CHUNK_SIZE)
        return HTTP_BODY_CHUNKED;
    if (p->flags & UNTIL_CLOSE)
        return HTTP_BODY_UNTIL_CLOSE;
    return p->state == BODY ? HTTP_BODY_LENGTH : HTTP_NO_BODY;
}

static void fill_in(const struct http_parser *p, const char *bytes,
                    struct http_response *res)
{
    const char *reason = bytes + REASON_AT;
    const char *fields = (const char *)memchr(reason, '\n', p->at) + 1;

    res->status = status_of(bytes);
    res->minor = p->minor;
    res->framing = framing(p);
    res->keep_alive = res->framing != HTTP_BODY_UNTIL_CLOSE && !(p->flags & SAYS_CLOSE) &&
                      (p->minor == 1 || p->flags & SAYS_KEEP_ALIVE);
    res->has_length = p->flags & HAS_LENGTH;
    res->length = res->has_length ? p->missing : 0;
    res->reason = (struct slice){ reason, (size_t)(fields - 2 - reason) };
    res->fields = (struct slice){ fields, (size_t)(bytes + p->at - 2 - fields) };
}

ssize_t http_parse_response(struct http_parser *p, const char *bytes, size_t len,
                            enum http_method method, struct http_response *res)
{
    bool too_long = len > HTTP_MAX_HEAD;
    const char *end = bytes + (too_long ? HTTP_MAX_HEAD : len);
    int step = p->state == START ? parse_status_line(p, bytes, end) : NEXT;
    ssize_t used;

    if (step == NEXT)
        step = parse_fields(p, bytes, end);
    if (step == MORE && too_long)
        step = http_refuse(p, 502, "head is too long");
    if (step == NEXT)
        step = begin_body(p, status_of(bytes), method);
    if (step != NEXT)
        return step == MORE ? 0 : -502;
    fill_in(p, bytes, res);
    used = p->at;
    if (res->status < 200)
        *p = (struct http_parser){ 0 };
    return used;
}

/* Take what is there of the body, or of a chunk. */
static int take_data(struct http_parser *p, const char *bytes, size_t len,
                     struct slice *data)
{
    size_t n = len - p->at < p->missing ? len - p->at : (size_t)p->missing;

    *data = (struct slice){ bytes + p->at, n };
    p->at += (uint32_t)n;
    p->missing -= n;
    if (p->missing > 0)
        return MORE;
    p->state = p->state == BODY ? DONE : CHUNK_END;
    return NEXT;
}

ssize_t http_response_body(struct http_parser *p, const char *bytes, size_t len,
                           struct slice *data)
{
    int step = NEXT;

    *data = (struct slice){ bytes, 0 };
    p->at = 0;
    while (step == NEXT && data->len == 0) {
        switch ((enum state)p->state) {
        case BODY:
        case CHUNK_DATA:
            step = take_data(p, bytes, len, data);
            break;
        case CHUNK_SIZE:
            step = http_chunk_size(p, bytes, len, UINT64_MAX);
            break;
        case CHUNK_END:
            step = http_chunk_end(p, bytes, len);
            break;
        case TRAILERS:
            step = http_trailers(p, bytes, len);
            break;
        case START: /* no head yet */
        case FIELDS:
        case DONE:
            step = MORE;
        }
    }
    return step < 0 ? -502 : (ssize_t)p->at;
}

bool http_response_ended(const struct http_parser *p)
{
    return p->state == DONE;
}

bool http_response_closed(struct http_parser *p)
{
    if (p->state == BODY && p->flags & UNTIL_CLOSE)
        p->state = DONE;
    if (p->state != DONE)
        p->why = "the connection closed within the response";
    return p->state == DONE;
}

static bool same_word(struct slice a, struct slice b)
{
    return a.len == b.len && strncasecmp(a.base, b.base, a.len) == 0;
}

bool http_next_field(struct slice fields, size_t *at, struct slice *name,
                     struct slice *value)
{
    struct http_parser unused = { 0 };
    const char *c = fields.base + *at;

    if (parse_field(&unused, &c, fields.base + fields.len, name, value) != NEXT)
        return false;
    *at = (size_t)(c - fields.base);
    return true;
}

static bool named_by_connection(struct slice fields, struct slice word)
{
    struct slice name, value, option;
    size_t at = 0;

    while (http_next_field(fields, &at, &name, &value))
        if (same_word(name, SLICE("connection")))
            while (http_next_element(&value, &option))
                if (same_word(option, word))
                    return true;
    return false;
}

static bool hop_by_hop(struct slice fields, struct slice name)
{
    static const struct slice always[] = {
        { "Connection", 10 },
        { "Keep-Alive", 10 },
        { "Proxy-Authenticate", 18 },
        { "Proxy-Authorization", 19 },
        { "Proxy-Connection", 16 },
        { "TE", 2 },
        { "Transfer-Encoding", 17 },
        { "Upgrade", 7 },
        { "Trailer", 7 },
    };

    for (size_t i = 0; i < sizeof(always) / sizeof(*always); i++)
        if (same_word(name, always[i]))
            return true;
    return named_by_connection(fields, name);
}

bool http_next_end_to_end(struct slice fields, size_t *at, struct slice *name,
                          struct slice *value)
{
    while (http_next_field(fields, at, name, value))
        if (!hop_by_hop(fields, *name))
            return true;
    return false;
}
