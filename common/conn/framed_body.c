/* framed_body.c - see framed_body.h.
 * Does not: copy the body; it is pulled to its place between the frame's bytes. */
#include "conn/framed_body.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conn/conn.h"
#include "conn/turn.h"

struct framed {
    struct out_source source; /* first */
    struct out_source *body;  /* owned; NULL: it has ended */
    struct conn *c;           /* borrowed: it owns this */
    bool chunked;
};

/* A chunk's size is written once it is known, so it has a fixed width; zeros in front are
 * allowed. RFC 9112 section 7.1. */
enum { SIZE_LINE = 6, CRLF = 2, CHUNK_MAX = 0xffff };
_Static_assert(SCRATCH - SIZE_LINE - CRLF <= CHUNK_MAX, "four digits are enough");

static void end_body(struct framed *f)
{
    f->body->end(f->body);
    f->body = NULL;
}

static ssize_t pull_chunk(struct framed *f, char *room, size_t size)
{
    char line[SIZE_LINE + 1];
    ssize_t n = f->body->pull(f->body, room + SIZE_LINE, size - SIZE_LINE - CRLF);

    if (n < 0)
        return n;
    if (n == 0) {
        end_body(f);
        memcpy(room, "0\r\n\r\n", 5);
        return 5;
    }
    snprintf(line, sizeof(line), "%04x\r\n", (unsigned)n & CHUNK_MAX);
    memcpy(room, line, SIZE_LINE);
    memcpy(room + SIZE_LINE + n, "\r\n", CRLF);
    return SIZE_LINE + n + CRLF;
}

/* The end of the connection is that of the body; of one that broke off it has to look
 * otherwise. */
static ssize_t pull_plain(struct framed *f, char *room, size_t size)
{
    ssize_t n = f->body->pull(f->body, room, size);

    if (n == OUT_BROKEN)
        conn_reset(f->c);
    return n;
}

static ssize_t pull(struct out_source *source, char *room, size_t size)
{
    struct framed *f = (struct framed *)source;

    if (f->body == NULL)
        return 0;
    return f->chunked ? pull_chunk(f, room, size) : pull_plain(f, room, size);
}

static bool ready(struct out_source *source)
{
    struct framed *f = (struct framed *)source;

    return f->body == NULL || f->body->ready(f->body);
}

static void end(struct out_source *source)
{
    struct framed *f = (struct framed *)source;

    if (f->body)
        end_body(f);
    free(f);
}

struct out_source *framed_body(struct conn *c, struct out_source *body, bool chunked)
{
    struct framed *f = malloc(sizeof(*f));

    if (f == NULL)
        return NULL;
    *f = (struct framed){ { pull, ready, end }, body, c, chunked };
    return &f->source;
}
