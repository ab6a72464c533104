/* slow_answer.c - what was asked to a right answer, in parts that wrong ones are made of.
 * Does not: send. */
#include <event2/util.h>

#include "slow_upstream.h"

void answer_text(struct connection *c, const char *text)
{
    evbuffer_add_printf(c->out, "%s", text);
}

/* Fields that a gateway must not pass on (RFC 9110 section 7.6.1). */
static const char hop_by_hop[] = "Connection: keep-alive, X-Hop\r\n"
                                 "X-Hop: 1\r\n"
                                 "Keep-Alive: timeout=60\r\n"
                                 "Proxy-Authenticate: Basic realm=\"hop\"\r\n"
                                 "Proxy-Connection: keep-alive\r\n"
                                 "TE: trailers\r\n";

void answer_status(struct connection *c, const char *version)
{
    const struct asked *a = &c->asked;
    char date[64];

    evutil_date_rfc1123(date, sizeof(date), NULL);
    evbuffer_add_printf(c->out,
                        "%s %d %s\r\n"
                        "Date: %s\r\n"
                        "Server: slow_upstream\r\n"
                        "Content-Type: %s\r\n"
                        "ETag: \"letters-%llu\"\r\n"
                        "Set-Cookie: a=1\r\n"
                        "Set-Cookie: b=2\r\n",
                        version, a->status, a->status == 200 ? "OK" : "As Asked", date,
                        a->type, (unsigned long long)a->letters);
    if (a->fields)
        evbuffer_add_buffer(c->out, a->fields);
    if (a->hop)
        answer_text(c, hop_by_hop);
}

/* 204 and 304 have no body and need no frame (RFC 9112 section 6.3). */
static bool is_bodyless(const struct asked *a)
{
    return a->status == 204 || a->status == 304;
}

void answer_framing(struct connection *c, uint64_t len)
{
    struct asked *a = &c->asked;

    if (a->frame == FRAME_CLOSE)
        a->last = true;
    if (a->frame == FRAME_LENGTH && !is_bodyless(a))
        evbuffer_add_printf(c->out, "Content-Length: %llu\r\n", (unsigned long long)len);
    if (a->frame == FRAME_CHUNKED && !is_bodyless(a))
        answer_text(c, "Transfer-Encoding: chunked\r\n");
    answer_text(c, a->last ? "Connection: close\r\n\r\n" : "\r\n");
}

uint64_t answer_body_len(const struct connection *c)
{
    return c->asked.body ? evbuffer_get_length(c->asked.body) : c->asked.letters;
}

void answer_body(struct connection *c, uint64_t len, bool in_chunks)
{
    struct evbuffer *body = c->asked.body;

    if (body == NULL) {
        c->letters = len;
        c->in_chunks = in_chunks;
        return;
    }
    if (in_chunks && len > 0)
        evbuffer_add_printf(c->out, "%zx\r\n", (size_t)len);
    evbuffer_remove_buffer(body, c->out, (size_t)len);
    if (in_chunks)
        answer_text(c, len > 0 ? "\r\n0\r\n\r\n" : "0\r\n\r\n");
}

void answer_right(struct connection *c)
{
    uint64_t len = answer_body_len(c);
    bool in_chunks = c->asked.frame == FRAME_CHUNKED;

    answer_status(c, "HTTP/1.1");
    answer_framing(c, len);
    if (c->asked.bodyless || is_bodyless(&c->asked))
        return;
    answer_body(c, len, in_chunks);
    if (in_chunks && len == 0 && c->asked.body == NULL)
        answer_text(c, "0\r\n\r\n");
}

/* Byte i of the body is a letter that i alone decides, so a reader can check the
 * order. */
static void make_letters(struct evbuffer *out, uint64_t offset, size_t len)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    static char alphabets[26 * 256]; /* again and again */

    if (*alphabets == '\0')
        for (size_t i = 0; i < sizeof(alphabets); i++)
            alphabets[i] = letters[i % 26];
    while (len > 0) {
        size_t from = offset % 26;
        size_t n = sizeof(alphabets) - from;

        if (n > len)
            n = len;
        evbuffer_add(out, alphabets + from, n);
        offset += n;
        len -= n;
    }
}

void answer_make(struct connection *c)
{
    size_t waiting = evbuffer_get_length(c->out);
    size_t n = waiting < PIECE ? PIECE - waiting : 0;

    if (n > c->letters)
        n = (size_t)c->letters;
    if (n == 0)
        return;
    if (c->in_chunks)
        evbuffer_add_printf(c->out, "%zx\r\n", n);
    make_letters(c->out, c->made, n);
    c->made += n;
    c->letters -= n;
    if (c->in_chunks)
        answer_text(c, c->letters > 0 ? "\r\n" : "\r\n0\r\n\r\n");
}
