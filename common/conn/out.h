/* out.h - bytes on their way to the peer: into the thread's scratch, from there to
 * send(2), and what the socket does not take into memory of the connection.
 * Does not: decide what the connection does next; it says what happened. */
#ifndef OUT_H
#define OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

struct conn;

/* A reply body that is made on the way out: write bytes offset .. offset+len of it to
 * out. Called again for bytes that the socket did not take, so it must be a pure
 * function. */
typedef void out_produce(uint64_t offset, char *out, size_t len);

/* A body that comes from elsewhere while it goes out; how, its owner knows, whose struct
 * begins with this one. No more of it is asked for than the socket takes, so at most
 * SCRATCH bytes of it are here. */
struct out_source {
    /* Put up to `size` bytes, at least OUT_PIECE, into `room`. May wait for them, if the
     * stage's handlers may; room is written to only when it does not wait any more.
     * Returns how many; 0: the body has ended; OUT_BROKEN: it broke off; OUT_LATER: there
     * are none now, and conn_pull_on() will be called when there are. */
    ssize_t (*pull)(struct out_source *source, char *room, size_t size);
    /* Will pull() answer at once, with something else than OUT_LATER? */
    bool (*ready)(struct out_source *source);
    /* Not wanted any more, whether it has ended or the peer is gone: free it. Once. */
    void (*end)(struct out_source *source);
};
enum { OUT_BROKEN = -1, OUT_LATER = -2, OUT_PIECE = 4096 };

enum out_body { OUT_NONE, OUT_PRODUCED, OUT_PULLED };

/* All zero: nothing is on its way. */
struct out {
    struct buf kept;    /* bytes that send(2) did not take at once */
    uint32_t kept_sent; /* how many of them it took since */
    bool broken;        /* send(2) failed, or no memory is left: nothing more goes out */
    uint8_t body;       /* enum out_body: what follows behind them */
    bool late;          /* the source has nothing now, and will say when it has */
    union {
        out_produce *produce;      /* borrowed */
        struct out_source *source; /* owned */
    };
    uint64_t produced, length; /* bytes of the produced body sent so far, and in all */
};

/* Send these bytes, behind those that are on their way. They are copied or sent before
 * this returns. What the socket does not take is kept up to the longest message and twice
 * SCRATCH; a reply beyond that breaks the connection, and must be produced instead. */
void out_put(struct conn *c, const char *bytes, size_t len);

/* The same in two steps: room for `size` bytes, to be filled in; then how many there are.
 * NULL: more than there ever is, SCRATCH. */
char *out_room(struct conn *c, size_t size);
void out_add(struct conn *c, size_t len);

/* Behind what was put: `length` bytes that `produce` makes piece by piece. */
void out_put_produced(struct conn *c, uint64_t length, out_produce *produce);

/* Behind what was put: what `source`, which is taken over, gives until it ends. If it
 * breaks off, the connection is `closing`, and `cut`. */
void out_put_pulled(struct conn *c, struct out_source *source);

/* Send what is ready. Returns how many bytes left. After: out_pending(), c->out.broken.
 * Once per turn; a blocking socket may sleep. */
uint64_t out_flush(struct conn *c);

/* Is anything left that the socket did not take, or that did not come yet? */
static inline bool out_pending(const struct out *out)
{
    return out->kept.len > 0 || out->body != OUT_NONE;
}

/* Is it the source that the rest waits for, and not the socket? */
static inline bool out_late(const struct out *out)
{
    return out->late;
}

void out_free(struct conn *c);

#endif
