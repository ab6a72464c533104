/* slow_fault.c - the table of faults: what a gateway must expect of an upstream.
 * Does not: send; hide that an answer is wrong. */
#include <string.h>

#include "slow_upstream.h"

static void nothing(struct connection *c)
{
    (void)c;
}

static void drip(struct connection *c)
{
    answer_right(c);
    c->drip = true;
}

static void http10(struct connection *c)
{
    c->asked.last = true;
    answer_status(c, "HTTP/1.0");
    answer_framing(c, answer_body_len(c));
    if (!c->asked.bodyless)
        answer_body(c, answer_body_len(c), c->asked.frame == FRAME_CHUNKED);
}

static void interim(struct connection *c)
{
    answer_text(c, "HTTP/1.1 100 Continue\r\n\r\n"
                   "HTTP/1.1 103 Early Hints\r\nLink: </style>; rel=preload\r\n\r\n");
    answer_right(c);
}

static void interim_flood(struct connection *c)
{
    for (int i = 0; i < 10000; i++)
        answer_text(c, "HTTP/1.1 103 Early Hints\r\nLink: </style>; rel=preload\r\n\r\n");
    answer_right(c);
}

static void upgrade(struct connection *c)
{
    answer_text(c, "HTTP/1.1 101 Switching Protocols\r\n"
                   "Connection: upgrade\r\nUpgrade: nonsense\r\n\r\n");
}

static void garbage(struct connection *c)
{
    answer_text(c, "\x16\x03\x01 is no status line\r\n\r\n");
}

static void half_head(struct connection *c)
{
    answer_text(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Le");
}

static void huge_head(struct connection *c)
{
    answer_status(c, "HTTP/1.1");
    for (int i = 0; i < 20000; i++)
        evbuffer_add_printf(c->out, "X-Field-%05d: 0123456789012345678901234567890\r\n",
                            i);
    answer_framing(c, answer_body_len(c));
    answer_body(c, answer_body_len(c), c->asked.frame == FRAME_CHUNKED);
}

static void two_lengths(struct connection *c)
{
    c->asked.frame = FRAME_LENGTH;
    answer_status(c, "HTTP/1.1");
    evbuffer_add_printf(c->out, "Content-Length: %llu\r\n",
                        (unsigned long long)answer_body_len(c) + 7);
    answer_framing(c, answer_body_len(c));
    answer_body(c, answer_body_len(c), false);
}

static void both_frames(struct connection *c)
{
    c->asked.frame = FRAME_CHUNKED;
    answer_status(c, "HTTP/1.1");
    evbuffer_add_printf(c->out, "Content-Length: %llu\r\n",
                        (unsigned long long)answer_body_len(c));
    answer_framing(c, answer_body_len(c));
    answer_body(c, answer_body_len(c), true);
}

/* Half of the body that the head promises; in chunks: half of one that is promised. */
static void half_body(struct connection *c)
{
    uint64_t len = answer_body_len(c);

    answer_status(c, "HTTP/1.1");
    answer_framing(c, len);
    if (c->asked.frame == FRAME_CHUNKED)
        evbuffer_add_printf(c->out, "%llx\r\n", (unsigned long long)len);
    answer_body(c, len / 2, false);
}

static void long_body(struct connection *c)
{
    c->asked.frame = FRAME_LENGTH;
    answer_status(c, "HTTP/1.1");
    answer_framing(c, answer_body_len(c));
    answer_body(c, answer_body_len(c) + 7, false);
}

static void endless(struct connection *c)
{
    answer_status(c, "HTTP/1.1");
    answer_framing(c, INT64_MAX);
    answer_body(c, INT64_MAX, c->asked.frame == FRAME_CHUNKED);
}

/* Bytes where no body can be: behind 204, 304, or the answer to HEAD. */
static void forbidden_body(struct connection *c)
{
    if (!c->asked.bodyless && c->asked.status == 200)
        c->asked.status = 204;
    answer_status(c, "HTTP/1.1");
    answer_framing(c, answer_body_len(c));
    answer_body(c, answer_body_len(c), false);
}

/* A head for a body in chunks; the chunks follow as they are. */
static void chunks(struct connection *c, const char *text)
{
    c->asked.frame = FRAME_CHUNKED;
    answer_status(c, "HTTP/1.1");
    answer_framing(c, 0);
    answer_text(c, text);
}

static void chunk_size(struct connection *c)
{
    chunks(c, "5\r\nabcde\r\nxyz\r\nfghij\r\n0\r\n\r\n");
}

static void chunk_huge(struct connection *c)
{
    chunks(c, "5\r\nabcde\r\n10000000000000005\r\nfghij\r\n0\r\n\r\n");
}

static void chunk_end(struct connection *c)
{
    chunks(c, "5\r\nabcde5\r\nfghij\r\n0\r\n\r\n");
}

static void chunk_cut(struct connection *c)
{
    chunks(c, "5\r\nabcde\r\n5\r\nfg");
}

static void chunk_last(struct connection *c)
{
    chunks(c, "5\r\nabcde\r\n5\r\nfghij\r\n");
}

static const struct fault faults[] = {
    { "", "none: the right answer", answer_right, NULL, false },
    { "never", "never answers", NULL, NULL, false },
    { "close", "closes instead of answering", nothing, connection_close, false },
    { "reset", "resets instead of answering", nothing, connection_reset, false },
    { "drip", "the right answer, a byte each gap=", drip, NULL, false },
    { "http10", "an answer of HTTP/1.0, then close", http10, NULL, false },
    { "interim", "100 and 103 before the answer", interim, NULL, false },
    { "interim-flood", "103, 10,000 times, before the answer", interim_flood, NULL,
      false },
    { "upgrade", "101 that nobody asked for, then silence", upgrade, connection_stay,
      false },
    { "garbage", "no status line, then silence", garbage, connection_stay, false },
    { "half-head", "half a head, then silence", half_head, connection_stay, false },
    { "half-head-close", "half a head, then close", half_head, connection_close, false },
    { "huge-head", "a head of a megabyte", huge_head, NULL, false },
    { "two-lengths", "two values of Content-Length", two_lengths, NULL, false },
    { "both-frames", "Content-Length and chunks", both_frames, NULL, false },
    { "short", "half of the body, then close", half_body, connection_close, false },
    { "stall", "half of the body, then silence", half_body, connection_stay, false },
    { "reset-body", "half of the body, then reset", half_body, connection_reset, false },
    { "long", "7 bytes more than Content-Length", long_body, NULL, false },
    { "endless", "a body without end", endless, NULL, false },
    { "forbidden-body", "a body behind 204, 304 (status=), or HEAD", forbidden_body, NULL,
      false },
    { "chunk-size", "a chunk's size that is no number", chunk_size, NULL, false },
    { "chunk-huge", "a chunk's size of more than 64 bits", chunk_huge, NULL, false },
    { "chunk-end", "a chunk without CRLF behind it", chunk_end, NULL, false },
    { "chunk-cut", "half a chunk, then close", chunk_cut, connection_close, false },
    { "chunk-last", "no last chunk, then close", chunk_last, connection_close, false },
    { "early", "answers before it reads the request's body", answer_right, NULL, true },
    { "early-close", "the same, then closes without reading it", answer_right,
      connection_close, true },
    { "close-idle", "answers; the next request is closed on", answer_right,
      connection_trap, false },
    { "reset-idle", "answers; the next request is reset", answer_right,
      connection_trap_reset, false },
    { "close-after", "answers, and closes gap= ms later", answer_right, connection_leave,
      false },
    { "speak", "answers, and again gap= ms later, unasked", answer_right,
      connection_speak, false },
};
enum { FAULTS = sizeof(faults) / sizeof(faults[0]) };

const struct fault *fault_find(const char *name)
{
    for (int i = 0; i < FAULTS; i++)
        if (strcmp(faults[i].name, name) == 0)
            return &faults[i];
    return NULL;
}

void fault_list(FILE *out)
{
    for (int i = 1; i < FAULTS; i++)
        fprintf(out, "  %-16s %s\n", faults[i].name, faults[i].help);
}
