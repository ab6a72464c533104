/* fuzz_response.c - libFuzzer: a response read in one piece and in many must agree, and
 * what is handed on of it must be fields.
 * Does not: know which responses are right; tests/unit/test_http_response.c does. */
#include "http/http_response.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The input: a byte that says how many cuts there are and, by its top bit, whether HEAD
 * was asked; a byte for each cut (the length of a piece); and the stream. */
enum { MAX_CUTS = 15, MAX_INPUT = 1 << 16 };

struct result {
    bool refused, complete, with_connection;
    int heads, status, minor;
    bool keep_alive;
    uint64_t text;  /* a hash of heads and body */
    uint64_t body;  /* bytes */
    size_t left;    /* bytes of the stream behind the response */
    size_t waiting; /* the most bytes that were kept for want of more */
};

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    abort();
}

static void hash(uint64_t *h, struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        *h = (*h ^ (uint8_t)s.base[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
}

static bool within(struct slice s, const char *bytes, size_t len)
{
    return s.base >= bytes && s.base + s.len <= bytes + len;
}

/* Each field that is handed on stands in `fields`, and has a name. */
static void walk(struct slice fields, uint64_t *h)
{
    struct slice name, value;
    size_t at = 0, before = 0;

    while (http_next_end_to_end(fields, &at, &name, &value)) {
        if (at <= before || at > fields.len)
            fail("the walk does not go on, or goes too far");
        if (name.len == 0 || !within(name, fields.base, fields.len) ||
            !within(value, fields.base, fields.len))
            fail("a field without a name, or outside of the fields");
        if (memchr(value.base, '\n', value.len) || memchr(name.base, ':', name.len))
            fail("a field that is more than one");
        before = at;
        hash(h, name);
        hash(h, value);
    }
}

static void take_head(struct result *r, const struct http_response *res,
                      const char *bytes, size_t len)
{
    if (res->status < 100 || res->status > 599 || res->status == 101)
        fail("a status that there is not");
    if (!within(res->reason, bytes, len) || !within(res->fields, bytes, len))
        fail("a slice points outside of the bytes");
    if (res->keep_alive && res->framing == HTTP_BODY_UNTIL_CLOSE)
        fail("the connection cannot both end the body and be kept");
    r->heads++;
    r->status = res->status;
    r->minor = res->minor;
    r->keep_alive = res->keep_alive;
    hash(&r->text, res->reason);
    hash(&r->text, res->fields);
    walk(res->fields, &r->text);
}

struct reader {
    struct http_parser p;
    struct result r;
    enum http_method method;
    bool head; /* of the answer itself is taken */
};

/* Take something of the bytes. Returns how many, 0: none, < 0: refused. */
static ssize_t take(struct reader *reader, const char *bytes, size_t len)
{
    struct http_response res;
    struct slice data;
    ssize_t n;

    if (!reader->head) {
        n = http_parse_response(&reader->p, bytes, len, reader->method, &res);
        if (n > 0) {
            take_head(&reader->r, &res, bytes, (size_t)n);
            reader->head = res.status >= 200;
        }
        return n;
    }
    n = http_response_body(&reader->p, bytes, len, &data);
    if (n > 0) {
        if (!within(data, bytes, (size_t)n))
            fail("a piece of body outside of what was taken");
        hash(&reader->r.text, data);
        reader->r.body += data.len;
    } else if (data.len > 0) {
        fail("a piece of body that was not taken");
    }
    return n;
}

/* Feed the stream as pieces come; all bytes lie in memory of exactly their size, so
 * that the address sanitizer sees each step over the end. */
static struct result run(const char *stream, size_t size, const uint8_t *cuts,
                         size_t n_cuts, enum http_method method)
{
    struct reader reader = { .method = method };
    size_t len = 0, fed = 0, cut = 0;
    char *bytes = NULL;
    ssize_t n = 0;

    while (n >= 0 && fed < size) {
        size_t piece = cut < n_cuts ? cuts[cut++] + 1U : size - fed;

        if (piece > size - fed)
            piece = size - fed;
        bytes = realloc(bytes, len + piece);
        memcpy(bytes + len, stream + fed, piece);
        len += piece;
        fed += piece;
        while (len > 0 && (n = take(&reader, bytes, len)) > 0) {
            if ((size_t)n > len)
                fail("took more than there was");
            len -= (size_t)n;
            memmove(bytes, bytes + n, len);
            bytes = realloc(bytes, len ? len : 1);
        }
        if (!http_response_ended(&reader.p) && n >= 0 && len > reader.r.waiting)
            reader.r.waiting = len;
    }
    free(bytes);
    if (n < 0 && (n != -502 || reader.p.why == NULL))
        fail("refused without a status or a why");
    reader.r.refused = n < 0;
    reader.r.complete = n >= 0 && http_response_ended(&reader.p);
    reader.r.left = reader.r.complete ? len : 0;
    reader.r.with_connection = n >= 0 && http_response_closed(&reader.p);
    return reader.r;
}

static void check_same(const struct result *a, const struct result *b)
{
    if (a->refused != b->refused || a->complete != b->complete ||
        a->with_connection != b->with_connection || a->left != b->left)
        fail("in pieces it ends otherwise");
    if (a->heads != b->heads || a->status != b->status || a->minor != b->minor ||
        a->keep_alive != b->keep_alive)
        fail("in pieces its head is another");
    if (a->body != b->body || a->text != b->text)
        fail("in pieces its fields or body are others");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t ones[MAX_INPUT];
    size_t n_cuts = size > 0 ? data[0] % (MAX_CUTS + 1U) : 0;
    enum http_method method = size > 0 && data[0] & 0x80 ? HTTP_HEAD : HTTP_GET;

    if (size < 1 + n_cuts || size > sizeof(ones))
        return 0;
    const char *stream = (const char *)data + 1 + n_cuts;
    size_t len = size - 1 - n_cuts;

    struct result whole = run(stream, len, NULL, 0, method);
    struct result pieces = run(stream, len, data + 1, n_cuts, method);
    check_same(&whole, &pieces);
    if (len <= 512) {
        struct result bytes = run(stream, len, ones, len, method);

        check_same(&whole, &bytes);
    }
    if (whole.waiting > HTTP_MAX_HEAD || pieces.waiting > HTTP_MAX_HEAD)
        fail("more is kept for want of more than a head may be long");
    return 0;
}
