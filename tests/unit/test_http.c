/* test_http.c - what the parser of requests accepts, what it refuses, and with which status.
 * Does not: compare with other parsers (test_http_oracle.c), know connections. */
#include "http/http.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum {
    ROOM = 65536,       /* longest input of a case */
    MAX_BODY = 1 << 20, /* where a case does not name its own */
    VERDICT = 4 * ROOM + 1024,
};

/* One page that may not be touched lies on either side of the room for input. */
static char *room;

static void make_room(void)
{
    size_t page = 65536; /* a multiple of every page size in use */
    char *map =
        mmap(NULL, ROOM + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(map, MAP_FAILED);
    room = map + page;
    ck_assert_int_eq(mprotect(room, ROOM, PROT_READ | PROT_WRITE), 0);
}

/* ---- What a parse came to, as one line of text: easy to compare, easy to read. ---- */

static size_t put_escaped(char *out, struct slice s)
{
    char *start = out;

    *out++ = '[';
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.base[i];

        if (c < 0x20 || c >= 0x7f || c == '\\')
            out += sprintf(out, "\\%02x", c);
        else
            *out++ = (char)c;
    }
    *out++ = ']';
    *out = '\0';
    return (size_t)(out - start);
}

static void put_accepted(char *out, const struct request *req, struct slice rest)
{
    out += sprintf(out, "%s 1.%d %s path ", http_method_name(req->method), req->minor,
                   req->keep_alive ? "keep" : "close");
    out += put_escaped(out, req->path);
    out += sprintf(out, " query ");
    out += put_escaped(out, req->query);
    out += sprintf(out, " type ");
    out += put_escaped(out, req->type);
    out += sprintf(out, " body ");
    out += put_escaped(out, req->body);
    out += sprintf(out, " rest ");
    put_escaped(out, rest);
}

static const char *shown(struct slice input)
{
    static char text[VERDICT];

    if (input.len > 300)
        input.len = 300;
    put_escaped(text, input);
    return text;
}

/* As ck_assert_msg(), which writes to Check's parent process at each success, too. */
#define CHECK(condition, ...)                                                            \
    do {                                                                                 \
        if (!(condition))                                                                \
            ck_abort_msg(__VA_ARGS__);                                                   \
    } while (0)

/* ---- The caller of http_parse(), as conn.c is one. ---- */

enum place { AT_END, AT_START }; /* of the room: next to which guard page the bytes lie */

/* How input arrives: `first` bytes, then `step` bytes at a time. */
struct arrival {
    size_t first;
    size_t step;
    enum place place;
};

static const struct arrival whole = { ROOM, ROOM, AT_END };

static void parse(struct slice in, struct arrival how, size_t max_body, char *verdict)
{
    static char rest[ROOM];
    struct http_parser p = { 0 };
    struct request req = { 0 };
    char *bytes = room;
    size_t len = 0, fed = 0;
    ssize_t n = 0;

    while (n == 0 && fed < in.len) {
        size_t piece = fed == 0 ? how.first : how.step;

        if (piece > in.len - fed)
            piece = in.len - fed;
        char *to = how.place == AT_END ? room + ROOM - len - piece : room;
        memmove(to, bytes, len);
        memcpy(to + len, in.base + fed, piece);
        bytes = to;
        len += piece;
        fed += piece;
        size_t before = len;
        n = http_parse(&p, bytes, &len, max_body ? max_body : MAX_BODY, &req);
        CHECK(len <= before, "*len grew from %zu to %zu: %s", before, len, shown(in));
    }
    if (n == 0) {
        strcpy(verdict, "incomplete");
    } else if (n < 0) {
        CHECK(p.why != NULL && p.why[0], "refused without a why: %s", shown(in));
        sprintf(verdict, "%d", (int)-n);
    } else {
        CHECK((size_t)n <= len, "took %zd of %zu bytes: %s", n, len, shown(in));
        size_t kept = len - (size_t)n;
        memcpy(rest, bytes + n, kept);
        memcpy(rest + kept, in.base + fed, in.len - fed);
        put_accepted(verdict, &req, (struct slice){ rest, kept + in.len - fed });
    }
}

/* However the input is cut, what comes of it is the same; and nothing of that depends on
 * bytes behind the end, which are not there to be read. */
static void check_every_cut(const char *name, struct slice in, size_t max_body,
                            const char *expected)
{
    static char got[VERDICT];
    /* Long inputs are cut near both ends and here and there. */
    size_t stride = in.len < 3000 ? 1 : 211;

    for (size_t cut = 1; cut < in.len;
         cut += cut < 100 || cut + 100 > in.len ? 1 : stride) {
        parse(in, (struct arrival){ cut, ROOM, AT_END }, max_body, got);
        CHECK(strcmp(got, expected) == 0,
              "%s, cut behind byte %zu: expected %.400s, got %.400s, of %s", name, cut,
              expected, got, shown(in));
    }
    /* A line is looked at anew with each byte of it, so long ones come in larger
     * pieces. */
    for (size_t step = stride; step < 4 * stride; step += stride) {
        parse(in, (struct arrival){ step, step, AT_START }, max_body, got);
        CHECK(strcmp(got, expected) == 0,
              "%s, %zu bytes at a time: expected %.400s, got %.400s, of %s", name, step,
              expected, got, shown(in));
    }
}

#define BYTES(literal)     .input = literal, .len = sizeof(literal) - 1
#define HOST               "Host: a\r\n"
#define GET(fields)        BYTES("GET / HTTP/1.1\r\n" HOST fields "\r\n")
#define GET10(fields)      BYTES("GET / HTTP/1.0\r\n" fields "\r\n")
#define TARGET(target)     BYTES("GET " target " HTTP/1.1\r\n" HOST "\r\n")
#define HOSTED(value)      BYTES("GET / HTTP/1.1\r\nHost:" value "\r\n\r\n")
#define POST(fields, body) BYTES("POST / HTTP/1.1\r\n" HOST fields "\r\n" body)
#define CHUNKED(body)      POST("Transfer-Encoding: chunked\r\n", body)
#define NEXT               "GET /next HTTP/1.1\r\nHost: b\r\n\r\n"

/* ---- Accepted ---- */

/* What is not named is GET, HTTP/1.1, "/", keep-alive, and nothing. */
static const struct accepted {
    const char *name;
    const char *input;
    size_t len;
    enum http_method method;
    bool minor0, closes;
    const char *path, *query, *type, *body, *rest;
    size_t max_body;
} accepted[] = {
    { "the smallest request", GET("") },
    { "HTTP/1.0 needs no Host", GET10(""), .minor0 = true, .closes = true },
    { "HTTP/1.0 with a Host", GET10(HOST), .minor0 = true, .closes = true },
    { "a higher minor version is a 1.1", BYTES("GET / HTTP/1.2\r\n" HOST "\r\n") },
    { "minor version 9 too", BYTES("GET / HTTP/1.9\r\n" HOST "\r\n") },

    /* RFC 9112 section 9.3 */
    { "1.1 with close", GET("Connection: close\r\n"), .closes = true },
    { "1.1 with Close", GET("Connection: Close\r\n"), .closes = true },
    { "1.1, name in capitals", GET("CONNECTION: CLOSE\r\n"), .closes = true },
    { "1.1 with keep-alive", GET("Connection: keep-alive\r\n") },
    { "1.1 with upgrade", GET("Connection: upgrade\r\n") },
    { "1.1, close at the end of a list", GET("Connection: te, close\r\n"),
      .closes = true },
    { "1.1, close at the head of a list", GET("Connection: close, te\r\n"),
      .closes = true },
    { "1.1, list without blanks", GET("Connection: te,close,x\r\n"), .closes = true },
    { "1.1, list with blanks", GET("Connection: te \t,\t close  \r\n"), .closes = true },
    { "1.1, list with empty elements", GET("Connection: ,, close,\r\n"), .closes = true },
    { "1.1, close beats keep-alive", GET("Connection: keep-alive, close\r\n"),
      .closes = true },
    { "1.1, close beats keep-alive behind it", GET("Connection: close, keep-alive\r\n"),
      .closes = true },
    { "1.1, close in the second field", GET("Connection: te\r\nConnection: close\r\n"),
      .closes = true },
    { "1.1, close in the first field", GET("Connection: close\r\nConnection: te\r\n"),
      .closes = true },
    { "1.1, an option that begins with close", GET("Connection: closed\r\n") },
    { "1.1, an option that ends with close", GET("Connection: x-close\r\n") },
    { "1.1, an empty Connection", GET("Connection:\r\n") },
    { "1.1, a field that ends with Connection", GET("X-Connection: close\r\n") },
    { "1.0 with keep-alive", GET10("Connection: keep-alive\r\n"), .minor0 = true },
    { "1.0 with Keep-Alive", GET10("connection: Keep-Alive\r\n"), .minor0 = true },
    { "1.0 with keep-alive in a list", GET10("Connection: te, keep-alive\r\n"),
      .minor0 = true },
    { "1.0 with keep-alive and close", GET10("Connection: keep-alive, close\r\n"),
      .minor0 = true, .closes = true },
    { "1.0 with keep-alives", GET10("Connection: keep-alives\r\n"), .minor0 = true,
      .closes = true },

    { "HEAD", BYTES("HEAD / HTTP/1.1\r\n" HOST "\r\n"), .method = HTTP_HEAD },
    { "POST without a body", POST("", ""), .method = HTTP_POST },
    { "PUT", BYTES("PUT / HTTP/1.1\r\n" HOST "\r\n"), .method = HTTP_PUT },
    { "DELETE", BYTES("DELETE / HTTP/1.1\r\n" HOST "\r\n"), .method = HTTP_DELETE },
    { "PATCH", BYTES("PATCH / HTTP/1.1\r\n" HOST "\r\n"), .method = HTTP_PATCH },
    { "TRACE", BYTES("TRACE / HTTP/1.1\r\n" HOST "\r\n"), .method = HTTP_TRACE },
    { "OPTIONS", BYTES("OPTIONS / HTTP/1.1\r\n" HOST "\r\n"), .method = HTTP_OPTIONS },
    { "OPTIONS *", BYTES("OPTIONS * HTTP/1.1\r\n" HOST "\r\n"), .method = HTTP_OPTIONS,
      .path = "*" },

    /* RFC 9112 section 3.2 */
    { "a path", TARGET("/a/b.c"), .path = "/a/b.c" },
    { "every character a path may hold", TARGET("/-._~!$&'()*+,;=:@azAZ09%20%Ff"),
      .path = "/-._~!$&'()*+,;=:@azAZ09%20%Ff" },
    { "two slashes are a path", TARGET("//a/b"), .path = "//a/b" },
    { "dots stay as they were sent", TARGET("/a/../b/."), .path = "/a/../b/." },
    { "a query", TARGET("/a?b=c&d"), .path = "/a", .query = "b=c&d" },
    { "an empty query", TARGET("/a?"), .path = "/a" },
    { "a query with ? and /", TARGET("/?a?b/c"), .query = "a?b/c" },
    { "absolute-form", TARGET("http://host/path"), .path = "/path" },
    { "absolute-form with a query", TARGET("http://host/p?q=1"), .path = "/p",
      .query = "q=1" },
    { "absolute-form with a port", TARGET("http://host:8080/p"), .path = "/p" },
    { "absolute-form, scheme in capitals", TARGET("HTTP://host/p"), .path = "/p" },
    { "absolute-form, IPv6", TARGET("http://[::1]:80/p"), .path = "/p" },
    { "absolute-form without a path", TARGET("http://host"), .path = "/" },
    { "absolute-form, query without a path", TARGET("http://host?x"), .path = "/",
      .query = "x" },
    { "absolute-form in 1.0", BYTES("GET http://host/p HTTP/1.0\r\n\r\n"), .minor0 = true,
      .closes = true, .path = "/p" },

    /* RFC 9112 section 2.2 */
    { "an empty line before the request", BYTES("\r\nGET / HTTP/1.1\r\n" HOST "\r\n") },
    { "two of them", BYTES("\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n") },

    /* RFC 9112 section 5, RFC 9110 section 5.5 */
    { "Content-Type", GET("Content-Type: text/plain\r\n"), .type = "text/plain" },
    { "Content-Type, other case", GET("cOnTeNt-tYpE: a/b; c=d\r\n"), .type = "a/b; c=d" },
    { "no blank behind the colon", GET("Content-Type:a/b\r\n"), .type = "a/b" },
    { "blanks around a value are not part of it", GET("Content-Type: \t a/b \t \r\n"),
      .type = "a/b" },
    { "an empty value", GET("Content-Type:\r\n") },
    { "a value of blanks", GET("Content-Type: \t \r\n") },
    { "obs-text in a value", GET("Content-Type: a/\x80\xff\xc3\xa4\r\n"),
      .type = "a/\x80\xff\xc3\xa4" },
    { "a tab and a blank within a value", GET("X: a\tb c\r\n") },
    { "tabs all over a value", GET("Content-Type: a\tbcdefg\thijklmn\to\r\n"),
      .type = "a\tbcdefg\thijklmn\to" },
    { "0xff before what is nearly DEL", GET("Content-Type: ab\xff~cdef\xff\xff~\r\n"),
      .type = "ab\xff~cdef\xff\xff~" },
    { "every character a name may hold", GET("!#$%&'*+-.^_`|~09azAZ: x\r\n") },
    { "colons in a value", GET("X: a:b::c\r\n") },
    { "an unknown field", GET("X-Y: z\r\nX-Y: z\r\n") },

    /* RFC 9112 section 3.2, RFC 9110 section 7.2 */
    { "Host: a name", HOSTED(" www.example.org") },
    { "Host: without a blank", HOSTED("a") },
    { "Host: a name and a port", HOSTED(" a:8080") },
    { "Host: the highest port", HOSTED(" a:65535") },
    { "Host: a name and an empty port", HOSTED(" a:") },
    { "Host: IPv4", HOSTED(" 1.2.3.4") },
    { "Host: IPv6 and a port", HOSTED(" [::1]:80") },
    { "Host: IPv6", HOSTED(" [::1]") },
    { "Host: IPv6 and an empty port", HOSTED(" [2001:db8::A]:") },
    { "Host: behind other fields", BYTES("GET / HTTP/1.1\r\nX: y\r\nhOST: a\r\n\r\n") },

    /* RFC 9112 section 6.2 */
    { "Content-Length", POST("Content-Length: 5\r\n", "hello"), .method = HTTP_POST,
      .body = "hello" },
    { "Content-Length 0", POST("Content-Length: 0\r\n", ""), .method = HTTP_POST },
    { "Content-Length with leading zeros", POST("Content-Length: 005\r\n", "hello"),
      .method = HTTP_POST, .body = "hello" },
    { "Content-Length with blanks around it", POST("Content-Length: \t5 \r\n", "hello"),
      .method = HTTP_POST, .body = "hello" },
    { "a body in a GET", BYTES("GET / HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi"),
      .body = "hi" },
    { "a body of exactly max_body", POST("Content-Length: 5\r\n", "hello"),
      .method = HTTP_POST, .body = "hello", .max_body = 5 },
    { "a body that looks like a request", POST("Content-Length: 5\r\n", "GET /"),
      .method = HTTP_POST, .body = "GET /" },
    { "a body in HTTP/1.0", BYTES("POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi"),
      .method = HTTP_POST, .minor0 = true, .closes = true, .body = "hi" },

    /* RFC 9112 section 7.1 */
    { "one chunk", CHUNKED("5\r\nhello\r\n0\r\n\r\n"), .method = HTTP_POST,
      .body = "hello" },
    { "three chunks", CHUNKED("1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n"),
      .method = HTTP_POST, .body = "abcdef" },
    { "no chunk but the last", CHUNKED("0\r\n\r\n"), .method = HTTP_POST },
    { "Chunked", POST("Transfer-Encoding: Chunked\r\n", "1\r\na\r\n0\r\n\r\n"),
      .method = HTTP_POST, .body = "a" },
    { "chunked with blanks around it",
      POST("transfer-encoding: \tchunked \r\n", "1\r\na\r\n0\r\n\r\n"),
      .method = HTTP_POST, .body = "a" },
    { "chunk size in lower case", CHUNKED("a\r\n0123456789\r\n0\r\n\r\n"),
      .method = HTTP_POST, .body = "0123456789" },
    { "chunk size in upper case", CHUNKED("A\r\n0123456789\r\n0\r\n\r\n"),
      .method = HTTP_POST, .body = "0123456789" },
    { "chunk size of two digits",
      CHUNKED("1f\r\n0123456789012345678901234567890\r\n0\r\n\r\n"), .method = HTTP_POST,
      .body = "0123456789012345678901234567890" },
    { "chunk size with leading zeros", CHUNKED("0000000000000005\r\nhello\r\n00\r\n\r\n"),
      .method = HTTP_POST, .body = "hello" },
    { "chunk data that looks like framing", CHUNKED("5\r\n\r\n0\r\n\r\n0\r\n\r\n"),
      .method = HTTP_POST, .body = "\r\n0\r\n" },
    { "chunk extensions", CHUNKED("5;a\r\nhello\r\n0;b=c;d=\"e; f\"\r\n\r\n"),
      .method = HTTP_POST, .body = "hello" },
    { "trailers", CHUNKED("5\r\nhello\r\n0\r\nX: y\r\nZ:\r\n\r\n"), .method = HTTP_POST,
      .body = "hello" },
    { "chunks of exactly max_body", CHUNKED("5\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n"),
      .method = HTTP_POST, .body = "helloabc", .max_body = 8 },

    /* RFC 9112 section 9.3.2: what follows is untouched */
    { "a request behind a request", BYTES("GET / HTTP/1.1\r\n" HOST "\r\n" NEXT),
      .rest = NEXT },
    { "half a request behind a request", BYTES("GET / HTTP/1.1\r\n" HOST "\r\nGET /ne"),
      .rest = "GET /ne" },
    { "a request behind a body", POST("Content-Length: 5\r\n", "hello" NEXT),
      .method = HTTP_POST, .body = "hello", .rest = NEXT },
    { "a request behind chunks", CHUNKED("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n" NEXT),
      .method = HTTP_POST, .body = "hello", .rest = NEXT },
    { "a request behind trailers", CHUNKED("2\r\nhe\r\n0\r\nX: y\r\n\r\n" NEXT),
      .method = HTTP_POST, .body = "he", .rest = NEXT },
    { "a request behind Content-Length 0", POST("Content-Length: 0\r\n", NEXT),
      .method = HTTP_POST, .rest = NEXT },
    { "bytes behind a request without a length are not its body", POST("", "hello"),
      .method = HTTP_POST, .rest = "hello" },
    { "an empty line behind a body belongs to the next",
      POST("Content-Length: 2\r\n", "hi\r\n"), .method = HTTP_POST, .body = "hi",
      .rest = "\r\n" },
};

/* ---- Refused ---- */

static const struct refused {
    const char *name;
    int status;
    const char *input;
    size_t len;
    size_t max_body;
} refused[] = {
    /* RFC 9112 section 3: request-line = method SP request-target SP HTTP-version */
    { "two blanks before the target", 400, BYTES("GET  / HTTP/1.1\r\n" HOST "\r\n") },
    { "two blanks before the version", 400, BYTES("GET /  HTTP/1.1\r\n" HOST "\r\n") },
    { "a tab for a blank", 400, BYTES("GET\t/ HTTP/1.1\r\n" HOST "\r\n") },
    { "a tab before the version", 400, BYTES("GET /\tHTTP/1.1\r\n" HOST "\r\n") },
    { "a blank before the method", 400, BYTES(" GET / HTTP/1.1\r\n" HOST "\r\n") },
    { "a blank behind the version", 400, BYTES("GET / HTTP/1.1 \r\n" HOST "\r\n") },
    { "a word behind the version", 400, BYTES("GET / HTTP/1.1 x\r\n" HOST "\r\n") },
    { "no version", 400, BYTES("GET /\r\n" HOST "\r\n") },
    { "no version but its blank", 400, BYTES("GET / \r\n" HOST "\r\n") },
    { "no target", 400, BYTES("GET HTTP/1.1\r\n" HOST "\r\n") },
    { "no method", 400, BYTES("/ HTTP/1.1\r\n" HOST "\r\n") },
    { "one word", 400, BYTES("GET\r\n" HOST "\r\n") },
    { "a name in lower case", 400, BYTES("GET / http/1.1\r\n" HOST "\r\n") },
    { "another protocol", 400, BYTES("GET / HTTQ/1.1\r\n" HOST "\r\n") },
    { "a version of one digit", 400, BYTES("GET / HTTP/1\r\n" HOST "\r\n") },
    { "a version without a dot", 400, BYTES("GET / HTTP/11\r\n" HOST "\r\n") },
    { "a version without a minor", 400, BYTES("GET / HTTP/1.\r\n" HOST "\r\n") },
    { "a minor of two digits", 400, BYTES("GET / HTTP/1.10\r\n" HOST "\r\n") },
    { "a version of letters", 400, BYTES("GET / HTTP/x.y\r\n" HOST "\r\n") },
    { "a TLS hello", 400, BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n") },
    { "a delimiter in the method", 400, BYTES("GE(T / HTTP/1.1\r\n" HOST "\r\n") },
    { "obs-text in the method", 400, BYTES("G\xc3T / HTTP/1.1\r\n" HOST "\r\n") },
    { "NUL in the method", 400, BYTES("GE\0T / HTTP/1.1\r\n" HOST "\r\n") },

    /* RFC 9112 section 2.2: a line ends with CRLF */
    { "LF behind the request line", 400, BYTES("GET / HTTP/1.1\n" HOST "\r\n") },
    { "LF behind a field", 400, BYTES("GET / HTTP/1.1\r\nHost: a\n\r\n") },
    { "LF for the empty line", 400, BYTES("GET / HTTP/1.1\r\n" HOST "\n") },
    { "LF everywhere", 400, BYTES("GET / HTTP/1.1\nHost: a\n\n") },
    { "LF before the request", 400, BYTES("\nGET / HTTP/1.1\r\n" HOST "\r\n") },
    { "CR before the request", 400, BYTES("\rGET / HTTP/1.1\r\n" HOST "\r\n") },
    { "CR CR LF before the request", 400, BYTES("\r\r\nGET / HTTP/1.1\r\n" HOST "\r\n") },
    { "CR in the request line", 400, BYTES("GET /a\rb HTTP/1.1\r\n" HOST "\r\n") },
    { "CR for a line end", 400, BYTES("GET / HTTP/1.1\rHost: a\r\r") },
    { "CR CR LF behind the request line", 400,
      BYTES("GET / HTTP/1.1\r\r\n" HOST "\r\n") },
    { "CR in a value", 400, GET("X: a\rb\r\n") },
    { "CR CR LF behind a value", 400, GET("X: a\r\r\n") },
    { "CR for the empty line", 400, BYTES("GET / HTTP/1.1\r\n" HOST "\rX: y\r\n\r\n") },

    /* RFC 9112 section 3.2 */
    { "a target without a slash", 400, TARGET("index.html") },
    { "a double quote in the target", 400, TARGET("/\"") },
    { "< in the target", 400, TARGET("/<") },
    { "> in the target", 400, TARGET("/>") },
    { "a backslash in the target", 400, TARGET("/a\\b") },
    { "^ in the target", 400, TARGET("/^") },
    { "` in the target", 400, TARGET("/`") },
    { "{ in the target", 400, TARGET("/{") },
    { "| in the target", 400, TARGET("/|") },
    { "} in the target", 400, TARGET("/}") },
    { "a fragment", 400, TARGET("/#top") },
    { "a fragment behind a query", 400, TARGET("/?q#top") },
    { "a double quote in the query", 400, TARGET("/?a=\"b\"") },
    { "non-ASCII in the path", 400, TARGET("/\xc3\xa4") },
    { "non-ASCII in the query", 400, TARGET("/?\xff") },
    { "NUL in the target", 400, TARGET("/a\0b") },
    { "a control character in the target", 400, TARGET("/a\x01") },
    { "DEL in the target", 400, TARGET("/a\x7f") },
    { "a blank in the target", 400, TARGET("/a b") },
    { "a percent sign alone", 400, TARGET("/%") },
    { "one hexadecimal digit", 400, TARGET("/%4") },
    { "one digit, then more", 400, TARGET("/%4/b") },
    { "not hexadecimal", 400, TARGET("/%zz") },
    { "not hexadecimal, second digit", 400, TARGET("/%4g") },
    { "a bad percent-escape in the query", 400, TARGET("/?a=%2") },
    { "userinfo", 400, TARGET("http://user@host/") },
    { "userinfo with a password", 400, TARGET("http://user:secret@host/") },
    { "empty userinfo", 400, TARGET("http://@host/") },
    { "absolute-form without a host", 400, TARGET("http:///path") },
    { "absolute-form, a port but no host", 400, TARGET("http://:80/") },
    { "absolute-form, a port of letters", 400, TARGET("http://host:x/") },
    { "absolute-form, bracket not closed", 400, TARGET("http://[::1/") },
    { "absolute-form, fragment", 400, TARGET("http://host#top") },
    { "absolute-form, one slash", 400, TARGET("http:/host/") },
    { "absolute-form, control characters for slashes", 400,
      TARGET("http:\x0f\x0fhost/") },
    { "absolute-form, a control character for the colon", 400,
      TARGET("http\x1a//host/") },
    { "absolute-form with neither", 400, TARGET("http:host") },
    { "another scheme", 400, TARGET("ftp://host/") },
    /* RFC 9110 section 7.4 */
    { "https without TLS", 421, TARGET("https://host/") },
    { "https without TLS, capitals and a port", 421, TARGET("HTTPS://host:443/p?q") },
    { "https without TLS or a path", 421, TARGET("https://host") },
    { "https without TLS in 1.0", 421, BYTES("GET https://host/ HTTP/1.0\r\n\r\n") },
    { "https without TLS and without a host", 400, TARGET("https:///path") },
    { "https without TLS and with userinfo", 400, TARGET("https://user@host/") },
    { "authority-form with GET", 400, TARGET("host:80") },
    { "* with GET", 400, TARGET("*") },
    { "* and more with OPTIONS", 400, BYTES("OPTIONS *a HTTP/1.1\r\n" HOST "\r\n") },

    /* RFC 9112 section 5 */
    { "a blank before the colon", 400, GET("X : y\r\n") },
    { "a tab before the colon", 400, GET("X\t: y\r\n") },
    { "a blank before Content-Length's colon", 400,
      POST("Content-Length : 5\r\n", "hello") },
    { "no name", 400, GET(": y\r\n") },
    { "no colon", 400, GET("X\r\n") },
    { "no colon but a value", 400, GET("X y\r\n") },
    { "a field folded with a blank", 400, GET("X: y\r\n z\r\n") },
    { "a field folded with a tab", 400, GET("X: y\r\n\tz\r\n") },
    { "a field folded to nothing", 400, GET("X: y\r\n \r\n") },
    { "Transfer-Encoding folded", 400,
      POST("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n") },
    { "a blank before the first field", 400, BYTES("GET / HTTP/1.1\r\n " HOST "\r\n") },
    { "a tab before the first field", 400,
      BYTES("GET / HTTP/1.1\r\n\tX: y\r\n" HOST "\r\n") },
    { "a delimiter in a name", 400, GET("X(Y: z\r\n") },
    { "@ in a name", 400, GET("X@Y: z\r\n") },
    { "a slash in a name", 400, GET("X/Y: z\r\n") },
    { "a blank in a name", 400, GET("X Y: z\r\n") },
    { "obs-text in a name", 400, GET("X\xc3: z\r\n") },
    { "NUL in a name", 400, GET("X\0Y: z\r\n") },
    { "DEL in a name", 400, GET("X\x7f: z\r\n") },
    { "NUL in a value", 400, GET("X: a\0b\r\n") },
    { "a control character in a value", 400, GET("X: a\x01\r\n") },
    { "ESC in a value", 400, GET("X: \x1b[0m\r\n") },
    { "vertical tab before a value", 400, GET("X: \vy\r\n") },
    { "vertical tab before chunked", 400,
      POST("Transfer-Encoding: \vchunked\r\n", "0\r\n\r\n") },
    { "DEL in a value", 400, GET("X: a\x7f\r\n") },
    { "DEL behind 0xff", 400,
      GET("X: abc\xff\x7f"
          "defgh\r\n") },
    { "NUL behind a tab, in the same word", 400, GET("X: a\tbc\0defghi\r\n") },
    { "a control character at the end of a word", 400, GET("X: abcdefg\x1fhijk\r\n") },

    /* RFC 9112 section 3.2, RFC 9110 section 7.2 */
    { "1.1 without a Host", 400, BYTES("GET / HTTP/1.1\r\n\r\n") },
    { "1.1 without a Host, absolute-form", 400, BYTES("GET http://a/ HTTP/1.1\r\n\r\n") },
    { "1.2 without a Host", 400, BYTES("GET / HTTP/1.2\r\n\r\n") },
    { "two Hosts", 400, GET("Host: b\r\n") },
    { "two Hosts, the same", 400, GET(HOST) },
    { "two Hosts in 1.0", 400, GET10(HOST HOST) },
    { "an empty Host", 400, HOSTED("") },
    { "a Host of blanks", 400, HOSTED(" \t ") },
    { "Host: blank within", 400, HOSTED(" a b") },
    { "Host: tab within", 400, HOSTED(" a\tb") },
    { "Host: slash", 400, HOSTED(" a/b") },
    { "Host: a URL", 400, HOSTED(" http://a") },
    { "Host: userinfo", 400, HOSTED(" u@a") },
    { "Host: question mark", 400, HOSTED(" a?b") },
    { "Host: number sign", 400, HOSTED(" a#b") },
    { "Host: backslash", 400, HOSTED(" a\\b") },
    { "Host: double quote", 400, HOSTED(" \"a\"") },
    { "Host: obs-text", 400, HOSTED(" \xc3\xa4") },
    { "Host: port of letters", 400, HOSTED(" a:b") },
    { "Host: port of digits and letters", 400, HOSTED(" a:80x") },
    { "Host: negative port", 400, HOSTED(" a:-1") },
    { "Host: no such port", 400, HOSTED(" a:65536") },
    { "Host: two ports", 400, HOSTED(" a:80:80") },
    { "Host: a port alone", 400, HOSTED(" :80") },
    { "Host: bracket not closed", 400, HOSTED(" [::1") },
    { "Host: bracket not opened", 400, HOSTED(" ::1]") },
    { "Host: IPv6 without brackets", 400, HOSTED(" ::1") },
    { "Host: letters behind the bracket", 400, HOSTED(" [::1]x") },
    { "Host: bad port behind the bracket", 400, HOSTED(" [::1]:x") },
    { "Host: empty brackets", 400, HOSTED(" []") },
    { "Host: IPv6 with too few groups", 400, HOSTED(" [:1]") },
    { "Host: nothing but colons", 400, HOSTED(" [:::::]") },
    { "Host: IPv4 in brackets", 400, HOSTED(" [127.0.0.1]") },
    { "Host: bracket within", 400, HOSTED(" a[b]") },
    { "an invalid Host in 1.0", 400, GET10("Host: a/b\r\n") },

    /* RFC 9112 sections 6.1 and 6.3: framing, where smuggling lives */
    { "Content-Length, then Transfer-Encoding", 400,
      POST("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n") },
    { "Transfer-Encoding, then Content-Length", 400,
      POST("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n") },
    { "Transfer-Encoding, then Content-Length 0", 400,
      POST("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "0\r\n\r\n") },
    { "two Content-Lengths", 400,
      POST("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!") },
    { "two Content-Lengths, the same", 400,
      POST("Content-Length: 5\r\nContent-Length: 5\r\n", "hello") },
    { "two Content-Lengths of 0", 400,
      POST("Content-Length: 0\r\nContent-Length: 0\r\n", "") },
    { "two Content-Lengths, apart", 400,
      POST("Content-Length: 5\r\nX: y\r\ncontent-length: 5\r\n", "hello") },
    { "Content-Length 5, 5", 400, POST("Content-Length: 5, 5\r\n", "hello") },
    { "Content-Length 5,5", 400, POST("Content-Length: 5,5\r\n", "hello") },
    { "Content-Length 5,", 400, POST("Content-Length: 5,\r\n", "hello") },
    { "Content-Length +5", 400, POST("Content-Length: +5\r\n", "hello") },
    { "Content-Length -1", 400, POST("Content-Length: -1\r\n", "hello") },
    { "Content-Length -0", 400, POST("Content-Length: -0\r\n", "") },
    { "Content-Length 0x5", 400, POST("Content-Length: 0x5\r\n", "hello") },
    { "Content-Length 5 5", 400, POST("Content-Length: 5 5\r\n", "hello") },
    { "Content-Length 5.0", 400, POST("Content-Length: 5.0\r\n", "hello") },
    { "Content-Length 5e0", 400, POST("Content-Length: 5e0\r\n", "hello") },
    { "Content-Length of letters", 400, POST("Content-Length: five\r\n", "hello") },
    { "Content-Length with an obs-text digit", 400,
      POST("Content-Length: \xb2\r\n", "he") },
    { "an empty Content-Length", 400, POST("Content-Length:\r\n", "") },
    { "Content-Length of blanks", 400, POST("Content-Length: \t \r\n", "") },
    { "Content-Length of 2^64", 400,
      POST("Content-Length: 18446744073709551616\r\n", "") },
    { "Content-Length of 2^64 + 5", 400,
      POST("Content-Length: 18446744073709551621\r\n", "hello") },
    { "Content-Length of 30 digits", 400,
      POST("Content-Length: 100000000000000000000000000005\r\n", "hello") },
    { "Content-Length of 2^64 - 1", 413,
      POST("Content-Length: 18446744073709551615\r\n", "") },
    { "Content-Length of 2^63", 413,
      POST("Content-Length: 9223372036854775808\r\n", "") },
    { "Content-Length of 2^32 + 5", 413,
      POST("Content-Length: 4294967301\r\n", "hello") },
    { "Content-Length over max_body", 413, POST("Content-Length: 6\r\n", "hello!"),
      .max_body = 5 },

    { "chunked in HTTP/1.0", 400,
      BYTES("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") },
    { "gzip in HTTP/1.0", 400,
      BYTES("POST / HTTP/1.0\r\nTransfer-Encoding: gzip\r\n\r\n") },
    { "gzip, chunked", 501, POST("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n") },
    { "chunked, gzip", 400, POST("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n") },
    { "gzip", 400, POST("Transfer-Encoding: gzip\r\n", "0\r\n\r\n") },
    { "identity", 400, POST("Transfer-Encoding: identity\r\n", "hello") },
    { "chunked, identity", 400,
      POST("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n") },
    { "chunked, chunked", 400,
      POST("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n") },
    { "chunked in two fields", 400,
      POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n") },
    { "chunked, then identity in another field", 400,
      POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
           "0\r\n\r\n") },
    { ", chunked", 400, POST("Transfer-Encoding: , chunked\r\n", "0\r\n\r\n") },
    { "chunked,", 400, POST("Transfer-Encoding: chunked,\r\n", "0\r\n\r\n") },
    { "chunked;q=1", 400, POST("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n") },
    { "xchunked", 400, POST("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n") },
    { "chunked with a quote", 400,
      POST("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n") },
    { "chunke", 400, POST("Transfer-Encoding: chunke\r\n", "0\r\n\r\n") },
    { "chunked behind a blank, not a comma", 400,
      POST("Transfer-Encoding: gzip chunked\r\n", "0\r\n\r\n") },
    { "an empty Transfer-Encoding", 400, POST("Transfer-Encoding:\r\n", "0\r\n\r\n") },

    /* RFC 9112 section 7.1 */
    { "no chunk size", 400, CHUNKED("\r\n0\r\n\r\n") },
    { "an extension but no chunk size", 400, CHUNKED(";a\r\nhello\r\n0\r\n\r\n") },
    { "a chunk size of letters", 400, CHUNKED("xyz\r\nhello\r\n0\r\n\r\n") },
    { "a chunk size with a letter", 400, CHUNKED("5g\r\nhello\r\n0\r\n\r\n") },
    { "a chunk size of 0x5", 400, CHUNKED("0x5\r\nhello\r\n0\r\n\r\n") },
    { "a chunk size of -1", 400, CHUNKED("-1\r\nhello\r\n0\r\n\r\n") },
    { "a chunk size of +5", 400, CHUNKED("+5\r\nhello\r\n0\r\n\r\n") },
    { "a blank before a chunk size", 400, CHUNKED(" 5\r\nhello\r\n0\r\n\r\n") },
    { "a blank behind a chunk size", 400, CHUNKED("5 \r\nhello\r\n0\r\n\r\n") },
    { "a tab behind a chunk size", 400, CHUNKED("5\t\r\nhello\r\n0\r\n\r\n") },
    { "a blank behind the last chunk's size", 400, CHUNKED("5\r\nhello\r\n0 \r\n\r\n") },
    { "a chunk size of 65 bits", 400,
      CHUNKED("10000000000000005\r\nhello\r\n0\r\n\r\n") },
    { "a chunk size of 68 bits", 400,
      CHUNKED("fffffffffffffffff\r\nhello\r\n0\r\n\r\n") },
    { "a chunk size of 17 digits", 400,
      CHUNKED("00000000000000005\r\nhello\r\n0\r\n\r\n") },
    { "a chunk size of 64 bits", 413, CHUNKED("ffffffffffffffff\r\nhello\r\n0\r\n\r\n") },
    { "a chunk size of 33 bits", 413, CHUNKED("100000005\r\nhello\r\n0\r\n\r\n") },
    { "sizes whose sum overflows", 413,
      CHUNKED("5\r\nhello\r\nfffffffffffffffe\r\nhello") },
    { "LF behind a chunk size", 400, CHUNKED("5\nhello\r\n0\r\n\r\n") },
    { "CR behind a chunk size", 400, CHUNKED("5\rhello\r\n0\r\n\r\n") },
    { "CR CR LF behind a chunk size", 400, CHUNKED("5\r\r\nhello\r\n0\r\n\r\n") },
    { "no CRLF behind chunk data", 400, CHUNKED("5\r\nhello0\r\n\r\n") },
    { "a longer chunk than its size", 400, CHUNKED("5\r\nhello!\r\n0\r\n\r\n") },
    { "a shorter chunk than its size", 400, CHUNKED("6\r\nhello\r\n0\r\n\r\n") },
    { "LF behind chunk data", 400, CHUNKED("5\r\nhello\n0\r\n\r\n") },
    { "CR behind chunk data", 400, CHUNKED("5\r\nhello\r0\r\n\r\n") },
    { "LF behind the last chunk", 400, CHUNKED("5\r\nhello\r\n0\n\r\n") },
    { "LF for the last line", 400, CHUNKED("5\r\nhello\r\n0\r\n\n") },
    { "CR and a letter for the last line", 400, CHUNKED("5\r\nhello\r\n0\r\n\rX") },
    { "NUL in a chunk size", 400, CHUNKED("5\0\r\nhello\r\n0\r\n\r\n") },
    { "LF in an extension", 400, CHUNKED("5;a\nhello\r\n0\r\n\r\n") },
    { "CR in an extension", 400, CHUNKED("5;a\rb\r\nhello\r\n0\r\n\r\n") },
    { "a control character in an extension", 400,
      CHUNKED("5;a\x01\r\nhello\r\n0\r\n\r\n") },
    { "NUL in an extension", 400, CHUNKED("5;a\0\r\nhello\r\n0\r\n\r\n") },
    { "DEL in an extension", 400, CHUNKED("5;a\x7f\r\nhello\r\n0\r\n\r\n") },
    { "LF in a quoted extension", 400, CHUNKED("5;a=\"\n\"\r\nhello\r\n0\r\n\r\n") },
    { "chunks over max_body", 413, CHUNKED("5\r\nhello\r\n4\r\nabcd\r\n0\r\n\r\n"),
      .max_body = 8 },
    { "the first chunk over max_body", 413, CHUNKED("9\r\nhelloabcd\r\n0\r\n\r\n"),
      .max_body = 8 },
    { "a trailer without a colon", 400, CHUNKED("0\r\nX\r\n\r\n") },
    { "a trailer with a blank before the colon", 400, CHUNKED("0\r\nX : y\r\n\r\n") },
    { "a trailer without a name", 400, CHUNKED("0\r\n: y\r\n\r\n") },
    { "a folded trailer", 400, CHUNKED("0\r\nX: y\r\n z\r\n\r\n") },
    { "a trailer with LF", 400, CHUNKED("0\r\nX: y\n\r\n") },
    { "a trailer with NUL", 400, CHUNKED("0\r\nX: \0\r\n\r\n") },

    /* RFC 9110 sections 15.6.2, 15.6.6 and 10.1.1 */
    { "an unknown method", 501, BYTES("BREW / HTTP/1.1\r\n" HOST "\r\n") },
    { "CONNECT", 501, BYTES("CONNECT a:80 HTTP/1.1\r\n" HOST "\r\n") },
    { "methods are case-sensitive", 501, BYTES("get / HTTP/1.1\r\n" HOST "\r\n") },
    { "a known method and more", 501, BYTES("GETX / HTTP/1.1\r\n" HOST "\r\n") },
    { "less than a known method", 501, BYTES("GE / HTTP/1.1\r\n" HOST "\r\n") },
    { "every character a method may hold", 501,
      BYTES("!#$%&'*+-.^_`|~09azAZ / HTTP/1.1\r\n" HOST "\r\n") },
    { "HTTP/2.0", 505, BYTES("GET / HTTP/2.0\r\n" HOST "\r\n") },
    { "HTTP/2.0 preface", 505, BYTES("GET / HTTP/2.0\r\n\r\nSM\r\n\r\n") },
    { "HTTP/0.9", 505, BYTES("GET / HTTP/0.9\r\n" HOST "\r\n") },
    { "HTTP/3.0", 505, BYTES("GET / HTTP/3.0\r\n" HOST "\r\n") },
    { "HTTP/9.9", 505, BYTES("GET / HTTP/9.9\r\n" HOST "\r\n") },
    { "another expectation", 417, POST("Expect: 200-ok\r\nContent-Length: 1\r\n", "a") },
    { "an expectation and 100-continue", 417,
      POST("Expect: 100-continue, x\r\nContent-Length: 1\r\n", "a") },
    { "an expectation that begins alike", 417,
      POST("Expect: 100-continued\r\nContent-Length: 1\r\n", "a") },
};

/* ---- Limits: input too long to be written down is head, `times` units, tail ---- */

#define LINE_HEAD    "GET /"
#define LINE_TAIL    " HTTP/1.1\r\n"
#define LINE_FIXED   (sizeof(LINE_HEAD LINE_TAIL) - 1)
#define FIELD_HEAD   "GET / HTTP/1.1\r\n" HOST "X: "
#define A30          "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define A300         A30 A30 A30 A30 A30 A30 A30 A30 A30 A30
#define CHUNKED_HEAD "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"

static const struct limit {
    const char *name;
    int status; /* 200: accepted */
    const char *head, *unit;
    size_t times;
    const char *tail;
} limits[] = {
    { "a request line of 8 KiB", 200, LINE_HEAD, "a", HTTP_MAX_LINE - LINE_FIXED,
      LINE_TAIL HOST "\r\n" },
    { "a request line of 8 KiB + 1", 414, LINE_HEAD, "a", HTTP_MAX_LINE + 1 - LINE_FIXED,
      LINE_TAIL HOST "\r\n" },
    { "a request line of 60 KiB", 414, LINE_HEAD, "a", 60 * 1024, LINE_TAIL HOST "\r\n" },
    { "a request line without an end", 414, LINE_HEAD, "a", 9000, "" },
    { "a query without an end", 414, "GET /?", "a=b&", 9000 / 4, "" },
    { "a head of 16 KiB", 200, FIELD_HEAD, "a",
      HTTP_MAX_HEAD - sizeof(FIELD_HEAD) + 1 - 4, "\r\n\r\n" },
    { "a head over 16 KiB", 431, FIELD_HEAD, "a", HTTP_MAX_HEAD - sizeof(FIELD_HEAD) + 1,
      "\r\n\r\n" },
    { "a field without an end", 431, FIELD_HEAD, "a", 17000, "" },
    { "a field name without an end", 431, "GET / HTTP/1.1\r\n" HOST, "a", 17000, "" },
    { "64 fields", 200, "GET / HTTP/1.1\r\n" HOST, "X: y\r\n", HTTP_MAX_FIELDS - 1,
      "\r\n" },
    { "65 fields", 431, "GET / HTTP/1.1\r\n" HOST, "X: y\r\n", HTTP_MAX_FIELDS, "\r\n" },
    { "300 fields", 431, "GET / HTTP/1.1\r\n" HOST, "X: y\r\n", 300, "\r\n" },
    { "62 trailers and 2 fields", 200, CHUNKED_HEAD "0\r\n", "X: y\r\n",
      HTTP_MAX_FIELDS - 2, "\r\n" },
    { "63 trailers and 2 fields", 431, CHUNKED_HEAD "0\r\n", "X: y\r\n",
      HTTP_MAX_FIELDS - 1, "\r\n" },
    { "trailers of nearly 16 KiB", 200, CHUNKED_HEAD "0\r\nX: ", "a", HTTP_MAX_HEAD - 100,
      "\r\n\r\n" },
    { "trailers over 16 KiB", 431, CHUNKED_HEAD "0\r\nX: ", "a", HTTP_MAX_HEAD + 100,
      "\r\n\r\n" },
    { "trailers over 16 KiB in many lines", 431, CHUNKED_HEAD "0\r\n",
      "X: " A300 A300 "\r\n", 28, "\r\n" },
    { "trailers of nearly 16 KiB in many lines", 200, CHUNKED_HEAD "0\r\n",
      "X: " A300 A300 "\r\n", 26, "\r\n" },
    { "a trailer without an end", 431, CHUNKED_HEAD "0\r\nX: ", "a", 17000, "" },
    { "an extension within the limit", 200, CHUNKED_HEAD "1;", "a",
      HTTP_MAX_CHUNK_EXTENSIONS - 64, "\r\na\r\n0\r\n\r\n" },
    { "an extension over the limit", 400, CHUNKED_HEAD "1;", "a",
      HTTP_MAX_CHUNK_EXTENSIONS + 1, "\r\na\r\n0\r\n\r\n" },
    { "an extension without an end", 400, CHUNKED_HEAD "1;", "a", 9000, "" },
    { "many extensions within the limit", 200, CHUNKED_HEAD, "1;a=b\r\nx\r\n", 800,
      "0\r\n\r\n" },
    { "many extensions over the limit", 400, CHUNKED_HEAD, "1;a=b\r\nx\r\n", 1100,
      "0\r\n\r\n" },
    { "a chunk size without an end", 400, CHUNKED_HEAD, "0", 17000, "" },
    { "a method without an end", 501, "", "A", 9000, "" },
    { "a method of 100 letters", 501, "", "A", 100, " / HTTP/1.1\r\n" HOST "\r\n" },
    { "a method of 300 letters", 501, "", "A", 300, " / HTTP/1.1\r\n" HOST "\r\n" },
    { "two hundred chunks", 200, CHUNKED_HEAD, "1\r\nx\r\n", 200, "0\r\n\r\n" },
    { "a Host of 300 letters", 200, "GET / HTTP/1.1\r\nHost: ", "a", 300, "\r\n\r\n" },
    { "a Connection of many options", 200,
      "GET / HTTP/1.1\r\n" HOST "Connection: ", "te, ", 2000, "x\r\n\r\n" },
    { "a long Content-Type", 200, "GET / HTTP/1.1\r\n" HOST "Content-Type: ", "ab", 4000,
      "\r\n\r\n" },
    { "a Content-Length of many zeros", 200,
      "POST / HTTP/1.1\r\n" HOST "Content-Length: ", "0", 300, "\r\n\r\n" },
};

static struct slice limit_input(const struct limit *l)
{
    static char input[ROOM];
    size_t unit = strlen(l->unit), head = strlen(l->head), tail = strlen(l->tail);
    size_t len = head + unit * l->times + tail;

    ck_assert_uint_le(len, ROOM);
    memcpy(input, l->head, head);
    for (size_t i = 0; i < l->times; i++)
        memcpy(input + head + i * unit, l->unit, unit);
    memcpy(input + len - tail, l->tail, tail);
    return (struct slice){ input, len };
}

static struct slice or_default(const char *text, const char *otherwise)
{
    if (text == NULL)
        text = otherwise;
    return (struct slice){ text, strlen(text) };
}

static const char *accepted_verdict(const struct accepted *c)
{
    static char verdict[VERDICT];
    struct request req = {
        .method = c->method ? c->method : HTTP_GET,
        .minor = c->minor0 ? 0 : 1,
        .keep_alive = !c->closes,
        .path = or_default(c->path, "/"),
        .query = or_default(c->query, ""),
        .type = or_default(c->type, ""),
        .body = or_default(c->body, ""),
    };

    put_accepted(verdict, &req, or_default(c->rest, ""));
    return verdict;
}

START_TEST(accepted_request)
{
    static char got[VERDICT];
    const struct accepted *c = &accepted[_i];
    struct slice in = { c->input, c->len };
    const char *expected = accepted_verdict(c);

    parse(in, whole, c->max_body, got);
    ck_assert_msg(strcmp(got, expected) == 0, "%s: expected %s, got %s, of %s", c->name,
                  expected, got, shown(in));
    check_every_cut(c->name, in, c->max_body, expected);

    /* A request of which bytes are missing is neither complete nor wrong. */
    size_t took = c->len - (c->rest ? strlen(c->rest) : 0);
    for (in.len = 1; in.len < took; in.len++) {
        parse(in, whole, c->max_body, got);
        CHECK(strcmp(got, "incomplete") == 0, "%s, %zu of %zu bytes: got %s, of %s",
              c->name, in.len, took, got, shown(in));
    }
}
END_TEST

START_TEST(refused_request)
{
    static char got[VERDICT];
    const struct refused *c = &refused[_i];
    struct slice in = { c->input, c->len };
    char expected[16];

    sprintf(expected, "%d", c->status);
    parse(in, whole, c->max_body, got);
    ck_assert_msg(strcmp(got, expected) == 0, "%s: expected %s, got %s, of %s", c->name,
                  expected, got, shown(in));
    check_every_cut(c->name, in, c->max_body, expected);
}
END_TEST

START_TEST(limited_request)
{
    static char got[VERDICT], expected[VERDICT];
    const struct limit *c = &limits[_i];
    struct slice in = limit_input(c);

    parse(in, whole, 0, expected);
    int status = expected[0] >= 'A' ? 200 : atoi(expected);
    ck_assert_msg(status == c->status, "%s: expected %d, got %.100s, of %s", c->name,
                  c->status, expected, shown(in));
    check_every_cut(c->name, in, 0, expected);

    /* And with something behind it, which must not change the verdict. */
    if (status != 200 && in.len < ROOM) {
        parse((struct slice){ in.base, in.len - 1 }, whole, 0, got);
        ck_assert_msg(strcmp(got, expected) == 0 || strcmp(got, "incomplete") == 0,
                      "%s, one byte less: expected %s, got %s", c->name, expected, got);
    }
}
END_TEST

/* What a client may put behind the body cannot change what was decided before it. */
START_TEST(trailers_change_nothing)
{
    static const char *const trailers[] = {
        "Content-Length: 3", "Transfer-Encoding: chunked", "Host: b",
        "Connection: close", "Content-Type: a/b",          "Expect: x",
    };
    static char input[512], got[VERDICT];

    for (size_t i = 0; i < sizeof(trailers) / sizeof(*trailers); i++) {
        struct request req = { .method = HTTP_POST,
                               .minor = 1,
                               .keep_alive = true,
                               .path = SLICE("/"),
                               .body = SLICE("hi") };
        static char expected[VERDICT];
        int len = snprintf(input, sizeof(input),
                           CHUNKED_HEAD "2\r\nhi\r\n0\r\n%s\r\n\r\n" NEXT, trailers[i]);

        put_accepted(expected, &req, SLICE(NEXT));
        parse((struct slice){ input, (size_t)len }, whole, 0, got);
        ck_assert_msg(strcmp(got, "400") == 0 || strcmp(got, expected) == 0,
                      "trailer %s: expected 400 or %s, got %s", trailers[i], expected,
                      got);
    }
}
END_TEST

/* One parser, one buffer, request after request: chunks leave no trace in the next
 * one. */
START_TEST(pipelined_requests)
{
    static const char input[] =
        "\r\nPOST /1 HTTP/1.1\r\n" HOST "Content-Type: a/b\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: u\r\n\r\n"
        "GET /2?q HTTP/1.0\r\n\r\n"
        "PUT /3 HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nxyz" NEXT;
    static const char *const expected[] = {
        "POST 1.1 keep path [/1] query [] type [a/b] body [abcde] rest []",
        "GET 1.0 close path [/2] query [q] type [] body [] rest []",
        "PUT 1.1 keep path [/3] query [] type [] body [xyz] rest []",
        "GET 1.1 keep path [/next] query [] type [] body [] rest []",
    };
    size_t count = sizeof(expected) / sizeof(*expected);

    for (size_t step = 1; step <= sizeof(input); step++) {
        static char bytes[sizeof(input)], got[VERDICT];
        struct http_parser p = { 0 };
        struct request req;
        size_t len = 0, fed = 0, seen = 0;

        while (seen < count) {
            ssize_t n = http_parse(&p, bytes, &len, MAX_BODY, &req);

            ck_assert_msg(n >= 0, "step %zu, request %zu: refused: %s", step, seen,
                          p.why);
            if (n > 0) {
                put_accepted(got, &req, SLICE(""));
                ck_assert_msg(strcmp(got, expected[seen]) == 0,
                              "step %zu, request %zu: expected %s, got %s", step, seen,
                              expected[seen], got);
                seen++;
                len -= (size_t)n;
                memmove(bytes, bytes + n, len);
                continue;
            }
            size_t piece = sizeof(input) - 1 - fed;
            ck_assert_msg(piece > 0, "step %zu: %zu requests, then no more", step, seen);
            if (piece > step)
                piece = step;
            memcpy(bytes + len, input + fed, piece);
            len += piece;
            fed += piece;
        }
        ck_assert_uint_eq(len, 0);
    }
}
END_TEST

/* RFC 9112 section 7.1: decoded chunks leave the buffer, so a caller with little room can
 * take a body whose framing is longer than its content. */
START_TEST(chunk_framing_is_squeezed_out)
{
    static const char head[] = CHUNKED_HEAD;
    static char bytes[sizeof(head) + 4096];
    struct http_parser p = { 0 };
    struct request req;
    size_t len = sizeof(head) - 1;

    memcpy(bytes, head, len);
    for (int i = 0; i < 1000; i++) {
        ck_assert_int_eq(http_parse(&p, bytes, &len, MAX_BODY, &req), 0);
        memcpy(bytes + len, "0001\r\nx\r\n", 9);
        len += 9;
    }
    ck_assert_int_eq(http_parse(&p, bytes, &len, MAX_BODY, &req), 0);
    ck_assert_msg(len < sizeof(head) + 1000 + 16, "1000 chunks of 1 byte keep %zu bytes",
                  len);
    memcpy(bytes + len, "0\r\n\r\n", 5);
    len += 5;
    ck_assert_int_gt(http_parse(&p, bytes, &len, MAX_BODY, &req), 0);
    ck_assert_uint_eq(req.body.len, 1000);
    for (size_t i = 0; i < req.body.len; i++)
        ck_assert_int_eq(req.body.base[i], 'x');
}
END_TEST

/* RFC 9110 section 10.1.1 */
static const struct continued {
    const char *name;
    bool wanted;
    const char *input;
    size_t len;
} continued[] = {
    { "head complete, body to come", true,
      POST("Expect: 100-continue\r\nContent-Length: 5\r\n", "") },
    { "chunked body to come", true,
      POST("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "") },
    { "in capitals", true, POST("EXPECT: 100-CONTINUE\r\nContent-Length: 5\r\n", "") },
    { "nothing expected", false, POST("Content-Length: 5\r\n", "") },
    { "HTTP/1.0", false,
      BYTES("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n") },
    { "head incomplete", false,
      BYTES("POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 5\r\n") },
    { "the body has begun", false,
      POST("Expect: 100-continue\r\nContent-Length: 5\r\n", "hell") },
    { "the chunked body has begun", false,
      POST("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "5\r\nhel") },
};

START_TEST(expect_continue)
{
    const struct continued *c = &continued[_i];
    struct http_parser p = { 0 };
    struct request req;
    char bytes[256];
    size_t len = c->len;

    memcpy(bytes, c->input, len);
    ssize_t n = http_parse(&p, bytes, &len, MAX_BODY, &req);
    ck_assert_msg(n == 0, "%s: expected 0, got %zd", c->name, n);
    bool wanted = http_wants_continue(&p);
    ck_assert_msg(wanted == c->wanted, "%s: expected %d, got %d", c->name, c->wanted,
                  wanted);
    ck_assert_msg(!http_wants_continue(&p), "%s: true twice", c->name);
    n = http_parse(&p, bytes, &len, MAX_BODY, &req);
    ck_assert_msg(n == 0 && !http_wants_continue(&p), "%s: true again after a parse",
                  c->name);
}
END_TEST

START_TEST(expect_continue_byte_by_byte)
{
    static const char input[] =
        "POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi";
    size_t head = sizeof(input) - 1 - 2;
    struct http_parser p = { 0 };
    struct request req;
    char bytes[sizeof(input)];

    for (size_t len = 1; len < sizeof(input) - 1; len++) {
        memcpy(bytes, input, len);
        ck_assert_int_eq(http_parse(&p, bytes, &len, MAX_BODY, &req), 0);
        bool wanted = http_wants_continue(&p);
        ck_assert_msg(wanted == (len == head), "after %zu of %zu bytes of head: %d", len,
                      head, wanted);
    }
}
END_TEST

/* The body is there already: the request is complete and there is nothing to wait for. */
START_TEST(expect_continue_too_late)
{
    static char bytes[] = "POST / HTTP/1.1\r\n" HOST
                          "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi" NEXT;
    struct http_parser p = { 0 };
    struct request req;
    size_t len = sizeof(bytes) - 1;
    ssize_t n = http_parse(&p, bytes, &len, MAX_BODY, &req);

    ck_assert_int_eq(n, (ssize_t)(sizeof(bytes) - sizeof(NEXT)));
    ck_assert(!http_wants_continue(&p));
    len = 0; /* and the next request does not inherit it */
    ck_assert_int_eq(http_parse(&p, bytes, &len, MAX_BODY, &req), 0);
    ck_assert(!http_wants_continue(&p));
}
END_TEST

/* ---- The application's helpers ---- */

START_TEST(slices)
{
    struct slice abc = SLICE("abc"), nothing = { NULL, 0 };
    char other[] = "abcd";

    ck_assert(slice_equal(abc, abc));
    ck_assert(slice_equal(abc, (struct slice){ other, 3 }));
    ck_assert(!slice_equal(abc, (struct slice){ other, 4 }));
    ck_assert(!slice_equal(abc, SLICE("abd")));
    ck_assert(!slice_equal(abc, SLICE("ABC")));
    ck_assert(slice_equal(SLICE("a\0b"), SLICE("a\0b")));
    ck_assert(!slice_equal(SLICE("a\0b"), SLICE("a\0c")));
    ck_assert(slice_equal(nothing, SLICE("")));
    ck_assert(!slice_equal(nothing, abc));
}
END_TEST

static const struct unescaped {
    const char *input;
    size_t len;
    bool plus;
    size_t cap;
    ssize_t result;
    const char *out;
} unescaped[] = {
    { BYTES(""), .cap = 8, .out = "" },
    { BYTES("abc"), .cap = 8, .result = 3, .out = "abc" },
    { BYTES("abc"), .cap = 3, .result = 3, .out = "abc" },
    { BYTES("abc"), .cap = 2, .result = -1 },
    { BYTES("a"), .cap = 0, .result = -1 },
    { BYTES("%41%6a%6A"), .cap = 8, .result = 3, .out = "Ajj" },
    { BYTES("%41%42"), .cap = 2, .result = 2, .out = "AB" },
    { BYTES("%41%42"), .cap = 1, .result = -1 },
    { BYTES("%2541"), .cap = 8, .result = 3, .out = "%41" },
    { BYTES("%ff%80"), .cap = 8, .result = 2, .out = "\xff\x80" },
    { BYTES("a+b"), .cap = 8, .result = 3, .out = "a+b" },
    { BYTES("a+b"), .plus = true, .cap = 8, .result = 3, .out = "a b" },
    { BYTES("a%2bb"), .plus = true, .cap = 8, .result = 3, .out = "a+b" },
    { BYTES("%2F%3f"), .cap = 8, .result = 2, .out = "/?" },
};

START_TEST(unescape)
{
    const struct unescaped *c = &unescaped[_i];
    char *in = room + ROOM - c->len, out[16];

    memcpy(in, c->input, c->len);
    memset(out, '#', sizeof(out));
    ssize_t n = http_unescape((struct slice){ in, c->len }, c->plus, out, c->cap);
    ck_assert_msg(n == c->result, "%s into %zu bytes: expected %zd, got %zd", c->input,
                  c->cap, c->result, n);
    ck_assert_msg(n < 0 || memcmp(out, c->out, (size_t)n) == 0,
                  "%s: expected %s, got %.*s", c->input, c->out, (int)n, out);
    for (size_t i = c->cap; i < sizeof(out); i++)
        ck_assert_msg(out[i] == '#', "%s: wrote byte %zu of %zu", c->input, i, c->cap);
}
END_TEST

/* %00 is a byte like any other here; http_query() is who refuses it. */
START_TEST(unescape_nul)
{
    char out[4];

    ck_assert_int_eq(http_unescape(SLICE("a%00b"), false, out, sizeof(out)), 3);
    ck_assert_mem_eq(out, "a\0b", 3);
}
END_TEST

/* The parser refuses these, so what they decode to is nobody's business; that no byte
 * behind them is read, and none behind `out` written, is. */
START_TEST(unescape_stays_inside)
{
    static const char *const bad[] = { "%", "%4", "a%", "a%4", "%%", "%zz", "%4z", "%z" };

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        for (size_t cap = 0; cap < 4; cap++) {
            size_t len = strlen(bad[i]);
            char *in = room + ROOM - len, out[8];

            memcpy(in, bad[i], len);
            memset(out, '#', sizeof(out));
            ssize_t n = http_unescape((struct slice){ in, len }, true, out, cap);
            ck_assert_msg(n <= (ssize_t)cap, "%s into %zu: got %zd", bad[i], cap, n);
            for (size_t j = cap; j < sizeof(out); j++)
                ck_assert_msg(out[j] == '#', "%s into %zu: wrote byte %zu", bad[i], cap,
                              j);
        }
}
END_TEST

static const struct queried {
    const char *query, *key;
    size_t cap;
    ssize_t result;
    const char *value;
} queried[] = {
    { "", "a", 8, -1, NULL },
    { "a=1", "a", 8, 1, "1" },
    { "a=1&b=2&c=3", "a", 8, 1, "1" },
    { "a=1&b=2&c=3", "b", 8, 1, "2" },
    { "a=1&b=2&c=3", "c", 8, 1, "3" },
    { "a=1&b=2", "c", 8, -1, NULL },
    { "a=", "a", 8, 0, "" },
    { "a=&b=2", "a", 8, 0, "" },
    { "ab=1", "a", 8, -1, NULL },
    { "ab=1", "b", 8, -1, NULL },
    { "ab=1&a=2", "a", 8, 1, "2" },
    { "ba=1&a=2", "a", 8, 1, "2" },
    { "A=1", "a", 8, -1, NULL },
    { "b=a=1", "a", 8, -1, NULL },
    { "b=a=1", "b", 8, 3, "a=1" },
    { "b=a", "a", 8, -1, NULL },
    { "&&a=1", "a", 8, 1, "1" },
    { "=1&a=2", "a", 8, 1, "2" },
    { "a=b+c", "a", 8, 3, "b c" },
    { "a=b%20c%2B", "a", 8, 4, "b c+" },
    { "a=b%26c=d&c=e", "c", 8, 1, "e" },
    { "a=1234567", "a", 8, 7, "1234567" },
    { "a=12345678", "a", 8, -2, NULL },
    { "a=%31%32%33", "a", 4, 3, "123" },
    { "a=1", "a", 1, -2, NULL },
    { "a=%00", "a", 8, -2, NULL },
    { "a=x%00y&b=1", "a", 8, -2, NULL },
    { "a=x%00y&b=1", "b", 8, 1, "1" },
};

START_TEST(query)
{
    const struct queried *c = &queried[_i];
    size_t len = strlen(c->query);
    char *in = room + ROOM - len, value[16];

    memcpy(in, c->query, len);
    memset(value, '#', sizeof(value));
    ssize_t n = http_query((struct slice){ in, len }, c->key, value, c->cap);
    ck_assert_msg(n == c->result, "%s of [%s]: expected %zd, got %zd", c->key, c->query,
                  c->result, n);
    if (n >= 0) {
        ck_assert_str_eq(value, c->value);
        ck_assert_uint_eq(strlen(value), (size_t)n);
    }
    for (size_t i = c->cap; i < sizeof(value); i++)
        ck_assert_msg(value[i] == '#', "%s: wrote byte %zu of %zu", c->query, i, c->cap);
}
END_TEST

START_TEST(methods)
{
    static const struct {
        enum http_method method;
        const char *name;
    } names[] = {
        { HTTP_GET, "GET" },     { HTTP_HEAD, "HEAD" },     { HTTP_POST, "POST" },
        { HTTP_PUT, "PUT" },     { HTTP_DELETE, "DELETE" }, { HTTP_OPTIONS, "OPTIONS" },
        { HTTP_PATCH, "PATCH" }, { HTTP_TRACE, "TRACE" },
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        ck_assert_str_eq(http_method_name(names[i].method), names[i].name);
}
END_TEST

/* ---- Responses ---- */

START_TEST(reasons)
{
    static const struct {
        int status;
        const char *reason; /* RFC 9110 section 15; 431: RFC 6585 section 5 */
    } known[] = {
        { 200, "OK" },
        { 400, "Bad Request" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 408, "Request Timeout" },
        { 413, "Content Too Large" },
        { 414, "URI Too Long" },
        { 417, "Expectation Failed" },
        { 421, "Misdirected Request" },
        { 431, "Request Header Fields Too Large" },
        { 501, "Not Implemented" },
        { 503, "Service Unavailable" },
        { 504, "Gateway Timeout" },
        { 505, "HTTP Version Not Supported" },
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
        struct slice got = http_reason(known[i].status);
        struct slice expected = or_default(known[i].reason, "");

        ck_assert_msg(slice_equal(got, expected), "%d: expected %s, got %.*s",
                      known[i].status, expected.base, (int)got.len, got.base);
    }
}
END_TEST

/* The line "NAME: ..." of a head; NULL if there is none; it must not be there twice. */
static const char *field(const char *head, const char *name)
{
    static char line[512];
    char start[64];

    snprintf(start, sizeof(start), "\r\n%s: ", name);
    const char *found = strcasestr(head, start);
    if (found == NULL)
        return NULL;
    ck_assert_msg(strcasestr(found + 2, start) == NULL, "two %s in %s", name, head);
    const char *value = found + strlen(start);
    snprintf(line, sizeof(line), "%.*s", (int)strcspn(value, "\r\n"), value);
    return line;
}

static const struct formatted {
    const char *name;
    struct {
        int status, minor;
        bool keep_alive;
        const char *type, *fields;
        uint64_t content_length;
    } head;
    const char *first, *connection, *content_length;
} formatted[] = {
    { "1.1, kept alive",
      { 200, 1, true, "text/plain", "", 5 },
      "HTTP/1.1 200 OK\r\n",
      NULL,
      "5" },
    { "1.1, closed",
      { 200, 1, false, "text/plain", "", 5 },
      "HTTP/1.1 200 OK\r\n",
      "close",
      "5" },
    { "1.0, kept alive",
      { 200, 0, true, "text/plain", "", 5 },
      "HTTP/1.1 200 OK\r\n",
      "keep-alive",
      "5" },
    { "1.0, closed",
      { 200, 0, false, "text/plain", "", 5 },
      "HTTP/1.1 200 OK\r\n",
      "close",
      "5" },
    { "no type", { 404, 1, true, "", "", 0 }, "HTTP/1.1 404 Not Found\r\n", NULL, "0" },
    { "fields",
      { 405, 1, true, "", "Allow: GET, HEAD\r\nX: y\r\n", 0 },
      "HTTP/1.1 405 Method Not Allowed\r\n",
      NULL,
      "0" },
    { "the longest",
      { 431, 0, true, "", "", UINT64_MAX },
      "HTTP/1.1 431 Request Header Fields Too Large\r\n",
      "keep-alive",
      "18446744073709551615" },
};

START_TEST(format_head)
{
    const struct formatted *c = &formatted[_i];
    struct http_head head = {
        .status = c->head.status,
        .minor = c->head.minor,
        .keep_alive = c->head.keep_alive,
        .type = or_default(c->head.type, ""),
        .fields = or_default(c->head.fields, ""),
        .content_length = c->head.content_length,
    };
    char text[HTTP_HEAD_ROOM + 256];
    size_t room_len = HTTP_HEAD_ROOM + head.type.len + head.fields.len;

    http_date_update();
    memset(text, '#', sizeof(text));
    size_t len = http_format_head(text, &head);
    ck_assert_msg(len <= room_len, "%s: %zu bytes, room for %zu", c->name, len, room_len);
    for (size_t i = room_len; i < sizeof(text); i++)
        ck_assert_msg(text[i] == '#', "%s: wrote byte %zu of %zu", c->name, i, room_len);
    text[len] = '\0';
    ck_assert_uint_eq(strlen(text), len);

    ck_assert_msg(strncmp(text, c->first, strlen(c->first)) == 0, "%s: %s", c->name,
                  text);
    ck_assert_msg(strstr(text, "\r\n\r\n") == text + len - 4, "%s: %s", c->name, text);
    const char *type = field(text, "Content-Type");
    ck_assert_pstr_eq(type, c->head.type[0] ? c->head.type : NULL);
    ck_assert_pstr_eq(field(text, "Connection"), c->connection);
    ck_assert_pstr_eq(field(text, "Content-Length"), c->content_length);
    ck_assert_ptr_nonnull(field(text, "Date"));
    ck_assert_msg(strstr(text, c->head.fields) != NULL, "%s: %s", c->name, text);
}
END_TEST

/* RFC 9110 section 5.6.7: Sun, 06 Nov 1994 08:49:37 GMT */
START_TEST(date)
{
    char text[HTTP_HEAD_ROOM + 1];
    struct http_head head = { .status = 200, .minor = 1, .keep_alive = true };
    struct tm tm = { 0 };
    char again[64];

    time_t before = time(NULL);
    http_date_update();
    text[http_format_head(text, &head)] = '\0';
    time_t after = time(NULL);
    const char *got = field(text, "Date");
    ck_assert_ptr_nonnull(got);
    const char *end = strptime(got, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    ck_assert_msg(end != NULL && *end == '\0', "not an IMF-fixdate: %s", got);
    time_t when = timegm(&tm);
    ck_assert_msg(before <= when && when <= after, "%s is not now", got);
    strftime(again, sizeof(again), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    ck_assert_str_eq(again, got);
}
END_TEST

#define COUNT(table) ((int)(sizeof(table) / sizeof(*(table))))

int main(void)
{
    Suite *s = suite_create("http");
    TCase *parser = tcase_create("parser"), *rest = tcase_create("helpers and responses");

    printf("http: %d accepted, %d refused, %d limits\n", COUNT(accepted), COUNT(refused),
           COUNT(limits));
    fflush(stdout);
    tcase_add_checked_fixture(parser, make_room, NULL);
    tcase_set_timeout(parser, 60);
    tcase_add_loop_test(parser, accepted_request, 0, COUNT(accepted));
    tcase_add_loop_test(parser, refused_request, 0, COUNT(refused));
    tcase_add_loop_test(parser, limited_request, 0, COUNT(limits));
    tcase_add_test(parser, trailers_change_nothing);
    tcase_add_test(parser, pipelined_requests);
    tcase_add_test(parser, chunk_framing_is_squeezed_out);
    tcase_add_loop_test(parser, expect_continue, 0, COUNT(continued));
    tcase_add_test(parser, expect_continue_byte_by_byte);
    tcase_add_test(parser, expect_continue_too_late);
    suite_add_tcase(s, parser);

    tcase_add_checked_fixture(rest, make_room, NULL);
    tcase_add_test(rest, slices);
    tcase_add_loop_test(rest, unescape, 0, COUNT(unescaped));
    tcase_add_test(rest, unescape_nul);
    tcase_add_test(rest, unescape_stays_inside);
    tcase_add_loop_test(rest, query, 0, COUNT(queried));
    tcase_add_test(rest, methods);
    tcase_add_test(rest, reasons);
    tcase_add_loop_test(rest, format_head, 0, COUNT(formatted));
    tcase_add_test(rest, date);
    suite_add_tcase(s, rest);

    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
