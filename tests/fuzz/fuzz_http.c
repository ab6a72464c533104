/* fuzz_http.c - libFuzzer: a stream parsed in one piece and in many must agree.
 * Does not: know which requests are right; tests/unit/test_http.c does. */
#include "http/http.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The input: a byte that says how many cuts there are, a byte for each (the length of a
 * piece), and the stream. */
enum { MAX_CUTS = 15, MAX_REQUESTS = 64, MAX_BODY = 1000 };

struct result {
    int status; /* 0: incomplete, 200: accepted, else refused */
    enum http_method method;
    int minor;
    bool keep_alive;
    uint64_t text; /* a hash of path, query, type and body */
    size_t left;   /* bytes of the stream that the request did not take */
};

static void fail(const char *what, size_t request)
{
    fprintf(stderr, "request %zu: %s\n", request, what);
    abort();
}

static bool same(const struct result *a, const struct result *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i].status != b[i].status || a[i].method != b[i].method ||
            a[i].minor != b[i].minor || a[i].keep_alive != b[i].keep_alive ||
            a[i].text != b[i].text || a[i].left != b[i].left)
            return false;
    return true;
}

static void hash(uint64_t *h, struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        *h = (*h ^ (uint8_t)s.base[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    *h = (*h ^ s.len) * UINT64_C(0x100000001b3);
}

static bool within(struct slice s, const char *bytes, size_t len)
{
    return s.len == 0 || (s.base >= bytes && s.base + s.len <= bytes + len) ||
           (s.len == 1 && *s.base == '/'); /* the path of http://host */
}

static void take(struct result *r, const struct request *req, const char *bytes,
                 size_t len)
{
    const struct slice all[] = { req->path, req->query, req->type, req->body };

    *r = (struct result){ .status = 200,
                          .method = req->method,
                          .minor = req->minor,
                          .keep_alive = req->keep_alive };
    for (int i = 0; i < 4; i++) {
        if (!within(all[i], bytes, len))
            fail("a slice points outside of the bytes", 0);
        hash(&r->text, all[i]);
    }
    if (req->body.len > MAX_BODY)
        fail("the body is longer than max_body", 0);
    if (req->path.len == 0)
        fail("the path is empty", 0);
}

/* Feed the stream as pieces come; all bytes lie in memory of exactly their size, so
 * that the address sanitizer sees each step over the end. Returns how many results
 * there are. */
static size_t run(const char *stream, size_t size, const uint8_t *cuts, size_t n_cuts,
                  struct result *results)
{
    struct http_parser p = { 0 };
    struct request req;
    size_t len = 0, fed = 0, count = 0, cut = 0;
    char *bytes = NULL;

    while (count < MAX_REQUESTS) {
        size_t before = len;
        ssize_t n = len > 0 ? http_parse(&p, bytes, &len, MAX_BODY, &req) : 0;

        if (len > before)
            fail("*len grew", count);
        if (n > 0) {
            if ((size_t)n > len)
                fail("took more than there was", count);
            take(&results[count], &req, bytes, len);
            len -= (size_t)n;
            memmove(bytes, bytes + n, len);
            bytes = realloc(bytes, len ? len : 1);
            results[count++].left = len + size - fed;
            continue;
        }
        if (n < 0) {
            if (n > -400 || n < -599 || p.why == NULL)
                fail("refused without a status or a why", count);
            results[count++] = (struct result){ .status = (int)-n };
            break;
        }
        bytes = realloc(bytes, len ? len : 1); /* chunks may have been squeezed */
        if (fed == size) {
            results[count++] = (struct result){ .left = 0 };
            break;
        }
        size_t piece = cut < n_cuts ? cuts[cut++] + 1U : size - fed;
        if (piece > size - fed)
            piece = size - fed;
        bytes = realloc(bytes, len + piece);
        memcpy(bytes + len, stream + fed, piece);
        len += piece;
        fed += piece;
    }
    free(bytes);
    return count;
}

static void check_helpers(const char *stream, size_t size)
{
    struct slice in = { stream, size };
    char *out = malloc(size + 1);
    ssize_t n = http_unescape(in, size & 1, out, size);

    if (n < 0 || (size_t)n > size)
        fail("http_unescape() made more than it was given", 0);
    n = http_query(in, "a", out, size + 1);
    if (n < -2 || n > (ssize_t)size || (n >= 0 && strlen(out) != (size_t)n))
        fail("http_query() returned no length", 0);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct result whole[MAX_REQUESTS], pieces[MAX_REQUESTS], bytes[MAX_REQUESTS];
    static const uint8_t ones[1 << 16];
    size_t n_cuts = size > 0 ? data[0] % (MAX_CUTS + 1U) : 0;

    if (size < 1 + n_cuts || size > sizeof(ones))
        return 0;
    const char *stream = (const char *)data + 1 + n_cuts;
    size_t len = size - 1 - n_cuts;
    char *exact = malloc(len ? len : 1);
    memcpy(exact, stream, len);
    memset(whole, 0, sizeof(whole));
    memset(pieces, 0, sizeof(pieces));
    memset(bytes, 0, sizeof(bytes));

    size_t n = run(exact, len, NULL, 0, whole);
    if (run(exact, len, data + 1, n_cuts, pieces) != n || !same(whole, pieces, n))
        fail("in pieces it comes to something else", n);
    if (len <= 512 && (run(exact, len, ones, len, bytes) != n || !same(whole, bytes, n)))
        fail("byte by byte it comes to something else", n);
    check_helpers(exact, len);
    free(exact);
    return 0;
}
