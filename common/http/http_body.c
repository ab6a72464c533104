/* http_body.c - see http_body.h.
 * Does not: trust two lengths that differ, nor two that agree. */
#include "http/http_body.h"

enum { CHUNK_MAX_DIGITS = 16 };

/* [http.content-length] */
int http_content_length(struct http_parser *p, struct slice value)
{
    if (p->flags & HAS_LENGTH)
        return http_refuse(p, 400, "two Content-Length fields");
    p->flags |= HAS_LENGTH;
    if (value.len == 0)
        return http_refuse(p, 400, "Content-Length is not a number");
    for (size_t i = 0; i < value.len; i++) {
        uint64_t digit = (uint64_t)(value.base[i] - '0');

        if (!is_digit(value.base[i]))
            return http_refuse(p, 400, "Content-Length is not a number");
        if (p->missing > (UINT64_MAX - digit) / 10)
            return http_refuse(p, 400, "Content-Length overflows");
        p->missing = p->missing * 10 + digit;
    }
    return NEXT;
}

/* RFC 9112 section 6.1. Which status the sum deserves is decided at the end of the
 * head. */
int http_transfer_encoding(struct http_parser *p, struct slice value)
{
    struct slice coding;

    p->flags |= HAS_CODING;
    while (http_next_element(&value, &coding)) {
        if (p->flags & CODING_CHUNKED)
            return http_refuse(p, 400, "chunked is not the last transfer coding");
        if (coding.len == 0)
            return http_refuse(p, 400, "empty transfer coding");
        p->flags |= slice_is(coding, "chunked") ? CODING_CHUNKED : CODING_OTHER;
    }
    return NEXT;
}

void http_connection(struct http_parser *p, struct slice value)
{
    struct slice option;

    while (http_next_element(&value, &option)) {
        if (slice_is(option, "close"))
            p->flags |= SAYS_CLOSE;
        else if (slice_is(option, "keep-alive"))
            p->flags |= SAYS_KEEP_ALIVE;
    }
}

/* chunk-size [ chunk-ext ] CRLF, RFC 9112 section 7.1. */
int http_chunk_size(struct http_parser *p, const char *bytes, size_t len, uint64_t room)
{
    const char *c = bytes + p->at;
    const char *end = bytes + len;
    const char *digits = c;
    const char *extension;
    uint64_t size = 0;
    int step;

    for (; c < end && hex_value(*c) >= 0; c++) {
        if (c - digits == CHUNK_MAX_DIGITS)
            return http_refuse(p, 400, "chunk size is too long");
        size = size << 4 | (uint64_t)hex_value(*c);
    }
    if (c == end)
        return MORE;
    if (c == digits)
        return http_refuse(p, 400, "chunk has no size");
    extension = c;
    while (c < end && (*c == ' ' || *c == '\t'))
        c++;
    if (c < end && *c == ';')
        c = skip_text(c, end);
    else if (c < end && c > extension)
        return http_refuse(p, 400, "space after the chunk size");
    step = end_of_line(p, c, end);
    if (c - extension > HTTP_MAX_CHUNK_EXTENSIONS - p->extensions)
        return http_refuse(p, 400, "chunk extensions are too long");
    if (step != NEXT)
        return step;
    p->extensions = (uint16_t)(p->extensions + (c - extension));
    p->at = (uint32_t)(c + 2 - bytes);
    if (size > room)
        return http_refuse(p, 413, "body is too long");
    p->missing = size;
    p->state = size > 0 ? CHUNK_DATA : TRAILERS;
    return NEXT;
}

int http_chunk_end(struct http_parser *p, const char *bytes, size_t len)
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
int http_trailers(struct http_parser *p, const char *bytes, size_t len)
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
        return http_refuse(p, 431, "trailers are too long");
    if (step == NEXT)
        c += 2;
    p->trailers += (uint32_t)(c - (bytes + p->at));
    p->at = (uint32_t)(c - bytes);
    if (step == NEXT)
        p->state = DONE;
    return step;
}
