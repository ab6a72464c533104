/* protocol.h - what a connection speaks: the few functions that differ from one protocol
 * to the next.
 * Does not: read, send or wait; conn.h does. */
#ifndef PROTOCOL_H
#define PROTOCOL_H

#include <stddef.h>
#include <sys/types.h>

struct conn;
struct options;

/* Why a connection ends that the peer has not ended. */
enum refusal {
    REFUSE_LATE,   /* the message did not arrive in time */
    REFUSE_MEMORY, /* there is no room for it */
};

struct protocol {
    const char *name;

    /* Bytes that an unfinished message may have at most. */
    size_t (*message_max)(const struct options *opt);

    /* Take the message at the head of bytes[0 .. *len): hand it to the application, which
     * answers it or defers the answer. Called again with the same bytes and more behind
     * them when 0 came back.
     * Returns  > 0: so many bytes it took; what it pointed to is not needed any more,
     *               unless the answer was deferred;
     *            0: incomplete; *len may have shrunk;
     *          < 0: it is none. The reply that says so is put; the connection ends, and
     *               nothing behind this point is taken for a message.
     * c->behind is set when bytes are behind a complete one.
     * An answer ends with conn_answered(); c->closing, set before, makes it the last.
     * Progress within a message is kept in c->state, all zero before its first byte. */
    ssize_t (*take)(struct conn *c, char *bytes, size_t *len);

    /* The connection will end for this reason: put the reply that says so, if there is
     * one. */
    void (*refuse)(struct conn *c, enum refusal why);

    /* The application has not answered the deferred message in time, and will not any
     * more: answer in its place. c->deferral is there still. The connection goes on. */
    void (*unanswered)(struct conn *c);
};

#endif
