/* crowd_read.h - a client reads: bytes to answers, answers to their place in the account.
 * Does not: decide what comes next; it says what it found, and the client follows. */
#ifndef CROWD_READ_H
#define CROWD_READ_H

#include <stddef.h>

#include "crowd_run.h"

enum reading {
    READ_NONE,  /* no bytes for now */
    READ_SOME,  /* bytes, and the connection goes on */
    READ_LAST,  /* bytes, and the connection has had its answers */
    READ_WRONG, /* bytes that are no right answer: the connection is of no more use */
    READ_END,   /* the server has ended the connection, by FIN */
    READ_RESET  /* and by RST */
};

/* recv(2), once, at most `most` bytes; *n: how many came. */
enum reading client_read(struct client *c, uint64_t most, uint64_t *n);

/* Something came that shall stay unread: is it the end? A refusal is looked at only.
 * READ_NONE: it is not. */
enum reading client_look(struct client *c);

#endif
