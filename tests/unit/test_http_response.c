/* test_http_response.c - which responses are taken, with which body, however they come in
 * pieces; which are refused; which fields a gateway hands on.
 * Does not: test what is shared with the parser of requests byte for byte; test_http.c
 * does. */
#include "http/http_response.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ROOM = 65536, VERDICT = 4 * ROOM };

/* Input lies against a page that may not be touched. */
static char *room;

static void make_room(void)
{
    char *map =
        mmap(NULL, 2 * ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(map, MAP_FAILED);
    room = map;
    ck_assert_int_eq(mprotect(room + ROOM, ROOM, PROT_NONE), 0);
}

/* As ck_assert_msg(), which writes to Check's parent process at each success, too. */
#define CHECK(condition, ...)                                                            \
    do {                                                                                 \
        if (!(condition))                                                                \
            ck_abort_msg(__VA_ARGS__);                                                   \
    } while (0)

/* ---- A client: it takes heads and bodies as bytes come, and says what it got. ---- */

struct reader {
    struct http_parser p;
    bool head, refused;
    char *bytes; /* in room, not taken yet */
    size_t len;
    char heads[4096]; /* "100 - 200 length keep 5" */
    char body[ROOM];
    size_t body_len;
};

static const char *framing_name(enum http_framing framing)
{
    static const char *const names[] = { "none", "length", "chunked", "close" };

    return names[framing];
}

static void note_head(struct reader *r, const struct http_response *res)
{
    char *out = r->heads + strlen(r->heads);

    out += sprintf(out, "%d 1.%d [%.*s] %s %s", res->status, res->minor,
                   (int)res->reason.len, res->reason.base, framing_name(res->framing),
                   res->keep_alive ? "keep" : "close");
    if (res->has_length)
        out += sprintf(out, " %llu", (unsigned long long)res->length);
    sprintf(out, "; ");
    r->head = res->status >= 200;
}

static ssize_t take(struct reader *r, enum http_method method)
{
    struct http_response res;
    struct slice data;
    ssize_t n;

    if (!r->head) {
        n = http_parse_response(&r->p, r->bytes, r->len, method, &res);
        if (n > 0)
            note_head(r, &res);
        return n;
    }
    n = http_response_body(&r->p, r->bytes, r->len, &data);
    if (n > 0) {
        CHECK(data.len <= (size_t)n && data.base >= r->bytes &&
                  data.base + data.len <= r->bytes + n,
              "a piece of body outside of what was taken");
        memcpy(r->body + r->body_len, data.base, data.len);
        r->body_len += data.len;
    }
    return n;
}

static void feed(struct reader *r, const char *more, size_t len, enum http_method method)
{
    char *to = room + ROOM - r->len - len;
    ssize_t n = 1;

    memmove(to, r->bytes, r->len);
    memcpy(to + r->len, more, len);
    r->bytes = to;
    r->len += len;
    while (n > 0 && r->len > 0) {
        n = take(r, method);
        CHECK(n <= (ssize_t)r->len, "took %zd of %zu bytes", n, r->len);
        if (n > 0) {
            r->bytes += n;
            r->len -= (size_t)n;
        }
    }
    if (n < 0) {
        CHECK(n == -502 && r->p.why, "refused with %zd, %s", n, r->p.why);
        r->refused = true;
    }
}

/* How all of it reads, `step` bytes at a time: heads, body, how it ended, what is left. */
static const char *read_all(struct slice in, size_t step, enum http_method method)
{
    static char verdict[VERDICT];
    static struct reader r;
    const char *end;

    memset(&r, 0, sizeof(r));
    r.bytes = room + ROOM;
    for (size_t fed = 0; fed < in.len && !r.refused; fed += step)
        feed(&r, in.base + fed, in.len - fed < step ? in.len - fed : step, method);
    if (r.refused)
        return strcpy(verdict, "refused");
    end = r.head && http_response_ended(&r.p) ? "complete"
          : http_response_closed(&r.p)        ? "complete with the connection"
                                              : "broken off";
    CHECK(strcmp(end, "broken off") != 0 || r.p.why, "broken off without a why");
    snprintf(verdict, sizeof(verdict), "%s[%.*s] %s, %zu left", r.heads, (int)r.body_len,
             r.body, end, strcmp(end, "complete") == 0 ? r.len : 0);
    return verdict;
}

static void check_pieces(const char *name, struct slice in, enum http_method method,
                         const char *expected)
{
    /* Each byte of an unfinished line has it looked at anew: long ones in larger pieces. */
    size_t least = in.len < 2000 ? 1 : 509;

    for (size_t step = in.len; step >= least; step--) {
        const char *got = read_all(in, step, method);

        /* What stands behind a complete response need not have been fed. */
        CHECK(strcmp(got, expected) == 0,
              "%s, %zu bytes at a time: expected %.300s, got %.300s, of %.300s", name,
              step, expected, got, in.base);
        if (in.len >= 2000)
            step -= step > 2 * least ? least : 0;
    }
}

#define BYTES(literal)  literal, sizeof(literal) - 1
#define OK              "HTTP/1.1 200 OK\r\n"
#define CHUNKED(body)   BYTES(OK "Transfer-Encoding: chunked\r\n\r\n" body)
#define SAYS_CHUNKED(b) "200 1.1 [OK] chunked keep; [" b "] complete, 0 left"

static const struct taken {
    const char *name;
    const char *input;
    size_t len;
    const char *expected;
    enum http_method method; /* 0: GET */
} taken[] = {
    /* RFC 9112 section 4 */
    { "a length", BYTES(OK "Content-Length: 5\r\n\r\nhello"),
      "200 1.1 [OK] length keep 5; [hello] complete, 0 left", 0 },
    { "no reason", BYTES("HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n"),
      "404 1.1 [] none keep 0; [] complete, 0 left", 0 },
    { "a reason of words and more",
      BYTES("HTTP/1.1 599 a b\t\xe4!\r\nContent-Length: 0\r\n\r\n"),
      "599 1.1 [a b\t\xe4!] none keep 0; [] complete, 0 left", 0 },
    { "a higher minor version", BYTES("HTTP/1.7 200 OK\r\nContent-Length: 0\r\n\r\n"),
      "200 1.1 [OK] none keep 0; [] complete, 0 left", 0 },

    /* RFC 9112 section 6.3 */
    { "until the connection closes", BYTES(OK "\r\nhello"),
      "200 1.1 [OK] close close; [hello] complete with the connection, 0 left", 0 },
    { "no body but until the connection closes", BYTES(OK "\r\n"),
      "200 1.1 [OK] close close; [] complete with the connection, 0 left", 0 },
    { "keep-alive does not make a length", BYTES(OK "Connection: keep-alive\r\n\r\nhi"),
      "200 1.1 [OK] close close; [hi] complete with the connection, 0 left", 0 },
    { "HEAD, with the length of GET", BYTES(OK "Content-Length: 5\r\n\r\n"),
      "200 1.1 [OK] none keep 5; [] complete, 0 left", HTTP_HEAD },
    { "HEAD, chunked", BYTES(OK "Transfer-Encoding: chunked\r\n\r\n"),
      "200 1.1 [OK] none keep; [] complete, 0 left", HTTP_HEAD },
    { "HEAD without a length", BYTES(OK "\r\n"),
      "200 1.1 [OK] none keep; [] complete, 0 left", HTTP_HEAD },
    { "HEAD, with a body nobody asked for", BYTES(OK "Content-Length: 5\r\n\r\nhello"),
      "200 1.1 [OK] none keep 5; [] complete, 5 left", HTTP_HEAD },
    { "204", BYTES("HTTP/1.1 204 No Content\r\n\r\n"),
      "204 1.1 [No Content] none keep; [] complete, 0 left", 0 },
    { "204 with a length of 0", BYTES("HTTP/1.1 204 N\r\nContent-Length: 0\r\n\r\n"),
      "204 1.1 [N] none keep 0; [] complete, 0 left", 0 },
    { "304 with the length of GET", BYTES("HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n"),
      "304 1.1 [N] none keep 5; [] complete, 0 left", 0 },
    { "304, chunked", BYTES("HTTP/1.1 304 N\r\nTransfer-Encoding: chunked\r\n\r\n"),
      "304 1.1 [N] none keep; [] complete, 0 left", 0 },
    { "a response behind a response",
      BYTES(OK "Content-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n"),
      "200 1.1 [OK] length keep 2; [hi] complete, 19 left", 0 },
    { "a length of 2^64 - 1, broken off",
      BYTES(OK "Content-Length: 18446744073709551615\r\n\r\nhi"),
      "200 1.1 [OK] length keep 18446744073709551615; [hi] broken off, 0 left", 0 },
    { "a body broken off", BYTES(OK "Content-Length: 5\r\n\r\nhell"),
      "200 1.1 [OK] length keep 5; [hell] broken off, 0 left", 0 },
    { "a head broken off", BYTES(OK "Content-Length: 5\r\n"), "[] broken off, 0 left",
      0 },
    { "a status line broken off", BYTES("HTTP/1.1 20"), "[] broken off, 0 left", 0 },

    /* RFC 9112 section 7.1 */
    { "chunks", CHUNKED("5\r\nhello\r\n3;x=\"y\"\r\nabc\r\n0\r\n\r\n"),
      SAYS_CHUNKED("helloabc"), 0 },
    { "no chunk but the last", CHUNKED("0\r\n\r\n"), SAYS_CHUNKED(""), 0 },
    { "data that looks like framing", CHUNKED("7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"),
      SAYS_CHUNKED("\r\n0\r\n\r\n"), 0 },
    { "trailers", CHUNKED("2\r\nhi\r\n0\r\nContent-Length: 7\r\nY: z\r\n\r\n"),
      SAYS_CHUNKED("hi"), 0 },
    { "chunks, and more behind them", CHUNKED("2\r\nhi\r\n0\r\n\r\n\r\n"),
      "200 1.1 [OK] chunked keep; [hi] complete, 2 left", 0 },
    { "chunks broken off in data", CHUNKED("5\r\nhel"),
      "200 1.1 [OK] chunked keep; [hel] broken off, 0 left", 0 },
    { "chunks broken off between two", CHUNKED("2\r\nhi\r\n"),
      "200 1.1 [OK] chunked keep; [hi] broken off, 0 left", 0 },
    { "chunks broken off before the last line", CHUNKED("2\r\nhi\r\n0\r\n"),
      "200 1.1 [OK] chunked keep; [hi] broken off, 0 left", 0 },
    { "a chunk of 2^64 - 1, broken off", CHUNKED("ffffffffffffffff\r\nhi"),
      "200 1.1 [OK] chunked keep; [hi] broken off, 0 left", 0 },

    /* RFC 9112 section 9.3 */
    { "1.1 that closes", BYTES(OK "Connection: x, Close\r\nContent-Length: 0\r\n\r\n"),
      "200 1.1 [OK] none close 0; [] complete, 0 left", 0 },
    { "1.0", BYTES("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
      "200 1.0 [OK] none close 0; [] complete, 0 left", 0 },
    { "1.0 that keeps alive",
      BYTES("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n"),
      "200 1.0 [OK] none keep 0; [] complete, 0 left", 0 },

    /* RFC 9110 section 15.2 */
    { "100 first",
      BYTES("HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 2\r\n\r\nhi"),
      "100 1.1 [Continue] none keep; 200 1.1 [OK] length keep 2; [hi] complete, 0 left",
      0 },
    { "102 and 103 with fields first, which are forgotten",
      BYTES("HTTP/1.1 102 P\r\nConnection: close\r\n\r\n"
            "HTTP/1.1 103 E\r\nLink: </x>\r\nContent-Length: 0\r\n\r\n" OK
            "Content-Length: 2\r\n\r\nhi"),
      "102 1.1 [P] none close; 103 1.1 [E] none keep 0; "
      "200 1.1 [OK] length keep 2; [hi] complete, 0 left",
      0 },
    { "100 and then nothing", BYTES("HTTP/1.1 100 Continue\r\n\r\n"),
      "100 1.1 [Continue] none keep; [] broken off, 0 left", 0 },
};

START_TEST(taken_response)
{
    const struct taken *c = &taken[_i];

    check_pieces(c->name, (struct slice){ c->input, c->len },
                 c->method ? c->method : HTTP_GET, c->expected);
}
END_TEST

static const struct refused {
    const char *name;
    const char *input;
    size_t len;
} refused[] = {
    { "no version", BYTES("200 OK\r\n\r\n") },
    { "a request", BYTES("GET / HTTP/1.1\r\n\r\n") },
    { "another protocol", BYTES("ICY 200 OK\r\n\r\n") },
    { "HTTP/2", BYTES("HTTP/2.0 200 OK\r\n\r\n") },
    { "HTTP/0.9", BYTES("HTTP/0.9 200 OK\r\n\r\n") },
    { "lower case", BYTES("http/1.1 200 OK\r\n\r\n") },
    { "a minor of two digits", BYTES("HTTP/1.10 200 OK\r\n\r\n") },
    { "an empty line first", BYTES("\r\nHTTP/1.1 200 OK\r\n\r\n") },
    { "two blanks before the status", BYTES("HTTP/1.1  200 OK\r\n\r\n") },
    { "a tab before the status", BYTES("HTTP/1.1\t200 OK\r\n\r\n") },
    { "no blank behind the status", BYTES("HTTP/1.1 200\r\n\r\n") },
    { "a status of two digits", BYTES("HTTP/1.1 20 OK\r\n\r\n") },
    { "a status of four digits", BYTES("HTTP/1.1 2000 OK\r\n\r\n") },
    { "a status of letters", BYTES("HTTP/1.1 abc OK\r\n\r\n") },
    { "a status of 099", BYTES("HTTP/1.1 099 OK\r\n\r\n") },
    { "a status of 600", BYTES("HTTP/1.1 600 OK\r\n\r\n") },
    { "a control character in the reason", BYTES("HTTP/1.1 200 O\x01K\r\n\r\n") },
    { "a bare LF behind the status line", BYTES("HTTP/1.1 200 OK\n\r\n") },
    { "a bare CR in the status line", BYTES("HTTP/1.1 200 OK\rX\r\n\r\n") },
    { "a bare LF behind a field", BYTES(OK "X: y\n\r\n") },
    { "a bare LF for the empty line", BYTES(OK "X: y\r\n\n") },
    { "a folded field", BYTES(OK "X: y\r\n z\r\n\r\n") },
    { "a blank before the colon", BYTES(OK "Content-Length : 5\r\n\r\nhello") },
    { "no colon", BYTES(OK "X\r\n\r\n") },
    { "NUL in a value", BYTES(OK "X: \0\r\n\r\n") },

    { "length and coding",
      BYTES(OK "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") },
    { "coding and length",
      BYTES(OK "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n") },
    { "two lengths", BYTES(OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!") },
    { "two lengths, the same",
      BYTES(OK "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello") },
    { "a list of lengths", BYTES(OK "Content-Length: 5, 5\r\n\r\nhello") },
    { "a length of -1", BYTES(OK "Content-Length: -1\r\n\r\n") },
    { "a length of +1", BYTES(OK "Content-Length: +1\r\n\r\n") },
    { "a length of letters", BYTES(OK "Content-Length: x\r\n\r\n") },
    { "an empty length", BYTES(OK "Content-Length:\r\n\r\n") },
    { "a length of 2^64", BYTES(OK "Content-Length: 18446744073709551616\r\n\r\n") },
    { "gzip", BYTES(OK "Transfer-Encoding: gzip\r\n\r\n") },
    { "gzip, chunked", BYTES(OK "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n") },
    { "chunked, gzip", BYTES(OK "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n") },
    { "chunked twice", BYTES(OK "Transfer-Encoding: chunked, chunked\r\n\r\n") },
    { "chunked in 1.0",
      BYTES("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") },
    { "204 with a length", BYTES("HTTP/1.1 204 N\r\nContent-Length: 5\r\n\r\nhello") },
    { "204, chunked",
      BYTES("HTTP/1.1 204 N\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") },
    { "100 with a length", BYTES("HTTP/1.1 100 C\r\nContent-Length: 5\r\n\r\nhello") },
    { "100, chunked", BYTES("HTTP/1.1 100 C\r\nTransfer-Encoding: chunked\r\n\r\n") },
    { "304 with length and coding", BYTES("HTTP/1.1 304 N\r\nContent-Length: 5\r\n"
                                          "Transfer-Encoding: chunked\r\n\r\n") },
    { "101", BYTES("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n") },

    { "no chunk size", CHUNKED("\r\nhi\r\n0\r\n\r\n") },
    { "a chunk size of letters", CHUNKED("xyz\r\n") },
    { "a chunk size of 65 bits", CHUNKED("10000000000000000\r\n") },
    { "a chunk size of 0x2", CHUNKED("0x2\r\nhi\r\n0\r\n\r\n") },
    { "a blank behind a chunk size", CHUNKED("2 \r\nhi\r\n0\r\n\r\n") },
    { "a bare LF behind a chunk size", CHUNKED("2\nhi\r\n0\r\n\r\n") },
    { "a bare LF behind chunk data", CHUNKED("2\r\nhi\n0\r\n\r\n") },
    { "a longer chunk than its size", CHUNKED("2\r\nhi!\r\n0\r\n\r\n") },
    { "a shorter chunk than its size", CHUNKED("3\r\nhi\r\n0\r\n\r\n") },
    { "a folded trailer", CHUNKED("0\r\nX: y\r\n z\r\n\r\n") },
    { "a trailer without a colon", CHUNKED("0\r\nX\r\n\r\n") },
    { "a bare LF for the last line", CHUNKED("0\r\n\n") },
};

START_TEST(refused_response)
{
    const struct refused *c = &refused[_i];

    check_pieces(c->name, (struct slice){ c->input, c->len }, HTTP_GET, "refused");
}
END_TEST

/* ---- Limits: head, `times` units, tail ---- */

static const struct limit {
    const char *name;
    bool refused;
    const char *head, *unit;
    int times;
    const char *tail;
} limits[] = {
    { "a head of 16 KiB", false, OK "Content-Length: 0\r\nX: ", "a",
      HTTP_MAX_HEAD - (int)sizeof(OK "Content-Length: 0\r\nX: ") + 1 - 4, "\r\n\r\n" },
    { "a head of 16 KiB + 1", true, OK "Content-Length: 0\r\nX: ", "a",
      HTTP_MAX_HEAD - (int)sizeof(OK "Content-Length: 0\r\nX: ") + 1 - 3, "\r\n\r\n" },
    { "a reason without an end", true, "HTTP/1.1 200 ", "a", 17000, "" },
    { "a field without an end", true, OK "X: ", "a", 17000, "" },
    { "64 fields", false, OK "Content-Length: 0\r\n", "X: y\r\n", 63, "\r\n" },
    { "65 fields", true, OK "Content-Length: 0\r\n", "X: y\r\n", 64, "\r\n" },
    { "extensions of many chunks", true, OK "Transfer-Encoding: chunked\r\n\r\n",
      "1;a=b\r\nx\r\n", 1100, "0\r\n\r\n" },
    { "an extension without an end", true, OK "Transfer-Encoding: chunked\r\n\r\n1;", "a",
      9000, "" },
    { "trailers over 16 KiB", true, OK "Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", "a",
      17000, "\r\n\r\n" },
    { "63 trailers and a field", false, OK "Transfer-Encoding: chunked\r\n\r\n0\r\n",
      "X: y\r\n", 63, "\r\n" },
    { "64 trailers and a field", true, OK "Transfer-Encoding: chunked\r\n\r\n0\r\n",
      "X: y\r\n", 64, "\r\n" },
    { "a thousand chunks", false, OK "Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n",
      1000, "0\r\n\r\n" },
};

START_TEST(limited_response)
{
    static char input[ROOM];
    static char expected[VERDICT];
    const struct limit *c = &limits[_i];
    size_t len = strlen(strcpy(input, c->head));

    for (int i = 0; i < c->times; i++)
        len += strlen(strcpy(input + len, c->unit));
    len += strlen(strcpy(input + len, c->tail));
    struct slice in = { input, len };
    strcpy(expected, read_all(in, len, HTTP_GET));
    ck_assert_msg((strcmp(expected, "refused") == 0) == c->refused, "%s: %.100s", c->name,
                  expected);
    ck_assert_msg(c->refused || strstr(expected, "] complete, 0 left"), "%s: %.200s",
                  c->name, expected);
    check_pieces(c->name, in, HTTP_GET, expected);
}
END_TEST

/* The body leaves in pieces as it comes: no byte of it waits for another. */
START_TEST(body_is_streamed)
{
    static const char head[] = OK "Transfer-Encoding: chunked\r\n\r\n";
    struct http_parser p = { 0 };
    struct http_response res;
    struct slice data;

    ck_assert_int_eq(http_parse_response(&p, BYTES(head), HTTP_GET, &res),
                     (ssize_t)sizeof(head) - 1);
    ck_assert_int_eq(http_response_body(&p, BYTES("A\r\n01"), &data), 5);
    ck_assert(slice_equal(data, SLICE("01")));
    ck_assert_int_eq(http_response_body(&p, BYTES("23456789\r"), &data), 8);
    ck_assert(slice_equal(data, SLICE("23456789")));
    ck_assert_int_eq(http_response_body(&p, BYTES("\r"), &data), 0);
    ck_assert_uint_eq(data.len, 0);
    ck_assert_int_eq(http_response_body(&p, BYTES("\r\n0\r\n"), &data), 5);
    ck_assert(data.len == 0 && !http_response_ended(&p));
    ck_assert_int_eq(http_response_body(&p, BYTES("\r\n"), &data), 2);
    ck_assert(http_response_ended(&p));
    ck_assert_int_eq(http_response_body(&p, BYTES("more"), &data), 0);
    ck_assert(http_response_closed(&p));
}
END_TEST

/* ---- RFC 9110 section 7.6.1 ---- */

static const struct walked {
    const char *fields, *end_to_end;
} walked[] = {
    { "", "" },
    { "Content-Length: 5\r\n", "Content-Length=5 " },
    { "A: b\r\nA:  c \t\r\nEmpty:\r\n", "A=b A=c Empty= " },
    { "Connection: close\r\nA: b\r\n", "A=b " },
    { "Keep-Alive: 5\r\nPROXY-CONNECTION: x\r\nte: x\r\nTransfer-Encoding: chunked\r\n"
      "Upgrade: x\r\nTrailer: T\r\nX: y\r\n",
      "X=y " },
    { "X: 1\r\nConnection: y, x\r\nY: 2\r\nZ: 3\r\n", "Z=3 " },
    { "X: 1\r\nConnection: y\r\nY: 2\r\nconnection: z,,X\r\nZ: 3\r\nXY: 4\r\n", "XY=4 " },
    { "Connection:\r\nA: b\r\n", "A=b " },
    { "Connection: Set-Cookie\r\nset-cookie: a=b\r\nSet-Cookie2: c\r\n",
      "Set-Cookie2=c " },
    { "T: x\r\nTEE: y\r\nDate: Sat, 21 Nov 2026 09:35:39 GMT\r\n",
      "T=x TEE=y Date=Sat, 21 Nov 2026 09:35:39 GMT " },
};

START_TEST(end_to_end_fields)
{
    const struct walked *c = &walked[_i];
    char input[1024], got[1024] = "", *out = got;
    struct slice name, value;
    struct http_parser p = { 0 };
    struct http_response res;
    size_t at = 0;
    int len = snprintf(input, sizeof(input), OK "%s\r\n", c->fields);
    char *bytes = room + ROOM - len;

    memcpy(bytes, input, (size_t)len);
    ck_assert_int_eq(http_parse_response(&p, bytes, (size_t)len, HTTP_HEAD, &res), len);
    ck_assert_uint_eq(res.fields.len, strlen(c->fields));
    while (http_next_end_to_end(res.fields, &at, &name, &value))
        out += sprintf(out, "%.*s=%.*s ", (int)name.len, name.base, (int)value.len,
                       value.base);
    ck_assert_str_eq(got, c->end_to_end);
    ck_assert(!http_next_end_to_end(res.fields, &at, &name, &value));
}
END_TEST

#define COUNT(table) ((int)(sizeof(table) / sizeof(*(table))))

int main(void)
{
    Suite *s = suite_create("http_response");
    TCase *t = tcase_create("responses");

    tcase_add_checked_fixture(t, make_room, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, taken_response, 0, COUNT(taken));
    tcase_add_loop_test(t, refused_response, 0, COUNT(refused));
    tcase_add_loop_test(t, limited_response, 0, COUNT(limits));
    tcase_add_test(t, body_is_streamed);
    tcase_add_loop_test(t, end_to_end_fields, 0, COUNT(walked));
    suite_add_tcase(s, t);

    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
