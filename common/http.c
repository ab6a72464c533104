/* http.c - see http.h.
 * Does not: look at a byte twice, except in a line that has not arrived whole. */
#include "http.h"

#include <arpa/inet.h>
#include <string.h>
#include <time.h>

/* What a byte may be part of; RFC 9110 section 5.6, RFC 9112 section 3, RFC 3986. */
enum {
    TOKEN = 1,   /* method, field name */
    TEXT = 2,    /* field value, chunk extension */
    TARGET = 4,  /* path or query, without '%', which needs a closer look */
    HOST = 8,    /* registered name or IPv4 literal */
    ADDRESS = 16 /* IPv6 literal */
};

static uint8_t classes[256];

static void mark(uint8_t class, const char *members)
{
    for (; *members; members++)
        classes[(uint8_t)*members] |= class;
}

/* Before main(): the tables are the grammar, written as it stands in the RFCs. */
__attribute__((constructor)) static void classes_setup(void)
{
    static const char alnum[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

    mark(TOKEN | TARGET | HOST, alnum);
    mark(TOKEN, "!#$%&'*+-.^_`|~");
    mark(TARGET | HOST, "-._~!$&'()*+,;=");
    mark(TARGET, ":@/?");
    mark(ADDRESS, "0123456789abcdefABCDEF:.");
    classes['\t'] |= TEXT;
    for (int c = ' '; c <= 0xff; c++)
        classes[c] |= TEXT;
    classes[0x7f] &= (uint8_t)~TEXT;
}

static bool is(char c, uint8_t class)
{
    return classes[(uint8_t)c] & class;
}

static const char *skip(const char *c, const char *end, uint8_t class)
{
    while (c < end && is(*c, class))
        c++;
    return c;
}

/* Skip field text, eight bytes at a time while they hold no control character; the byte
 * that stops it is looked at singly. Most of what a server reads is field text. */
static const char *skip_text(const char *c, const char *end)
{
    const uint64_t ones = UINT64_MAX / 0xff; /* 0x01 in each byte */
    uint64_t word;

    for (; end - c >= 8; c += 8) {
        memcpy(&word, c, 8);
        uint64_t below = (word - ones * ' ') & ~word; /* top bit: a byte under 0x20 */
        uint64_t del = ((word ^ ones * 0x7f) - ones) & ~(word ^ ones * 0x7f);

        if ((below | del) & ones * 0x80)
            break;
    }
    return skip(c, end, TEXT);
}

enum state { START, FIELDS, BODY, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILERS, DONE };

enum flag {
    HAS_HOST = 1,
    HAS_LENGTH = 2,
    HAS_CODING = 4,     /* Transfer-Encoding */
    CODING_CHUNKED = 8, /* its last coding so far is chunked */
    CODING_OTHER = 16,
    SAYS_CLOSE = 32,
    SAYS_KEEP_ALIVE = 64,
    EXPECTS_CONTINUE = 128,
};

/* What a step of the parser says: go on, wait for bytes, or minus a status. */
enum { MORE = 0, NEXT = 1 };

enum { METHOD_MAX_LEN = 32, CHUNK_MAX_DIGITS = 16 };

static int refuse(struct http_parser *p, int status, const char *why)
{
    p->why = why;
    return -status;
}

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

bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.base, b.base, a.len) == 0);
}

static char to_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Field names and the words in fields know no case. lower: of the same length, in lower
 * case. The bit that makes 'a' of 'A' makes a letter, digit or '-' of nothing else that a
 * name or value may hold. */
static bool equal_nocase(const char *s, const char *lower, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((s[i] | 0x20) != lower[i])
            return false;
    return true;
}

static bool slice_is(struct slice s, const char *lower)
{
    return s.len == strlen(lower) && equal_nocase(s.base, lower, s.len);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* [http.end-of-line] */
/* Does the line end here, in CRLF? A bare CR or LF ends nothing (RFC 9112 section 2.2
 * lets a server take a bare LF; two servers that differ in that can be played off). */
static int end_of_line(struct http_parser *p, const char *c, const char *end)
{
    if (c == end)
        return MORE;
    if (*c != '\r')
        return refuse(p, 400, *c == '\n' ? "bare LF" : "control character");
    if (c + 1 == end)
        return MORE;
    return c[1] == '\n' ? NEXT : refuse(p, 400, "bare CR");
}

static bool is_ipv6(const char *bytes, size_t len)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;

    if (len >= sizeof(text))
        return false;
    memcpy(text, bytes, len);
    text[len] = '\0';
    return inet_pton(AF_INET6, text, &address) == 1;
}

/* uri-host [ ":" port ], RFC 9110 section 7.2 and RFC 3986 section 3.2.2. */
static bool authority_valid(struct slice a)
{
    const char *end = a.base + a.len;
    const char *c;
    int port = 0;

    if (a.len > 0 && *a.base == '[') {
        c = skip(a.base + 1, end, ADDRESS);
        if (c == end || *c != ']' || !is_ipv6(a.base + 1, (size_t)(c - a.base - 1)))
            return false;
        c++;
    } else {
        c = skip(a.base, end, HOST);
        while (end - c >= 3 && *c == '%' && hex_value(c[1]) >= 0 && hex_value(c[2]) >= 0)
            c = skip(c + 3, end, HOST);
        if (c == a.base)
            return false;
    }
    if (c < end && *c++ != ':')
        return false;
    for (; c < end; c++) {
        port = port * 10 + (*c - '0');
        if (!is_digit(*c) || port > 65535)
            return false;
    }
    return true;
}

/* "http://host:port/path" names the host itself; what follows is as in a plain target.
 * RFC 9112 section 3.2.2. On NEXT *c stands behind the authority. */
static int parse_authority(struct http_parser *p, const char **c, const char *end)
{
    static const char schemes[2][9] = { "http://", "https://" };
    const char *s = *c;
    struct slice authority;

    for (int i = 0; i < 2; i++) {
        size_t len = strlen(schemes[i]);
        size_t have = (size_t)(end - s) < len ? (size_t)(end - s) : len;
        size_t same = 0;

        while (same < have && to_lower(s[same]) == schemes[i][same])
            same++;
        if (same < have)
            continue;
        if (have < len)
            return MORE;
        authority.base = s + len;
        for (s += len; s < end && *s != '/' && *s != '?' && *s != ' '; s++)
            if (!is(*s, HOST | ADDRESS) && strchr("[]%", *s) == NULL)
                return refuse(p, 400, "invalid authority in the target");
        authority.len = (size_t)(s - authority.base);
        if (s == end)
            return MORE;
        *c = s;
        return authority_valid(authority)
                   ? NEXT
                   : refuse(p, 400, "invalid authority in the target");
    }
    return refuse(p, 400, "target is neither a path nor an http URI");
}

/* request-target, RFC 9112 section 3.2. On NEXT *c stands on the space behind it. */
static int parse_target(struct http_parser *p, const char *base, const char **c,
                        const char *end)
{
    const char *s = *c;
    const char *query = NULL;

    if (*s == '*' && p->method == HTTP_OPTIONS) {
        p->path = (uint32_t)(s - base);
        p->path_len = 1;
        *c = s + 1;
        return *c == end
                   ? MORE
                   : (**c == ' ' ? NEXT : refuse(p, 400, "target goes on after '*'"));
    }
    if (*s != '/') {
        int step = parse_authority(p, &s, end);

        if (step != NEXT)
            return step;
    }
    p->path = (uint32_t)(s - base);
    for (; s < end && *s != ' '; s++) {
        if (*s == '?' && query == NULL)
            query = s;
        if (is(*s, TARGET))
            continue;
        if (*s != '%')
            return refuse(p, 400, "character that a target may not have");
        if ((end - s > 1 && hex_value(s[1]) < 0) || (end - s > 2 && hex_value(s[2]) < 0))
            return refuse(p, 400, "bad percent-escape in the target");
    }
    if (s == end)
        return MORE;
    p->path_len = (uint16_t)((query ? query : s) - base - p->path);
    p->query = query ? (uint32_t)(query + 1 - base) : 0;
    p->query_len = query ? (uint16_t)(s - query - 1) : 0;
    *c = s;
    return NEXT;
}

static int parse_method(struct http_parser *p, const char **c, const char *end)
{
    const char *s = *c;

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
        return refuse(p, 501, "unknown method");
    if (s == end)
        return MORE;
    if (s == *c || *s != ' ')
        return refuse(p, 400, "request line does not start with a method and a space");
    return refuse(p, 501, "unknown method");
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
            return refuse(p, 400, "request line does not end in HTTP/1.1 or HTTP/1.0");
    }
    if ((*c)[5] != '1')
        return refuse(p, 505, "this server speaks HTTP/1.1 and HTTP/1.0");
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
        return refuse(p, 400, "nothing but empty lines");
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
        return refuse(p, 414, "request line is too long");
    if (step == NEXT) {
        p->at = (uint32_t)(c + 2 - bytes);
        p->state = FIELDS;
    }
    return step;
}

/* [http.content-length] */
static int content_length(struct http_parser *p, struct slice value)
{
    if (p->flags & HAS_LENGTH)
        return refuse(p, 400, "two Content-Length fields");
    p->flags |= HAS_LENGTH;
    if (value.len == 0)
        return refuse(p, 400, "Content-Length is not a number");
    for (size_t i = 0; i < value.len; i++) {
        uint64_t digit = (uint64_t)(value.base[i] - '0');

        if (!is_digit(value.base[i]))
            return refuse(p, 400, "Content-Length is not a number");
        if (p->missing > (UINT64_MAX - digit) / 10)
            return refuse(p, 400, "Content-Length overflows");
        p->missing = p->missing * 10 + digit;
    }
    return NEXT;
}

/* Cut the next element, without the space around it, off a list "a, b, c". False: no
 * more. RFC 9110 section 5.6.1. */
static bool next_element(struct slice *list, struct slice *element)
{
    const char *c = list->base;
    const char *end, *comma;

    if (c == NULL)
        return false;
    end = c + list->len;
    comma = memchr(c, ',', list->len);
    *list = comma ? (struct slice){ comma + 1, (size_t)(end - comma - 1) }
                  : (struct slice){ 0 };
    if (comma)
        end = comma;
    while (c < end && (*c == ' ' || *c == '\t'))
        c++;
    while (c < end && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *element = (struct slice){ c, (size_t)(end - c) };
    return true;
}

/* RFC 9112 section 6.1. Which status the sum deserves is decided at the end of the
 * head. */
static int transfer_encoding(struct http_parser *p, struct slice value)
{
    struct slice coding;

    p->flags |= HAS_CODING;
    while (next_element(&value, &coding)) {
        if (p->flags & CODING_CHUNKED)
            return refuse(p, 400, "chunked is not the last transfer coding");
        if (coding.len == 0)
            return refuse(p, 400, "empty transfer coding");
        p->flags |= slice_is(coding, "chunked") ? CODING_CHUNKED : CODING_OTHER;
    }
    return NEXT;
}

static void connection(struct http_parser *p, struct slice value)
{
    struct slice option;

    while (next_element(&value, &option)) {
        if (slice_is(option, "close"))
            p->flags |= SAYS_CLOSE;
        else if (slice_is(option, "keep-alive"))
            p->flags |= SAYS_KEEP_ALIVE;
    }
}

static int expect(struct http_parser *p, struct slice value)
{
    if (p->minor == 0) /* RFC 9110 section 10.1.1: to be ignored */
        return NEXT;
    if (!slice_is(value, "100-continue"))
        return refuse(p, 417, "the only expectation known is 100-continue");
    p->flags |= EXPECTS_CONTINUE;
    return NEXT;
}

static int host(struct http_parser *p, struct slice value)
{
    if (p->flags & HAS_HOST)
        return refuse(p, 400, "two Host fields");
    p->flags |= HAS_HOST;
    return authority_valid(value) ? NEXT : refuse(p, 400, "invalid Host");
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
    case 10:
        if (equal_nocase(name.base, "connection", 10))
            connection(p, value);
        return NEXT;
    case 12:
        if (equal_nocase(name.base, "content-type", 12)) {
            p->type = (uint32_t)(value.base - bytes);
            p->type_len = (uint16_t)value.len;
        }
        return NEXT;
    case 14:
        return equal_nocase(name.base, "content-length", 14) ? content_length(p, value)
                                                             : NEXT;
    case 17:
        return equal_nocase(name.base, "transfer-encoding", 17)
                   ? transfer_encoding(p, value)
                   : NEXT;
    default:
        return NEXT;
    }
}

/* field-name ":" OWS field-value OWS CRLF, RFC 9112 section 5. On NEXT *c stands behind
 * it. */
static int parse_field(struct http_parser *p, const char **c, const char *end,
                       struct slice *name, struct slice *value)
{
    const char *s = skip(*c, end, TOKEN);
    int step;

    if (s == end)
        return MORE;
    if (s == *c && (*s == ' ' || *s == '\t'))
        return refuse(p, 400, "line folding"); /* RFC 9112 section 5.2 */
    if (s == *c || *s != ':')
        return refuse(p, 400, "field does not start with a name and a colon");
    *name = (struct slice){ *c, (size_t)(s - *c) };
    for (s++; s < end && (*s == ' ' || *s == '\t'); s++)
        continue;
    value->base = s;
    s = skip_text(s, end);
    value->len = (size_t)(s - value->base);
    step = end_of_line(p, s, end);
    if (step != NEXT)
        return step;
    while (value->len > 0 &&
           (value->base[value->len - 1] == ' ' || value->base[value->len - 1] == '\t'))
        value->len--;
    if (++p->fields > HTTP_MAX_FIELDS)
        return refuse(p, 431, "too many fields");
    *c = s + 2;
    return NEXT;
}

/* [http.framing] */
/* Where does the body end? RFC 9112 section 6.3. Whatever leaves room for two opinions is
 * refused. */
static int begin_body(struct http_parser *p, size_t max_body)
{
    if (p->minor == 1 && !(p->flags & HAS_HOST))
        return refuse(p, 400, "no Host");
    p->head_len = p->at;
    p->state = DONE;
    if (p->flags & HAS_CODING) {
        if (p->flags & HAS_LENGTH)
            return refuse(p, 400, "both Content-Length and Transfer-Encoding");
        if (p->minor == 0)
            return refuse(p, 400, "Transfer-Encoding in HTTP/1.0");
        if (!(p->flags & CODING_CHUNKED))
            return refuse(p, 400, "the last transfer coding is not chunked");
        if (p->flags & CODING_OTHER)
            return refuse(p, 501, "the only transfer coding known is chunked");
        p->state = CHUNK_SIZE;
    } else if (p->missing > 0) {
        if (p->missing > max_body)
            return refuse(p, 413, "body is too long");
        p->state = BODY;
    }
    return NEXT;
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
        if (step == NEXT) {
            step = interpret(p, bytes, name, value);
            p->at = (uint32_t)(c - bytes);
        }
    }
    if (step == NEXT)
        step = end_of_line(p, c, end);
    if (step == MORE && too_long)
        return refuse(p, 431, "head is too long");
    if (step != NEXT)
        return step;
    p->at += 2;
    return begin_body(p, max_body);
}

/* chunk-size [ chunk-ext ] CRLF, RFC 9112 section 7.1. */
static int parse_chunk_size(struct http_parser *p, const char *bytes, size_t len,
                            size_t max_body)
{
    const char *c = bytes + p->at;
    const char *end = bytes + len;
    const char *digits = c;
    const char *extension;
    uint64_t size = 0;
    int step;

    for (; c < end && hex_value(*c) >= 0; c++) {
        if (c - digits == CHUNK_MAX_DIGITS)
            return refuse(p, 400, "chunk size is too long");
        size = size << 4 | (uint64_t)hex_value(*c);
    }
    if (c == end)
        return MORE;
    if (c == digits)
        return refuse(p, 400, "chunk has no size");
    extension = c;
    while (c < end && (*c == ' ' || *c == '\t'))
        c++;
    if (c < end && *c == ';')
        c = skip_text(c, end);
    else if (c < end && c > extension)
        return refuse(p, 400, "space after the chunk size");
    step = end_of_line(p, c, end);
    if (c - extension > HTTP_MAX_CHUNK_EXTENSIONS - p->extensions)
        return refuse(p, 400, "chunk extensions are too long");
    if (step != NEXT)
        return step;
    p->extensions = (uint16_t)(p->extensions + (c - extension));
    p->at = (uint32_t)(c + 2 - bytes);
    if (size > max_body - p->body_len)
        return refuse(p, 413, "body is too long");
    p->missing = size;
    p->state = size > 0 ? CHUNK_DATA : TRAILERS;
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

static int end_chunk(struct http_parser *p, const char *bytes, size_t len)
{
    int step = end_of_line(p, bytes + p->at, bytes + len);

    if (step == NEXT) {
        p->at += 2;
        p->state = CHUNK_SIZE;
    } else if (step != MORE)
        p->why = "chunk is longer than its size says";
    return step;
}

/* Trailers are checked as fields are, and dropped: RFC 9110 section 6.5.1. */
static int parse_trailers(struct http_parser *p, const char *bytes, size_t len)
{
    size_t room = HTTP_MAX_HEAD - p->trailers;
    bool too_long = len - p->at > room;
    const char *end = bytes + (too_long ? p->at + room : len);
    const char *c = bytes + p->at;
    int step = NEXT;

    while (step == NEXT && c < end && *c != '\r') {
        struct slice name, value;

        step = parse_field(p, &c, end, &name, &value);
    }
    if (step == NEXT)
        step = end_of_line(p, c, end);
    if (step == MORE && too_long)
        return refuse(p, 431, "trailers are too long");
    if (step == NEXT)
        c += 2;
    p->trailers += (uint32_t)(c - (bytes + p->at));
    p->at = (uint32_t)(c - bytes);
    if (step == NEXT)
        p->state = DONE;
    return step;
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

static int take_body(struct http_parser *p, size_t len)
{
    if (len - p->at < p->missing)
        return MORE;
    p->body_len = (uint32_t)p->missing;
    p->at += p->body_len;
    p->state = DONE;
    return NEXT;
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
            step = parse_chunk_size(p, bytes, *len, max_body);
            break;
        case CHUNK_DATA:
            step = take_chunk_data(p, bytes, *len);
            break;
        case CHUNK_END:
            step = end_chunk(p, bytes, *len);
            break;
        case TRAILERS:
            step = parse_trailers(p, bytes, *len);
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

ssize_t http_unescape(struct slice in, bool plus, char *out, size_t cap)
{
    size_t n = 0;

    for (size_t i = 0; i < in.len; i++, n++) {
        char c = in.base[i];

        int high = c == '%' && in.len - i > 2 ? hex_value(in.base[i + 1]) : -1;
        int low = high >= 0 ? hex_value(in.base[i + 2]) : -1;

        if (low >= 0) { /* what the parser has let through is always so */
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus)
            c = ' ';
        if (n == cap)
            return -1;
        out[n] = c;
    }
    return (ssize_t)n;
}

ssize_t http_query(struct slice query, const char *key, char *value, size_t cap)
{
    size_t key_len = strlen(key);
    const char *end = query.base + query.len;

    for (const char *c = query.base; c < end;) {
        const char *stop = memchr(c, '&', (size_t)(end - c));
        ssize_t len;

        if (stop == NULL)
            stop = end;
        if ((size_t)(stop - c) > key_len && memcmp(c, key, key_len) == 0 &&
            c[key_len] == '=') {
            c += key_len + 1;
            len = http_unescape((struct slice){ c, (size_t)(stop - c) }, true, value,
                                cap - 1);
            if (len < 0 || memchr(value, '\0', (size_t)len) != NULL)
                return -2;
            value[len] = '\0';
            return len;
        }
        c = stop + 1;
    }
    return -1;
}

const char *http_method_name(enum http_method method)
{
    for (int i = 0; i < METHODS; i++)
        if (methods[i].method == method)
            return methods[i].name.base;
    return "?";
}

/* Every status line this suite sends; RFC 9110 section 15. */
#define STATUS(code, reason)                                                             \
    {                                                                                    \
        code,                                                                            \
        {                                                                                \
            "HTTP/1.1 " #code " " reason "\r\n", sizeof(reason) + 14                     \
        }                                                                                \
    }
static const struct {
    int status;
    struct slice line;
} status_lines[] = {
    STATUS(200, "OK"),
    STATUS(400, "Bad Request"),
    STATUS(404, "Not Found"),
    STATUS(405, "Method Not Allowed"),
    STATUS(408, "Request Timeout"),
    STATUS(413, "Content Too Large"),
    STATUS(414, "URI Too Long"),
    STATUS(417, "Expectation Failed"),
    STATUS(431, "Request Header Fields Too Large"),
    STATUS(501, "Not Implemented"),
    STATUS(503, "Service Unavailable"),
    STATUS(504, "Gateway Timeout"),
    STATUS(505, "HTTP Version Not Supported"),
    STATUS(500, "Internal Server Error"), /* last: what an unknown status becomes */
};
enum { STATUS_LINES = sizeof(status_lines) / sizeof(status_lines[0]) };

static struct slice status_line(int status)
{
    int i = 0;

    while (i < STATUS_LINES - 1 && status_lines[i].status != status)
        i++;
    return status_lines[i].line;
}

struct slice http_reason(int status)
{
    struct slice line = status_line(status);
    size_t before = strlen("HTTP/1.1 200 ");

    return (struct slice){ line.base + before, line.len - before - strlen("\r\n") };
}

/* The beginning of nearly all responses, formatted once a second. */
static _Thread_local char ok_and_date[] =
    "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
enum { DATE_AT = 17, DATE_LEN = sizeof(ok_and_date) - 1 - DATE_AT };

void http_date_update(void)
{
    static _Thread_local time_t formatted = -1;
    time_t now = time(NULL);
    struct tm tm;

    if (now == formatted)
        return;
    formatted = now;
    gmtime_r(&now, &tm);
    strftime(ok_and_date + DATE_AT, DATE_LEN + 1, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n",
             &tm);
}

static char *put(char *out, const char *bytes, size_t len)
{
    return (char *)memcpy(out, bytes, len) + len;
}
#define PUT(out, literal) put(out, literal, sizeof(literal) - 1)

static char *put_number(char *out, uint64_t n)
{
    char digits[20];
    size_t i = sizeof(digits);

    do {
        digits[--i] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    return put(out, digits + i, sizeof(digits) - i);
}

size_t http_format_head(char *out, const struct http_head *head)
{
    char *o = out;

    if (head->status == 200) {
        o = put(o, ok_and_date, sizeof(ok_and_date) - 1);
    } else {
        struct slice line = status_line(head->status);

        o = put(o, line.base, line.len);
        o = put(o, ok_and_date + DATE_AT, DATE_LEN);
    }
    if (head->type.len > 0) {
        o = PUT(o, "Content-Type: ");
        o = put(o, head->type.base, head->type.len);
        o = PUT(o, "\r\n");
    }
    o = PUT(o, "Content-Length: ");
    o = put_number(o, head->content_length);
    if (!head->keep_alive)
        o = PUT(o, "\r\nConnection: close");
    else if (head->minor == 0)
        o = PUT(o, "\r\nConnection: keep-alive");
    o = PUT(o, "\r\n");
    if (head->fields.len > 0)
        o = put(o, head->fields.base, head->fields.len);
    return (size_t)(PUT(o, "\r\n") - out);
}
