/* http_request.c - parse a request; see http.h.
 * Does not: look at a byte twice, except in a line that has not arrived whole. */
#include "http/http_authority.h"
#include "http/http_body.h"

enum { METHOD_MAX_LEN = 32 };

static const struct {
    enum http_method method;
    struct slice name;
} methods[] = {
    { HTTP_GET, { "GET", 3 } },       { HTTP_HEAD, { "HEAD", 4 } },
    { HTTP_POST, { "POST", 4 } },     { HTTP_PUT, { "PUT", 3 } },
    { HTTP_DELETE, { "DELETE", 6 } }, { HTTP_OPTIONS, { "OPTIONS", 7 } },
    { HTTP_PATCH, { "PATCH", 5 } },   { HTTP_TRACE, { "TRACE", 5 } },
};
enum { METHODS = sizeof(methods) / sizeof(methods[0]) };

const char *http_method_name(enum http_method method)
{
    for (int i = 0; i < METHODS; i++)
        if (methods[i].method == method)
            return methods[i].name.base;
    return "?";
}

static int parse_method(struct http_parser *p, const char **c, const char *end)
{
    const char *s = *c;

    if (end - s >= 4 && memcmp(s, "GET ", 4) == 0) { /* nearly always */
        p->method = HTTP_GET;
        *c = s + 4;
        return NEXT;
    }
    for (int i = 0; i < METHODS; i++) {
        const struct slice *name = &methods[i].name;
        size_t same = 0;

        while (same < name->len && s + same < end && s[same] == name->base[same])
            same++;
        if (same == name->len && s + same < end && s[same] == ' ') {
            p->method = (uint8_t)methods[i].method;
            *c = s + same + 1;
            return NEXT;
        }
    }
    while (s < end && is(*s, TOKEN) && s - *c <= METHOD_MAX_LEN)
        s++;
    if (s - *c > METHOD_MAX_LEN)
        return http_refuse(p, 501, "unknown method");
    if (s == end)
        return MORE;
    if (s == *c || *s != ' ')
        return http_refuse(p, 400,
                           "request line does not start with a method and a space");
    return http_refuse(p, 501, "unknown method");
}

/* Skip a path or a query, with its percent-escapes as far as they have come. */
static inline const char *skip_escaped(const char *c, const char *end, uint8_t class)
{
    c = skip(c, end, class);
    while (c < end && *c == '%' && (end - c < 2 || hex_value(c[1]) >= 0) &&
           (end - c < 3 || hex_value(c[2]) >= 0))
        c = skip(c + 1, end, class);
    return c;
}

/* request-target, RFC 9112 section 3.2. On NEXT *c stands on the space behind it. */
static int parse_target(struct http_parser *p, const char *base, const char **c,
                        const char *end)
{
    const char *s = *c;

    if (*s == '*' && p->method == HTTP_OPTIONS) {
        p->path = (uint32_t)(s - base);
        p->path_len = 1;
        *c = s + 1;
        return *c == end ? MORE
                         : (**c == ' ' ? NEXT
                                       : http_refuse(p, 400, "target goes on after '*'"));
    }
    if (*s != '/') {
        int step = http_absolute_form(p, &s, end);

        if (step != NEXT)
            return step;
    }
    p->path = (uint32_t)(s - base);
    s = skip_escaped(s, end, PATH);
    p->path_len = (uint16_t)(s - base - p->path);
    p->query = p->query_len = 0;
    if (s < end && *s == '?') {
        p->query = (uint32_t)(s + 1 - base);
        s = skip_escaped(s + 1, end, QUERY);
        p->query_len = (uint16_t)(s - base - p->query);
    }
    if (s == end)
        return MORE;
    if (*s != ' ')
        return http_refuse(p, 400,
                           *s == '%' ? "bad percent-escape in the target"
                                     : "character that a target may not have");
    *c = s;
    return NEXT;
}

/* HTTP-version, RFC 9112 section 2.3. A higher minor version is served as 1.1 (RFC 9110
 * section 2.5). On NEXT *c stands behind it. */
static int parse_version(struct http_parser *p, const char **c, const char *end)
{
    static const char form[] = "HTTP/d.d";
    const char *s = *c;

    if (end - s >= 8 && memcmp(s, "HTTP/1.1", 8) == 0) { /* nearly always */
        p->minor = 1;
        *c = s + 8;
        return NEXT;
    }
    for (int i = 0; form[i]; i++, s++) {
        if (s == end)
            return MORE;
        if (form[i] == 'd' ? !is_digit(*s) : *s != form[i])
            return http_refuse(p, 400,
                               "request line does not end in HTTP/1.1 or HTTP/1.0");
    }
    if ((*c)[5] != '1')
        return http_refuse(p, 505, "this server speaks HTTP/1.1 and HTTP/1.0");
    p->minor = (*c)[7] == '0' ? 0 : 1;
    *c = s;
    return NEXT;
}

/* method SP request-target SP HTTP-version CRLF, RFC 9112 section 3. */
static int parse_request_line(struct http_parser *p, const char *bytes, size_t len)
{
    const char *c = bytes + p->at;
    const char *end = bytes + len;
    bool too_long;
    int step = NEXT;

    /* Empty lines before a request are forgiven (RFC 9112 section 2.2), within the
     * head. */
    while (end - c >= 2 && c[0] == '\r' && c[1] == '\n')
        c += 2;
    p->at = (uint32_t)(c - bytes);
    if (p->at >= HTTP_MAX_HEAD)
        return http_refuse(p, 400, "nothing but empty lines");
    if (c == end || (end - c == 1 && *c == '\r'))
        return MORE;
    too_long = end - c > HTTP_MAX_LINE;
    if (too_long)
        end = c + HTTP_MAX_LINE;

    step = parse_method(p, &c, end);
    if (step == NEXT)
        step = c == end ? MORE : parse_target(p, bytes, &c, end);
    if (step == NEXT) {
        c++; /* the space */
        step = parse_version(p, &c, end);
    }
    if (step == NEXT)
        step = end_of_line(p, c, end);
    if (step == MORE && too_long)
        return http_refuse(p, 414, "request line is too long");
    if (step == NEXT) {
        p->at = (uint32_t)(c + 2 - bytes);
        p->state = FIELDS;
    }
    return step;
}

static int expect(struct http_parser *p, struct slice value)
{
    if (p->minor == 0) /* RFC 9110 section 10.1.1: to be ignored */
        return NEXT;
    if (!slice_is(value, "100-continue"))
        return http_refuse(p, 417, "the only expectation known is 100-continue");
    p->flags |= EXPECTS_CONTINUE;
    return NEXT;
}

static int host(struct http_parser *p, struct slice value)
{
    if (p->flags & HAS_HOST)
        return http_refuse(p, 400, "two Host fields");
    p->flags |= HAS_HOST;
    return http_authority_valid(value) ? NEXT : http_refuse(p, 400, "invalid Host");
}

/* The few fields that this server acts on. */
static int interpret(struct http_parser *p, const char *bytes, struct slice name,
                     struct slice value)
{
    switch (name.len) {
    case 4:
        return equal_nocase(name.base, "host", 4) ? host(p, value) : NEXT;
    case 6:
        return equal_nocase(name.base, "expect", 6) ? expect(p, value) : NEXT;
    case 12:
        if (equal_nocase(name.base, "content-type", 12)) {
            p->type = (uint32_t)(value.base - bytes);
            p->type_len = (uint16_t)value.len;
        }
        return NEXT;
    default:
        return http_framing_field(p, name, value);
    }
}

static int end_of_head(struct http_parser *p, size_t max_body)
{
    int step;

    if (p->minor == 1 && !(p->flags & HAS_HOST))
        return http_refuse(p, 400, "no Host");
    step = http_begin_body(p);
    if (step == NEXT && p->state == BODY && p->missing > max_body)
        return http_refuse(p, 413, "body is too long");
    return step;
}

static int parse_fields(struct http_parser *p, const char *bytes, size_t len,
                        size_t max_body)
{
    bool too_long = len > HTTP_MAX_HEAD;
    const char *end = bytes + (too_long ? HTTP_MAX_HEAD : len);
    const char *c = bytes + p->at;
    int step = NEXT;

    while (step == NEXT && c < end && *c != '\r') {
        struct slice name, value;

        step = parse_field(p, &c, end, &name, &value);
        if (step == NEXT)
            step = interpret(p, bytes, name, value);
    }
    p->at = (uint32_t)(c - bytes);
    if (step == NEXT)
        step = end_of_line(p, c, end);
    if (step == MORE && too_long)
        return http_refuse(p, 431, "head is too long");
    if (step != NEXT)
        return step;
    p->at += 2;
    return end_of_head(p, max_body);
}

static int take_body(struct http_parser *p, size_t len)
{
    if (len - p->at < p->missing)
        return MORE;
    p->body_len = (uint32_t)p->missing;
    p->at += p->body_len;
    p->state = DONE;
    return NEXT;
}

/* Move what is there of the chunk down to the body's end, over the framing already
 * read. */
static int take_chunk_data(struct http_parser *p, char *bytes, size_t len)
{
    size_t n = len - p->at < p->missing ? len - p->at : (size_t)p->missing;

    memmove(bytes + p->head_len + p->body_len, bytes + p->at, n);
    p->body_len += (uint32_t)n;
    p->at += (uint32_t)n;
    p->missing -= n;
    if (p->missing > 0)
        return MORE;
    p->state = CHUNK_END;
    return NEXT;
}

static ssize_t finish(struct http_parser *p, const char *bytes, struct request *req)
{
    ssize_t used = p->at;

    req->method = (enum http_method)p->method;
    req->minor = p->minor;
    req->keep_alive =
        !(p->flags & SAYS_CLOSE) && (p->minor == 1 || p->flags & SAYS_KEEP_ALIVE);
    req->path =
        p->path_len > 0 ? (struct slice){ bytes + p->path, p->path_len } : SLICE("/");
    req->query = (struct slice){ bytes + p->query, p->query_len };
    req->type = (struct slice){ bytes + p->type, p->type_len };
    req->body = (struct slice){ bytes + p->head_len, p->body_len };
    req->head = (struct slice){ bytes, p->head_len - strlen("\r\n") };
    *p = (struct http_parser){ 0 };
    return used;
}

/* The request is incomplete. Squeeze the framing of decoded chunks out of the buffer, so
 * that a body in a thousand chunks takes no more room than one in a single chunk. */
static void squeeze(struct http_parser *p, char *bytes, size_t *len)
{
    uint32_t body_end = p->head_len + p->body_len;

    if (p->state < CHUNK_SIZE || p->at == body_end)
        return;
    memmove(bytes + body_end, bytes + p->at, *len - p->at);
    *len -= p->at - body_end;
    p->at = body_end;
}

/* [http.parse] */
ssize_t http_parse(struct http_parser *p, char *bytes, size_t *len, size_t max_body,
                   struct request *req)
{
    int step = NEXT;

    while (step == NEXT) {
        switch ((enum state)p->state) {
        case START:
            step = parse_request_line(p, bytes, *len);
            break;
        case FIELDS:
            step = parse_fields(p, bytes, *len, max_body);
            if (step == NEXT && *len > p->at) /* the body comes unasked */
                p->flags &= (uint16_t)~EXPECTS_CONTINUE;
            break;
        case BODY:
            step = take_body(p, *len);
            break;
        case CHUNK_SIZE:
            step = http_chunk_size(p, bytes, *len, max_body - p->body_len);
            break;
        case CHUNK_DATA:
            step = take_chunk_data(p, bytes, *len);
            break;
        case CHUNK_END:
            step = http_chunk_end(p, bytes, *len);
            break;
        case TRAILERS:
            step = http_trailers(p, bytes, *len);
            break;
        case DONE:
            return finish(p, bytes, req);
        }
    }
    if (step == MORE)
        squeeze(p, bytes, len);
    return step;
}

bool http_wants_continue(struct http_parser *p)
{
    if (!(p->flags & EXPECTS_CONTINUE) || p->state < BODY)
        return false;
    p->flags &= (uint16_t)~EXPECTS_CONTINUE;
    return true;
}
