/* turn.h - what a thread needs while it serves one connection after the other: the time,
 * scratch memory, lists of deadlines. Each thread that serves has its own.
 * Does not: live longer than a turn, but for the lists. */
#ifndef TURN_H
#define TURN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/options.h"
#include "conn/deadline.h"
#include "conn/protocol.h"

enum { SCRATCH = 65536 }; /* bytes read or written at once */

struct turn {
    int64_t now;                  /* clock_ms() of this turn */
    struct deadlines own;         /* of the connections of this thread ... */
    struct deadlines *shared;     /* borrowed: ... unless threads share them; or NULL */
    uint32_t last_id;             /* counts the connections of this thread */
    size_t input_len, output_len; /* bytes in use; 0 between two turns */
    struct conn *replying;        /* borrowed: whose replies are in `output`, if any */
    struct conn *conn;            /* borrowed: whose message is with the application */
    char *message;                /* it, at the head of ... */
    size_t *left;                 /* ... so many bytes */
    char input[SCRATCH];          /* what was just read */
    char output[SCRATCH];         /* replies of this turn */
};

extern _Thread_local struct turn turn;

/* What does not change while a process serves; conn_setup(). */
struct serving {
    const struct options *opt;       /* borrowed */
    const struct protocol *protocol; /* borrowed */
    bool blocking;                   /* the sockets sleep by themselves */
};

extern struct serving serving;

/* For a stage that runs another connection in the middle of a call, because the first
 * has to wait there: keep what the turn holds of it, and put it back before it goes on.
 * That connection stands in its list of deadlines still: conn_expired() may name it, and
 * the stage must not serve it then. Owned by the caller between the two; NULL: nothing was held, or (errno is ENOMEM) there
 * is no memory and nothing has changed. */
struct turn_kept *turn_put_aside(void);
void turn_take_up(struct turn_kept *kept);

#endif
