/* http_grammar.h - what the parsers of requests and of responses share: which bytes may
 * stand where, lines, fields. RFC 9110 section 5, RFC 9112 sections 2 and 5.
 * Does not: leave common/http/. What each field of each request goes through stands
 * here and not in a .c file, so that the compiler makes one piece of it. */
#ifndef HTTP_GRAMMAR_H
#define HTTP_GRAMMAR_H

#include <endian.h>
#include <string.h>

#include "http/http.h"

/* What a byte may be part of; RFC 9110 section 5.6, RFC 9112 section 3, RFC 3986. */
enum {
    TOKEN = 1, /* method, field name */
    TEXT = 2,  /* field value, chunk extension */
    PATH = 4,  /* without '%', which needs a closer look; so the next two */
    QUERY = 8,
    HOST = 16,   /* registered name or IPv4 literal */
    ADDRESS = 32 /* IPv6 literal */
};

extern uint8_t http_classes[256];

static inline bool is(char c, uint8_t class)
{
    return http_classes[(uint8_t)c] & class;
}

/* Skip bytes of a class. While there are eight the end is looked at once for all. */
static inline const char *skip(const char *c, const char *end, uint8_t class)
{
    for (; end - c >= 8; c += 8) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            if (!is(c[i], class))
                return c + i;
    }
    while (c < end && is(*c, class))
        c++;
    return c;
}

/* Skip field text, most of what a server reads, eight bytes at a time. A byte below ' ',
 * and DEL, set the top bit of their byte in `stop`. What a carry marks besides stands
 * behind such a byte or behind 0xff; so the first that is marked gets a look at it. */
static inline const char *skip_text(const char *c, const char *end)
{
    const uint64_t ones = UINT64_MAX / 0xff; /* 0x01 in each byte */
    uint64_t word, stop;

    while (end - c >= 8) {
        memcpy(&word, c, 8);
        word = le64toh(word); /* the first byte is the lowest */
        stop = ((word - ones * ' ') | (word + ones)) & ~word & ones * 0x80;
        if (stop == 0) {
            c += 8;
            continue;
        }
        c += __builtin_ctzll(stop) / 8;
        if (!is(*c, TEXT))
            return c;
        c++;
    }
    return skip(c, end, TEXT);
}

static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static inline bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static inline uint32_t four(const char *s)
{
    uint32_t word;

    memcpy(&word, s, 4);
    return word;
}

/* Field names and the words in fields know no case. lower: of the same length, four bytes
 * at least, in lower case. The bit that makes 'a' of 'A' makes a letter, digit or '-' of
 * nothing else that a name or value may hold. The last four may overlap those before. */
static inline bool equal_nocase(const char *s, const char *lower, size_t len)
{
    const uint32_t bits = 0x20202020;

    for (size_t i = 0; i + 4 < len; i += 4)
        if ((four(s + i) | bits) != four(lower + i))
            return false;
    return (four(s + len - 4) | bits) == four(lower + len - 4);
}

static inline bool slice_is(struct slice s, const char *lower)
{
    return s.len == strlen(lower) && equal_nocase(s.base, lower, s.len);
}

/* The state of a parser, in struct http_parser. */
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
    UNTIL_CLOSE = 256, /* a response's body ends where the connection does */
};

/* What a step of the parser says: go on, wait for bytes, or minus a status. */
enum { MORE = 0, NEXT = 1 };

static inline int http_refuse(struct http_parser *p, int status, const char *why)
{
    p->why = why;
    return -status;
}

/* [http.end-of-line] */
/* Does the line end here, in CRLF? A bare CR or LF ends nothing (RFC 9112 section 2.2
 * lets a server take a bare LF; two servers that differ in that can be played off). */
static inline int end_of_line(struct http_parser *p, const char *c, const char *end)
{
    if (end - c >= 2 && memcmp(c, "\r\n", 2) == 0)
        return NEXT;
    if (c == end || (*c == '\r' && c + 1 == end))
        return MORE;
    if (*c == '\r')
        return http_refuse(p, 400, "bare CR");
    return http_refuse(p, 400, *c == '\n' ? "bare LF" : "control character");
}

/* Why the bytes at `line`, a name as far as `stop`, do not begin a field: MORE, or a
 * refusal. */
static inline int no_field(struct http_parser *p, const char *line, const char *stop,
                           const char *end)
{
    if (stop == end)
        return MORE;
    if (stop == line && is_blank(*line))
        return http_refuse(p, 400, "line folding"); /* RFC 9112 section 5.2 */
    return http_refuse(p, 400, "field does not start with a name and a colon");
}

/* field-name ":" OWS field-value OWS CRLF, RFC 9112 section 5. On NEXT *c stands behind
 * it. */
static inline int parse_field(struct http_parser *p, const char **c, const char *end,
                              struct slice *name, struct slice *value)
{
    const char *line = *c;
    const char *s = skip(line, end, TOKEN);
    const char *text;
    int step;

    if (s == line || s == end || *s != ':')
        return no_field(p, line, s, end);
    *name = (struct slice){ line, (size_t)(s - line) };
    do
        s++;
    while (s < end && is_blank(*s));
    text = s;
    s = skip_text(s, end);
    step = end_of_line(p, s, end);
    if (step != NEXT)
        return step;
    *c = s + 2;
    while (s > text && is_blank(s[-1]))
        s--;
    *value = (struct slice){ text, (size_t)(s - text) };
    if (++p->fields > HTTP_MAX_FIELDS)
        return http_refuse(p, 431, "too many fields");
    return NEXT;
}

/* Cut the next element, without the space around it, off a list "a, b, c". False: no
 * more. RFC 9110 section 5.6.1. */
bool http_next_element(struct slice *list, struct slice *element);

#endif
