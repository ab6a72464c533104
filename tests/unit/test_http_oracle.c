/* test_http_oracle.c - what we accept, http_parser and evhttp must read alike.
 * Does not: say what is right, as test_http.c does; here two others are asked. */

/* Both headers have a struct http_parser and an enum http_method. Theirs gets other
 * names. */
#define http_parser  oracle_parser
#define http_method  oracle_method
#define HTTP_GET     ORACLE_GET
#define HTTP_HEAD    ORACLE_HEAD
#define HTTP_POST    ORACLE_POST
#define HTTP_PUT     ORACLE_PUT
#define HTTP_DELETE  ORACLE_DELETE
#define HTTP_OPTIONS ORACLE_OPTIONS
#define HTTP_PATCH   ORACLE_PATCH
#define HTTP_TRACE   ORACLE_TRACE
#include <http_parser.h>
#undef http_parser
#undef http_method
#undef HTTP_GET
#undef HTTP_HEAD
#undef HTTP_POST
#undef HTTP_PUT
#undef HTTP_DELETE
#undef HTTP_OPTIONS
#undef HTTP_PATCH
#undef HTTP_TRACE

#include "http/http.h"

#include <arpa/inet.h>
#include <check.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CASES = 200000,
    EVHTTP_CASES = 500, /* accepted requests; each one costs a connection */
    ROOM = 65536,
    MAX_BODY = 1 << 16,
};

#define COUNT(table) (sizeof(table) / sizeof(*(table)))

/* As ck_assert_msg(), which writes to Check's parent process at each success, too: which
 * takes longer than all there is to check. */
#define CHECK(condition, ...)                                                            \
    do {                                                                                 \
        if (!(condition))                                                                \
            ck_abort_msg(__VA_ARGS__);                                                   \
    } while (0)

static struct slice text_slice(const char *text)
{
    return (struct slice){ text, strlen(text) };
}

static const char *shown(struct slice s)
{
    static char text[4 * 600 + 8];
    char *out = text;

    for (size_t i = 0; i < s.len && i < 600; i++) {
        unsigned char c = (unsigned char)s.base[i];

        out += sprintf(out, c < 0x20 || c >= 0x7f || c == '\\' ? "\\x%02x" : "%c", c);
    }
    strcpy(out, s.len > 600 ? "..." : "");
    return text;
}

/* ---- Chance, the same every time: TEST_SEED=N make test tries another course. ---- */

static uint64_t seed = 1, chance;

static uint32_t below(uint32_t n)
{
    chance ^= chance << 13; /* xorshift64, G. Marsaglia, 2003 */
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (uint32_t)((chance >> 32) * n >> 32);
}

static void seed_chance(void)
{
    const char *given = getenv("TEST_SEED");

    if (given)
        seed = strtoull(given, NULL, 10);
    chance = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    if (chance == 0)
        chance = 1;
}

/* ---- The grammar. Each choice is mostly right and seldom wrong. ---- */

static char made[ROOM];
static size_t made_len;
static bool mutated;
static bool
    plain; /* nothing that evhttp cannot read, although it is right: see like_evhttp */

static void put(const char *bytes, size_t n)
{
    CHECK(made_len + n <= ROOM, "%zu bytes", made_len + n);
    memcpy(made + made_len, bytes, n);
    made_len += n;
}

static void put_text(const char *text)
{
    put(text, strlen(text));
}

struct words {
    const char *const *words;
    uint32_t count;
};
#define WORDS(...)                                                                       \
    ((struct words){ (const char *const[]){ __VA_ARGS__ },                               \
                     COUNT(((const char *const[]){ __VA_ARGS__ })) })

static void put_one_of(struct words w)
{
    put_text(w.words[below(w.count)]);
}

static void put_mostly(struct words right, struct words wrong)
{
    put_one_of(below(40) ? right : wrong);
}

static void put_times(uint32_t times, const char *text)
{
    while (times--)
        put_text(text);
}

static void put_end(void)
{
    if (below(300))
        put_text("\r\n");
    else
        put_one_of(WORDS("\n", "\r", "\r\r\n", "\n\r", ""));
}

static void put_field(const char *name)
{
    if (below(8) == 0) {
        for (; *name; name++) {
            char other =
                *name >= 'a' && *name <= 'z' && below(2) ? (char)(*name - 32) : *name;

            put(&other, 1);
        }
    }
    put_text(name);
    put_mostly(plain ? WORDS(":", ": ", ":  ") : WORDS(":", ": ", ":\t", ": \t "),
               WORDS(" :", "\t: ", "", "::", ":\v"));
}

static void put_value(void)
{
    static const char right[] =
        "abcXYZ019 \t!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\x80\xc3\xff";

    for (uint32_t n = below(12); n > 0; n--) {
        if (below(500))
            put(right + below(sizeof(right) - 1), 1);
        else
            put_one_of(WORDS("\x01", "\x7f", "\x1b", "\r", "\n", "\r\n ", "\r\n\t"));
    }
    if (below(3000) == 0)
        put_times(17000, "v");
}

static void put_request_line(void)
{
    put_mostly(WORDS("GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS",
                     "PATCH", "TRACE"),
               WORDS("get", "BREW", "G ET", "", " GET", "CONNECT", "G\x80T", "M-SEARCH",
                     "AVERYLONGMETHODTHATNOSERVEREVERHEARDOF", "PURGE"));
    put_mostly(WORDS(" "), WORDS("  ", "\t", ""));
    if (below(2000) == 0) {
        put_text("/");
        put_times(9000, "p");
    } else {
        put_mostly(WORDS("/", "/a/b", "/a?b=c", "/?", "/?x?y/z", "/%41%2f", "//a//b",
                         "/a/../b", "/~a;b,c:d@e!$&'()*+", "http://h/p", "http://h?x=1",
                         "http://h:80/p?q", "HTTP://h.example/",
                         plain ? "/" : "http://[::1]:8/p", "http://h"),
                   WORDS("*", "*a", "a", "/a b", "/\"", "/<", "/a\\b", "/^`", "/{}", "/|",
                         "/#f", "/?q#f", "/%", "/%4", "/%zz", "/\xc3\xa4", "/\x01",
                         "/\x7f", "http://u@h/", "http://u:p@h/", "http:///p", "http://",
                         "http:/h/", "ftp://h/", "https://h/p", "http://h:x/",
                         "http://h#f", "h:80", "?", ""));
    }
    put_mostly(WORDS(" "), WORDS("  ", "\t", ""));
    put_mostly(
        WORDS("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2"),
        WORDS("HTTP/2.0", "HTTP/0.9", "HTTP/1.10", "HTTP/1", "HTTP/11", "http/1.1",
              "HTTP/1.1 ", "HTTPS/1.1", "HTTP/1.x", "HTTP/3.0", "ICE/1.0", ""));
    put_end();
}

static void put_other_field(void)
{
    switch (below(8)) {
    case 0:
        put_field("Connection");
        put_mostly(WORDS("close", "keep-alive", "Close", "te, close", "keep-alive, te",
                         "close, keep-alive", "closed", "x-close", "upgrade", ""),
                   WORDS("clo se", "close;", "close\x01"));
        break;
    case 1:
        put_field("Content-Type");
        put_value();
        break;
    case 2:
        put_field("Expect");
        put_mostly(WORDS("100-continue", "100-Continue"),
                   WORDS("200-ok", "100-continue, x"));
        break;
    case 3:
        put_mostly(WORDS("X", "x-y", "!#$%&'*+-.^_`|~"),
                   WORDS(" X", "X(", "X Y", "", "X\x80", "X\x7f", "\tX", "X@", "X/Y"));
        put_field("");
        put_value();
        break;
    case 4:
        if (below(200) == 0) {
            put_times(70, "A: b\r\n");
            return;
        }
        /* fall through */
    default:
        put_field("X-Other");
        put_value();
        break;
    }
    put_end();
}

static void put_host(void)
{
    put_field("Host");
    put_mostly(
        WORDS("a", "www.example.org", "a:8080", "1.2.3.4", "[::1]", "[::1]:80", "a:"),
        WORDS("", "a b", "a/b", "u@a", "a:b", "a:1:2", ":80", "[::1", "::1]", "[::1]x",
              "a?b", "a#b", "a\\b", "\"a\"", "\xc3\xa4", "a,b c"));
    put_end();
}

static void put_chunk(void)
{
    char size[32];
    uint32_t n = 1 + below(20);
    static const char data[] = "0123456789abcdef\r\n;G";
    static const char *const formats[] = { "%x", "%X", "%02x", "%04X", "%08x" };

    sprintf(size, below(2) ? formats[below(COUNT(formats))] : "%x", n);
    put_text(size);
    if (!plain && below(8) == 0)
        put_mostly(WORDS(";a", ";a=b", ";a=\"b c\"", ";a;b", ";a=\x80"),
                   WORDS(" ", "\t", " ;a", ";a\x01", ";a\x7f", ";a\r", "\x01", ";\n"));
    if (below(1000) == 0) {
        put_text(";");
        put_times(5000, "e");
    }
    put_end();
    for (uint32_t i = 0; i < n; i++)
        put(&data[below(sizeof(data) - 1)], 1);
    if (below(200) == 0)
        put_text("!");
    put_end();
}

static void put_chunked_body(void)
{
    for (uint32_t n = below(4); n > 0; n--)
        put_chunk();
    if (below(60) == 0)
        put_one_of(WORDS("", "g", "-1", "+1", "0x1", " 1", "10000000000000000",
                         "ffffffffffffffff", "100000", ";a", "\x80"));
    else
        put_one_of(WORDS("0", "00", "0000", plain ? "0" : "0;a=b"));
    put_end();
    if (below(6) == 0) {
        put_mostly(WORDS("T: u", "T:", "T: u\r\nV: w"),
                   WORDS("T", "T : u", ": u", " T: u"));
        put_end();
    }
    put_end();
}

static void put_framing_and_body(void)
{
    static const char body[] = "hello, world\r\n\r\n GET / HTTP/1.1";
    uint32_t n = below(sizeof(body)), kind = below(30);
    char number[32];

    if (kind < 12) {
        put_end();
    } else if (kind < 19) {
        sprintf(number, below(10) ? "%u" : "%05u", n);
        put_field("Content-Length");
        put_text(number);
        put_mostly(WORDS("", plain ? "" : " "),
                   WORDS(", 5", " 5", ".0", "x", "99999999999999999999"));
        put_end();
        put_end();
        put(body, n);
    } else if (kind < 27) {
        put_field("Transfer-Encoding");
        put_mostly(WORDS("chunked", "Chunked", plain ? "CHUNKED" : "CHUNKED "),
                   WORDS("gzip", "gzip, chunked", "chunked, gzip", "identity", ",chunked",
                         ",a,chunked", "chunked, chunked", "chunked;q=1", "xchunked", "",
                         "chunked,", "gzip chunked"));
        put_end();
        put_end();
        put_chunked_body();
    } else {
        put_one_of(
            WORDS("Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
                  "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
                  "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                  "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
                  "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "0\r\n\r\n",
                  "Content-Length: 70000\r\n\r\n", "Content-Length: +5\r\n\r\nhello",
                  "Content-Length: -1\r\n\r\n", "Content-Length: 0x5\r\n\r\nhello",
                  "Content-Length:\r\n\r\n"));
    }
}

/* Change a byte, lose one, add one, double a piece, or end early. */
static void mutate(void)
{
    static const char nasty[] = "\r\n\r\n \t:;,0159afAF\"\\/?#%@-+\x01\x7f\x80\xff";
    uint32_t at = below((uint32_t)made_len), n;
    char c = below(4) ? nasty[below(sizeof(nasty))] : (char)below(256);

    switch (below(5)) {
    case 0:
        made[at] = c;
        break;
    case 1:
        memmove(made + at, made + at + 1, made_len - at - 1);
        made_len--;
        break;
    case 2:
        memmove(made + at + 1, made + at, made_len - at);
        made[at] = c;
        made_len++;
        break;
    case 3:
        n = below(20);
        if (n > made_len - at)
            n = (uint32_t)made_len - at;
        memmove(made + at + n, made + at, made_len - at);
        made_len += n;
        break;
    default:
        if (below(4) == 0)
            made_len = at + 1;
    }
}

static struct slice make_request(void)
{
    made_len = 0;
    if (!plain && below(30) == 0)
        put_mostly(WORDS("\r\n", "\r\n\r\n"), WORDS("\n", "\r", " "));
    put_request_line();
    for (uint32_t n = below(3); n > 0; n--)
        put_other_field();
    if (below(30))
        put_host();
    if (below(60) == 0)
        put_host();
    for (uint32_t n = below(3); n > 0; n--)
        put_other_field();
    put_framing_and_body();
    if (below(4) == 0)
        put_text("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    mutated = below(4) == 0;
    if (mutated)
        for (uint32_t n = 1 + below(3); n > 0 && made_len > 1; n--)
            mutate();
    return (struct slice){ made, made_len };
}

/* ---- Ours ---- */

struct ours {
    int status; /* 0: incomplete, 200: accepted, else refused */
    const char *why;
    struct request req;
    size_t took;
};

static char our_bytes[ROOM];

static struct ours ask_ours(struct slice in)
{
    struct http_parser p = { 0 };
    struct ours o = { 0 };
    size_t len = in.len;

    memcpy(our_bytes, in.base, in.len);
    ssize_t n = http_parse(&p, our_bytes, &len, MAX_BODY, &o.req);
    o.status = n > 0 ? 200 : (int)-n;
    o.why = n < 0 ? p.why : NULL;
    o.took = n > 0 ? in.len - (len - (size_t)n) : 0;
    return o;
}

/* ---- http_parser ---- */

static struct theirs {
    bool complete, keep_alive;
    const char *method;
    int minor;
    bool close_and_keep_alive; /* both were said */
    char url[ROOM], body[ROOM];
    size_t url_len, body_len, took;
    const char *error; /* NULL: none */
} theirs;

static int on_url(oracle_parser *p, const char *at, size_t len)
{
    (void)p;
    memcpy(theirs.url + theirs.url_len, at, len);
    theirs.url_len += len;
    return 0;
}

static int on_body(oracle_parser *p, const char *at, size_t len)
{
    (void)p;
    memcpy(theirs.body + theirs.body_len, at, len);
    theirs.body_len += len;
    return 0;
}

static int on_complete(oracle_parser *p)
{
    theirs.complete = true;
    theirs.keep_alive = http_should_keep_alive(p);
    theirs.method = http_method_str((enum oracle_method)p->method);
    theirs.minor = p->http_minor;
    theirs.close_and_keep_alive =
        p->flags & F_CONNECTION_CLOSE && p->flags & F_CONNECTION_KEEP_ALIVE;
    http_parser_pause(p, 1);
    return 0;
}

static void ask_http_parser(struct slice in)
{
    static const http_parser_settings settings = { .on_url = on_url,
                                                   .on_body = on_body,
                                                   .on_message_complete = on_complete };
    oracle_parser p;

    theirs.complete = false;
    theirs.url_len = theirs.body_len = 0;
    theirs.error = NULL;
    http_parser_init(&p, HTTP_REQUEST);
    theirs.took = http_parser_execute(&p, &settings, in.base, in.len);
    if (!theirs.complete && HTTP_PARSER_ERRNO(&p) != HPE_OK)
        theirs.error = http_errno_name(HTTP_PARSER_ERRNO(&p));
}

/* ---- Where they may differ ---- */

/* What we refuse and http_parser lets pass. Any other reason would be a mistake of ours;
 * and one of these that does not come up any more should leave the list. */
static struct stricter {
    const char *why;
    const char *source; /* of our right to refuse */
    unsigned seen;
} stricter[] = {
    { "bare LF", "RFC 9112 2.2: MAY take it", 0 },
    { "bare CR", "RFC 9112 2.2: invalid, or a blank", 0 },
    { "control character", "RFC 9110 5.5: CTL", 0 },
    { "line folding", "RFC 9112 5.2: 400, or a blank", 0 },
    { "field does not start with a name and a colon", "RFC 9112 5.1: 400", 0 },
    { "request line does not start with a method and a space", "RFC 9112 2.2: CRLF only",
      0 },
    { "request line does not end in HTTP/1.1 or HTTP/1.0",
      "RFC 9112 2.3: case, one digit", 0 },
    { "target is neither a path nor an http URI", "RFC 9112 3.2: four forms", 0 },
    { "invalid authority in the target", "RFC 9110 4.2.1, 4.2.4: host, no userinfo", 0 },
    { "https is asked for without TLS", "RFC 9110 7.4: MUST reject", 0 },
    { "character that a target may not have", "RFC 9112 3.2: 400", 0 },
    { "bad percent-escape in the target", "RFC 3986 2.1", 0 },
    { "no Host", "RFC 9112 3.2: 400", 0 },
    { "two Host fields", "RFC 9112 3.2: 400", 0 },
    { "invalid Host", "RFC 9112 3.2: 400", 0 },
    { "Transfer-Encoding in HTTP/1.0", "RFC 9112 6.1: faulty framing", 0 },
    { "empty transfer coding", "RFC 9112 6.1: no room for two opinions", 0 },
    { "chunked is not the last transfer coding", "RFC 9112 6.1: chunked once, last", 0 },
    { "the only transfer coding known is chunked", "RFC 9112 6.1: 501", 0 },
    { "target goes on after '*'", "RFC 9112 3.2.4", 0 },
    { "chunk has no size", "RFC 9112 7.1: hexadecimal; \\x80 is not a digit", 0 },
    { "space after the chunk size", "RFC 9112 7.1: no blank there", 0 },
    { "chunk is longer than its size says", "RFC 9112 7.1: CRLF behind the data", 0 },
    { "chunk extensions are too long", "RFC 9112 7.1.1: limit them", 0 },
    { "request line is too long", "RFC 9112 3: 414", 0 },
    { "head is too long", "RFC 6585 5: 431", 0 },
    { "too many fields", "RFC 6585 5: 431", 0 },
    { "unknown method", "RFC 9110 9.1: 501", 0 },
    { "this server speaks HTTP/1.1 and HTTP/1.0", "RFC 9110 15.6.6: 505", 0 },
    { "the only expectation known is 100-continue", "RFC 9110 10.1.1: 417", 0 },
};

static bool known_as_stricter(const char *why)
{
    for (size_t i = 0; i < COUNT(stricter); i++)
        if (strcmp(stricter[i].why, why) == 0) {
            stricter[i].seen++;
            return true;
        }
    return false;
}

/* Path and query as http_parser's own URL parser cuts them. False: it knows only host
 * names of letters, digits, '.', '-' and '_', while RFC 3986 section 3.2.2 has many
 * more. */
static bool split_url(struct slice *path, struct slice *query)
{
    struct http_parser_url u;

    *path = SLICE("/");
    *query = SLICE("");
    if (theirs.url_len == 1 && theirs.url[0] == '*') {
        *path = SLICE("*");
        return true;
    }
    http_parser_url_init(&u);
    if (http_parser_parse_url(theirs.url, theirs.url_len, 0, &u) != 0)
        return false;
    if (u.field_set & 1 << UF_PATH)
        *path = (struct slice){ theirs.url + u.field_data[UF_PATH].off,
                                u.field_data[UF_PATH].len };
    if (u.field_set & 1 << UF_QUERY)
        *query = (struct slice){ theirs.url + u.field_data[UF_QUERY].off,
                                 u.field_data[UF_QUERY].len };
    return true;
}

static void check_same(struct slice ours, struct slice other, const char *what,
                       struct slice in)
{
    CHECK(ours.len == other.len &&
              (ours.len == 0 || memcmp(ours.base, other.base, ours.len) == 0),
          "%s: we read [%.*s], the other [%.*s], in %s", what, (int)ours.len, ours.base,
          (int)other.len, other.base, shown(in));
}

/* It takes a longer name that begins with Transfer-Encoding for one, and does not know
 * that a tab is a blank behind Content-Length's number, behind "chunked", and behind a
 * chunk's size. */
static bool mistake_of_http_parser(struct slice in)
{
    static const char *const errors[] = { "HPE_INVALID_CONTENT_LENGTH",
                                          "HPE_UNEXPECTED_CONTENT_LENGTH",
                                          "HPE_INVALID_TRANSFER_ENCODING",
                                          "HPE_INVALID_CHUNK_SIZE" };
    static const char name[] = "\r\nTransfer-Encoding";
    bool about_framing = false;

    for (size_t i = 0; i < COUNT(errors); i++)
        about_framing |= theirs.error && strcmp(theirs.error, errors[i]) == 0;
    if (about_framing && memchr(in.base, '\t', in.len) != NULL)
        return true;
    for (size_t i = 0; about_framing && i + sizeof(name) <= in.len; i++)
        if (strncasecmp(in.base + i, name, sizeof(name) - 1) == 0 &&
            in.base[i + sizeof(name) - 1] != ':')
            return true;
    return false;
}

static void check_accepted(const struct ours *o, struct slice in)
{
    struct slice path, query;

    if (!theirs.complete && mistake_of_http_parser(in))
        return;
    CHECK(theirs.complete, "we accept, http_parser does not (%s): %s",
          theirs.error ? theirs.error : "incomplete", shown(in));
    bool split = split_url(&path, &query);
    CHECK(split || theirs.url[0] == 'h' || theirs.url[0] == 'H',
          "http_parser cannot split [%.*s]", (int)theirs.url_len, theirs.url);
    check_same(text_slice(http_method_name(o->req.method)), text_slice(theirs.method),
               "method", in);
    if (split) {
        check_same(o->req.path, path, "path", in);
        check_same(o->req.query, query, "query", in);
    }
    check_same(o->req.body, (struct slice){ theirs.body, theirs.body_len }, "body", in);
    CHECK(o->took == theirs.took, "we take %zu bytes, http_parser %zu, of %s", o->took,
          theirs.took, shown(in));
    CHECK(o->req.minor == (theirs.minor ? 1 : 0), "minor: we %d, http_parser %d, of %s",
          o->req.minor, theirs.minor, shown(in));
    /* In HTTP/1.0 http_parser lets keep-alive beat close; RFC 9112 section 9.3 has close
     * first. In a list with a mistake it loses its place: "clos, keep-alive". */
    bool expected = theirs.keep_alive && !theirs.close_and_keep_alive;
    CHECK(mutated || o->req.keep_alive == expected,
          "keep-alive: we %d, http_parser %d, of %s", o->req.keep_alive, expected,
          shown(in));
}

START_TEST(like_http_parser)
{
    unsigned accepted = 0, incomplete = 0, both_refuse = 0, stricter_than = 0;

    seed_chance();
    for (int i = 0; i < CASES; i++) {
        struct slice in = make_request();
        struct ours o = ask_ours(in);

        ask_http_parser(in);
        if (o.status == 200) {
            accepted++;
            check_accepted(&o, in);
        } else if (o.status == 0) {
            incomplete++;
            CHECK(!theirs.complete, "we wait for more, http_parser does not: %s",
                  shown(in));
        } else if (theirs.complete) {
            stricter_than++;
            CHECK(known_as_stricter(o.why),
                  "we refuse with %d (%s), http_parser accepts: %s", o.status, o.why,
                  shown(in));
        } else {
            both_refuse++;
        }
    }
    printf("http_parser: seed %lu: %d requests, %u accepted, %u incomplete, %u refused "
           "by both, "
           "%u by us only\n",
           (unsigned long)seed, CASES, accepted, incomplete, both_refuse, stricter_than);
    for (size_t i = 0; i < COUNT(stricter); i++) {
        printf("  %6u %s (%s)\n", stricter[i].seen, stricter[i].why, stricter[i].source);
        CHECK(stricter[i].seen > 0, "not stricter any more: %s", stricter[i].why);
    }
    fflush(stdout);
    CHECK(accepted > CASES / 4, "only %u of %d requests accepted", accepted, CASES);
}
END_TEST

/* ---- Responses: what http_format_head() makes, http_parser must read ---- */

static int on_response_head(oracle_parser *p)
{
    theirs.complete = true;
    theirs.keep_alive = http_should_keep_alive(p);
    theirs.minor = p->http_minor;
    return 1; /* no body follows */
}

START_TEST(response_heads)
{
    static const int statuses[] = { 200, 400, 404, 405, 408, 413, 414,
                                    417, 421, 431, 501, 503, 505 };
    static const uint64_t lengths[] = { 0, 1, 9, 10, 4294967296, UINT64_MAX / 16 };
    static const http_parser_settings settings = { .on_headers_complete =
                                                       on_response_head };

    http_date_update();
    for (size_t i = 0; i < COUNT(statuses) * COUNT(lengths) * 8; i++) {
        struct http_head head = {
            .status = statuses[i / 8 % COUNT(statuses)],
            .minor = i & 1,
            .keep_alive = i & 2,
            .type = i & 4 ? SLICE("text/plain") : SLICE(""),
            .fields = i & 4 ? SLICE("Allow: GET, HEAD\r\n") : SLICE(""),
            .content_length = lengths[i / 8 / COUNT(statuses)],
        };
        char text[HTTP_HEAD_ROOM + 64];
        size_t len = http_format_head(text, &head);
        oracle_parser p;

        theirs.complete = false;
        http_parser_init(&p, HTTP_RESPONSE);
        size_t took = http_parser_execute(&p, &settings, text, len);
        ck_assert_msg(HTTP_PARSER_ERRNO(&p) == HPE_OK && took == len && theirs.complete,
                      "http_parser: %s after %zu of %zu bytes: %.*s",
                      http_errno_name(HTTP_PARSER_ERRNO(&p)), took, len, (int)len, text);
        ck_assert_int_eq(p.status_code, head.status);
        ck_assert_msg(theirs.keep_alive == head.keep_alive,
                      "keep-alive %d is read as %d: %.*s", head.keep_alive,
                      theirs.keep_alive, (int)len, text);
        char expected[64];
        sprintf(expected, "\r\nContent-Length: %lu\r\n",
                (unsigned long)head.content_length);
        ck_assert_msg(memmem(text, len, expected, strlen(expected)) != NULL, "%.*s",
                      (int)len, text);
    }
}
END_TEST

/* ---- evhttp: a server in this process, a connection for each request ---- */

static struct delivered {
    unsigned count;
    enum evhttp_cmd_type method;
    char uri[ROOM];
    struct slice body;
} delivered;

static struct event_base *base;

static void on_request(struct evhttp_request *req, void *arg)
{
    struct evbuffer *body = evhttp_request_get_input_buffer(req);
    static char bytes[ROOM];

    (void)arg;
    if (delivered.count++ == 0) { /* what is pipelined behind it is of no interest */
        delivered.method = evhttp_request_get_command(req);
        snprintf(delivered.uri, ROOM, "%s", evhttp_request_get_uri(req));
        delivered.body.base = bytes;
        delivered.body.len = evbuffer_get_length(body);
        evbuffer_copyout(body, bytes, sizeof(bytes));
    }
    evhttp_send_reply(req, 200, "OK", NULL);
    event_base_loopbreak(base);
}

static void on_end(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    (void)arg;
    if (!(what & BEV_EVENT_CONNECTED))
        event_base_loopbreak(base);
}

static const struct {
    enum http_method ours;
    enum evhttp_cmd_type other;
} commands[] = {
    { HTTP_GET, EVHTTP_REQ_GET },       { HTTP_HEAD, EVHTTP_REQ_HEAD },
    { HTTP_POST, EVHTTP_REQ_POST },     { HTTP_PUT, EVHTTP_REQ_PUT },
    { HTTP_DELETE, EVHTTP_REQ_DELETE }, { HTTP_OPTIONS, EVHTTP_REQ_OPTIONS },
    { HTTP_PATCH, EVHTTP_REQ_PATCH },   { HTTP_TRACE, EVHTTP_REQ_TRACE },
};

/* Send `in`, wait until it is delivered or the connection ends. */
static void ask_evhttp(const struct sockaddr_in *address, struct slice in)
{
    static const struct timeval limit = { .tv_sec = 5 };
    struct bufferevent *client = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);

    delivered.count = 0;
    ck_assert_ptr_nonnull(client);
    bufferevent_setcb(client, NULL, NULL, on_end, NULL);
    bufferevent_set_timeouts(client, &limit, &limit);
    bufferevent_enable(client, EV_READ);
    ck_assert_int_eq(bufferevent_socket_connect(client, (const struct sockaddr *)address,
                                                sizeof(*address)),
                     0);
    bufferevent_write(client, in.base, in.len);
    event_base_dispatch(base);
    bufferevent_free(client);
}

/* evhttp hands on the target as it was sent; ours is what is left without scheme and
 * authority (evhttp's own split takes //a/b for one). */
static void check_uri(const struct ours *o, struct slice in)
{
    const char *uri = delivered.uri;
    size_t cut;

    if (uri[0] != '/' && uri[0] != '*') {
        const char *authority = strstr(uri, "://");

        ck_assert_msg(authority != NULL, "evhttp sees [%s] in %s", uri, shown(in));
        uri = authority + 3;
        uri += strcspn(uri, "/?");
    }
    cut = strcspn(uri, "?");
    check_same(o->req.path, cut ? (struct slice){ uri, cut } : SLICE("/"),
               "path (evhttp)", in);
    check_same(o->req.query, text_slice(uri[cut] ? uri + cut + 1 : ""), "query (evhttp)",
               in);
}

static void check_delivered(const struct ours *o, struct slice in)
{
    bool may_have_body = o->req.method & (HTTP_POST | HTTP_PUT | HTTP_PATCH);

    ck_assert_msg(delivered.count > 0, "we accept, evhttp does not: %s", shown(in));
    for (size_t i = 0; i < COUNT(commands); i++)
        ck_assert_msg(commands[i].ours != o->req.method ||
                          commands[i].other == delivered.method,
                      "evhttp sees method %d in %s", (int)delivered.method, shown(in));
    check_uri(o, in);
    if (may_have_body) /* evhttp reads no body behind other methods */
        check_same(o->req.body, delivered.body, "body (evhttp)", in);
}

/* Of what is right, evhttp cannot read empty lines before a request, blanks behind the
 * value of a framing field, and chunk extensions. */
START_TEST(like_evhttp)
{
    struct sockaddr_in address;
    socklen_t address_len = sizeof(address);
    int asked = 0;

    seed_chance();
    signal(SIGPIPE, SIG_IGN);
    plain = true;
    base = event_base_new();
    struct evhttp *server = evhttp_new(base);
    ck_assert_ptr_nonnull(server);
    evhttp_set_allowed_methods(server, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD |
                                           EVHTTP_REQ_POST | EVHTTP_REQ_PUT |
                                           EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS |
                                           EVHTTP_REQ_PATCH | EVHTTP_REQ_TRACE);
    evhttp_set_gencb(server, on_request, NULL);
    struct evhttp_bound_socket *bound =
        evhttp_bind_socket_with_handle(server, "127.0.0.1", 0);
    ck_assert_ptr_nonnull(bound);
    ck_assert_int_eq(getsockname(evhttp_bound_socket_get_fd(bound),
                                 (struct sockaddr *)&address, &address_len),
                     0);

    while (asked < EVHTTP_CASES) {
        struct slice in = make_request();
        struct ours o = ask_ours(in);

        if (o.status != 200)
            continue;
        in.len = o.took;
        ask_evhttp(&address, in);
        check_delivered(&o, in);
        asked++;
    }
    printf("evhttp: seed %lu: %d accepted requests\n", (unsigned long)seed, asked);
    fflush(stdout);
    evhttp_free(server);
    event_base_free(base);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("http_oracle");
    TCase *t = tcase_create("oracles");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, like_http_parser);
    tcase_add_test(t, response_heads);
    tcase_add_test(t, like_evhttp);
    suite_add_tcase(s, t);

    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
