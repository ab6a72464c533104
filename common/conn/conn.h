/* conn.h - one client: bytes in, messages up to the app, replies down; limits and
 * deadlines.
 * Does not: wait. On a blocking fd recv(2) and send(2) sleep by themselves; on a
 * non-blocking fd the stage waits for what c->want names and then calls conn_fill() or
 * conn_drain().
 * Does not: know what is spoken; protocol.h does.
 *
 * All connections of a thread share one scratch buffer for input and one for output. A
 * connection has memory of its own only while a message is incomplete or unanswered, or a
 * reply unsent. */
#ifndef CONN_H
#define CONN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/options.h"
#include "base/stop.h"
#include "conn/deadline.h"
#include "conn/out.h"
#include "conn/protocol.h"

enum conn_want {
    WANT_READ,
    WANT_WRITE,
    WANT_CLOSE,
    WANT_REPLY, /* nothing of the peer, but to know that it is gone: EPOLLERR, EPOLLHUP;
                 * an answer, or more of one, has to come first */
};

/* [conn.owner] */
/* Who may touch a connection, where threads share them. In stages without threads it is
 * the loop always. */
enum conn_owner {
    OWNER_LOOP,   /* who waits; the kernel may tell of it, or its time run out */
    OWNER_QUEUE,  /* nobody yet: it is told of, and waits for a thread */
    OWNER_THREAD, /* who serves it now */
};

struct conn {
    int fd;                     /* owned; closed by conn_close() */
    enum conn_want want : 8;    /* what must happen next */
    enum conn_want watched : 8; /* for the stage: what it told the kernel to watch for */
    enum clock clock : 8;       /* which time-out runs */
    bool would_block; /* the last recv or send met EAGAIN: only the kernel knows more */
    bool stalled;     /* `in` holds messages that were not looked at: output backed up */
    bool behind;      /* bytes were read behind the message that is being answered */
    bool closing;     /* close once the output is sent */
    bool cut;         /* closing, behind an answer that broke off */
    bool unread;      /* closing, although the peer may still be sending or reading */
    bool lingering;   /* output sent, write side shut; reading until the peer closes */
    bool interrupted; /* the socket's own time-out has not ended a call in time */
    bool deferred;    /* the message at the head of `in` is answered later */
    _Atomic uint8_t owner; /* enum conn_owner; conn_pass() */
    uint32_t requests;     /* messages answered on this connection */
    uint32_t held;         /* bytes of the deferred message */
    int untaken;           /* lingering: bytes that the peer had not taken, last time */
    int64_t deadline;      /* clock_ms() when the running time-out ends */
    struct conn *prev, *next; /* borrowed: neighbours in the list of the same time-out */
    struct buf in;            /* unfinished or unanswered messages */
    struct out out;           /* replies that are on their way */
    void *deferral;    /* owned: the protocol's, of the deferred message; free(3) */
    void *job;         /* the application's: what it does for the deferred message */
    uint64_t state[8]; /* the protocol's progress in the message at the head of `in` */
};

/* How many are open in this process. */
extern atomic_int conn_count;

/* Once per process, before the first conn_open(). blocking: the sockets that will come
 * are blocking ones; time-outs are then made with SO_RCVTIMEO and SO_SNDTIMEO, socket(7).
 * What is spoken is the application's choice: app.h.
 * opt: borrowed for as long as the process lives. */
void conn_setup(const struct options *opt, bool blocking);

/* Take over a connected socket. NULL, and fd closed: no memory is left. */
struct conn *conn_open(int fd);

/* Close the socket and free `c`. */
void conn_close(struct conn *c);

/* [conn.fill-drain] */
/* Read what the peer sent, once, answer every complete message in it with one send.
 * While an answer is deferred, or more of one has to come, nothing is read; it is only
 * seen whether the peer is gone.
 * After: c->want names the next step; end of stream or reset is WANT_CLOSE.
 * Sources: recv(2); RFC 9112 sections 2.2, 9.3.2. */
void conn_fill(struct conn *c);

/* Send what is left of the replies; when all is sent, answer the messages that had
 * already been read. After: as conn_fill(). Sources: send(2). */
void conn_drain(struct conn *c);

/* Milliseconds until the first deadline, or less; at least 0. -1: there is none. For
 * select(2) and kin. */
int conn_timeout_ms(void);

/* A connection whose time is up, or one whose answer came (conn_answered()): conn_drain()
 * if c->want is WANT_WRITE, else conn_fill(), tries once more and then ends it, or goes
 * on. NULL: no more of them. While the process is stopping, idle connections are among
 * them. Call after a batch of events, never within: the caller may free what is
 * returned. */
struct conn *conn_expired(void);

/* --- for stages whose threads share connections --------------------------------------- */

/* It changes hands. That it was in those hands is asserted: of two threads that both think
 * that it is theirs, one fails here. Deadlines are kept for who waits: deadline_share(). */
void conn_pass(struct conn *c, enum conn_owner from, enum conn_owner to);

/* For a loop that serves nobody: the time of one that conn_expired() has named is up. If it
 * can be read or written, what there is came in time perhaps: whoever serves it judges, and
 * until then conn_expired() names it no more. Else end it. No message goes to the
 * application, for its handler might wait. After: as conn_fill(). */
void conn_expire(struct conn *c);

/* --- for protocols ------------------------------------------------------------------ */

/* Within take(): the answer to the message at hand will come later, from wherever; until
 * then the connection keeps the message's bytes, and neither reads nor takes another.
 * Returns their new place; NULL: no memory, answer at once. deferral: freed by free(3)
 * when the answer has come or is not wanted any more.
 * What becomes of it:
 *   the answer comes    conn_answered(); those that came behind are answered next
 *   the peer resets     app.on_cancel(), then app.on_close()
 *   it shuts its side   nothing: it may wait for the answer still
 *   the time is over    app.on_cancel(), then protocol.unanswered(); it goes on
 *   the process stops   as with any message in flight: it is waited for
 * In a stage whose sockets block this is a bug, and an assertion fails: nobody else would
 * run there, and so no answer ever come. */
char *conn_defer(struct conn *c, void *deferral);

/* The deferred answer is not there yet, but on its way: its time begins anew. */
void conn_postpone(struct conn *c);

/* An answer was put, to the message at hand or to a deferred one. Of the latter the bytes
 * and the deferral are gone afterwards; what was put has been sent as far as the socket
 * took it, and conn_expired() will name the connection, for the rest. */
void conn_answered(struct conn *c);

/* The source of the body that goes out to c, which was late, has more, or has ended: what
 * the socket takes is sent, and unless it is late again conn_expired() will name the
 * connection, for the rest. Never within pull() or end(). Afterwards the source may be
 * gone. A body that is late for longer than an answer may be is broken off, and the
 * connection reset: all that tells the peer, whatever was to be the body's end. */
void conn_pull_on(struct conn *c);

/* The end of the connection, whenever it comes, will be a reset. SO_LINGER in socket(7). */
void conn_reset(struct conn *c);

/* Will the connection be closed behind this answer, because the process stops? */
static inline bool conn_is_last(const struct conn *c)
{
    return stopping && !(c->held > 0 ? c->in.len > c->held : c->behind);
}

/* --- for serve.c -------------------------------------------------------------------- */

/* Enter n more answers into the scoreboard. */
void conn_count_answers(const struct conn *c, uint32_t n);

/* Bytes of input that one connection may hold: one message, and one read behind it. */
size_t conn_input_limit(void);

#endif
