/* http.h - HTTP/1.0 and 1.1: parse a request, format a response. RFC 9110, RFC 9112.
 * Does not: do I/O, allocate, know connections.
 *
 * http_request.c parses, with http_grammar, http_authority and http_body, which nobody
 * else needs to know; http_query.c decodes, http_format.c formats.
 *
 * The parser can be fed any prefix of a stream, again and again, as bytes arrive: it
 * keeps offsets, not pointers, so the bytes may move between two calls. It is strict:
 * what RFC 9112 lets a server repair, this one refuses, since two servers that repair
 * differently are how requests are smuggled (section 11.2). */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

enum {
    HTTP_MAX_LINE = 8192,  /* request line, bytes with its CRLF: 414 above */
    HTTP_MAX_HEAD = 16384, /* request line and fields, or trailers: 431 above */
    HTTP_MAX_FIELDS = 64,  /* fields and trailers: 431 above */
    HTTP_MAX_CHUNK_EXTENSIONS =
        4096, /* bytes in one request: 400 above (RFC 9112 7.1.1) */
};

/* Borrowed bytes, not terminated. */
struct slice {
    const char *base;
    size_t len;
};
#define SLICE(literal) ((struct slice){ literal, sizeof(literal) - 1 })

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.base, b.base, a.len) == 0);
}

enum http_method {
    HTTP_GET = 1,
    HTTP_HEAD = 2,
    HTTP_POST = 4,
    HTTP_PUT = 8,
    HTTP_DELETE = 16,
    HTTP_OPTIONS = 32,
    HTTP_PATCH = 64,
    HTTP_TRACE = 128,
};

/* A complete request. The slices point into the bytes that were parsed. */
struct request {
    enum http_method method;
    int minor;       /* HTTP/1.minor: 0 or 1 */
    bool keep_alive; /* RFC 9112 section 9.3 */
    struct slice
        path; /* as sent, percent-escapes and all; absolute-form's authority is cut */
    struct slice query; /* behind the '?', without it; empty if there is none */
    struct slice type;  /* Content-Type; empty if there is none */
    struct slice body;  /* chunked coding removed */
    struct slice head;  /* empty lines, if there were any, request line and field lines,
                         * as they came, each with its CRLF; they are well formed */
};

/* [http.parser] */
/* Progress through one request. All zero: before its first byte. */
struct http_parser {
    uint8_t state;
    uint8_t method; /* enum http_method */
    uint8_t minor;
    uint8_t fields; /* seen so far, trailers too */
    uint16_t flags;
    uint16_t type_len;
    uint16_t extensions; /* bytes of chunk extensions so far */
    uint32_t trailers;   /* bytes of trailers so far */
    uint32_t at;         /* bytes of the input parsed so far */
    uint32_t head_len;   /* bytes of head, once it is complete */
    uint32_t path;       /* offsets into the input */
    uint32_t query;
    uint32_t type;
    uint16_t path_len;
    uint16_t query_len;
    uint32_t body_len; /* bytes of body collected so far (chunked) */
    uint64_t missing;  /* bytes of body or chunk still to come */
    const char *why;   /* why the request was refused: a static string, or NULL */
};

/* Parse bytes[0 .. *len). Call again with the same bytes and more behind them when 0 came
 * back. max_body: bytes; a longer body is refused with 413.
 * Returns  > 0: the request is complete and took so many bytes; *req is filled in, and
 * points
 *               into bytes; the parser is ready for the next request.
 *            0: incomplete; *len may have shrunk, since the framing of chunks that were
 *            decoded
 *               is squeezed out of the buffer.
 *          < 0: refused: minus the status to answer with; p->why says why. Nothing behind
 *               this point of the stream may be taken for a request. */
ssize_t http_parse(struct http_parser *p, char *bytes, size_t *len, size_t max_body,
                   struct request *req);

/* True when the client sent all of its head and waits for "100 Continue" before it sends
 * the body (RFC 9110 section 10.1.1). Meaningful while http_parse() returns 0. True only
 * once. */
bool http_wants_continue(struct http_parser *p);

/* Find `key` in a query string, "a=1&key=VALUE"; percent-escapes and '+' are decoded into
 * value (cap bytes, terminated with NUL). Returns the value's length; -1: not there;
 * -2: does not fit or holds a NUL. */
ssize_t http_query(struct slice query, const char *key, char *value, size_t cap);

/* Decode percent-escapes of `in` into out (cap bytes). Returns the length; -1: does not
 * fit. plus: '+' means a space (application/x-www-form-urlencoded). */
ssize_t http_unescape(struct slice in, bool plus, char *out, size_t cap);

/* "GET", for one bit of enum http_method. */
const char *http_method_name(enum http_method method);

/* "Not Found" for 404; RFC 9110 section 15. Known: every status this suite sends. */
struct slice http_reason(int status);

/* The body of an answer that is an error, "404 Not Found: why" and a newline, in text;
 * what does not fit is cut. */
enum { HTTP_ERROR_ROOM = 256 };
struct slice http_error_body(char text[HTTP_ERROR_ROOM], int status, const char *why);

/* What goes into a response's head. */
struct http_head {
    int status;
    int minor;           /* of the request: 1.0 clients are told about keep-alive */
    bool keep_alive;     /* false: "Connection: close" */
    struct slice type;   /* Content-Type; empty: none */
    struct slice fields; /* more field lines, each with its CRLF; may be empty */
    uint64_t content_length;
};

/* The longest head http_format_head() makes, if type and fields are empty. */
enum { HTTP_HEAD_ROOM = 256 };

/* Format the head into out, which has room for HTTP_HEAD_ROOM + type.len + fields.len
 * bytes. Returns its length. Dates it (RFC 9110 section 6.6.1) with the second of the
 * last http_date_update(). */
size_t http_format_head(char *out, const struct http_head *head);

/* Format the Date field anew if the second has changed. time(2). */
void http_date_update(void);

/* That field, with its CRLF. */
struct slice http_date_line(void);

#endif
