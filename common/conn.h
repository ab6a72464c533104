/* conn.h - one client: bytes in, requests up to the app, replies down; limits and
 * deadlines.
 * Does not: wait. On a blocking fd recv(2) and send(2) sleep by themselves; on a
 * non-blocking fd the stage waits for what c->want names and then calls conn_fill() or
 * conn_drain().
 *
 * All connections of a process share one scratch buffer for input and one for output. A
 * connection has memory of its own only while a request is incomplete or a reply
 * unsent. */
#ifndef CONN_H
#define CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "http.h"
#include "options.h"

enum conn_want { WANT_READ, WANT_WRITE, WANT_CLOSE };

/* A reply body that is made on the way out: write bytes offset .. offset+len of it to
 * out. Called again for bytes that the socket did not take, so it must be a pure
 * function. */
typedef void conn_produce(uint64_t offset, char *out, size_t len);

struct conn {
    int fd;                 /* owned; closed by conn_close() */
    enum conn_want want;    /* what must happen next */
    enum conn_want watched; /* for the stage: what it told the kernel to watch for */
    bool would_block;  /* the last recv or send met EAGAIN: only the kernel knows more */
    bool stalled;      /* `in` holds requests that were not looked at: output backed up */
    bool behind;       /* bytes were read behind the request that is being answered */
    bool closing;      /* close once the output is sent */
    bool unread;       /* closing, although the peer may still be sending or reading */
    bool lingering;    /* output sent, write side shut; reading until the peer closes */
    bool interrupted;  /* the socket's own time-out has not ended a call in time */
    uint32_t clock;    /* which time-out runs: conn.c */
    uint32_t requests; /* answered on this connection */
    int64_t deadline;  /* clock_ms() when the running time-out ends */
    struct conn *prev, *next;  /* borrowed: neighbours in the list of the same time-out */
    struct http_parser parser; /* progress in the request at the head of `in` */
    struct buf in;         /* bytes of an unfinished request, and what came behind it */
    struct buf out;        /* bytes of replies that send(2) did not take at once */
    uint32_t out_sent;     /* how many of them it took since */
    int untaken;           /* lingering: bytes that the peer had not taken, last time */
    conn_produce *produce; /* borrowed; NULL: no body is being produced */
    uint64_t produced, length; /* bytes of the produced body sent so far, and in all */
};

/* How many are open in this process. */
extern int conn_count;

/* Once per process, before the first conn_open(). blocking: the sockets that will come
 * are blocking ones; time-outs are then made with SO_RCVTIMEO and SO_SNDTIMEO, socket(7).
 * opt: borrowed for as long as the process lives. */
void conn_setup(const struct options *opt, bool blocking);

/* Take over a connected socket. NULL, and fd closed: no memory is left. */
struct conn *conn_open(int fd);

/* Close the socket and free `c`. */
void conn_close(struct conn *c);

/* Read what the peer sent, once, answer every complete request in it with one send.
 * After: c->want names the next step; end of stream or reset is WANT_CLOSE.
 * Sources: recv(2); RFC 9112 sections 2.2, 9.3.2. */
void conn_fill(struct conn *c);

/* Send what is left of the replies; when all is sent, answer the requests that had
 * already been read. After: as conn_fill(). Sources: send(2). */
void conn_drain(struct conn *c);

/* Milliseconds until the first deadline, at least 0; -1: there is none. For select(2) and
 * kin. */
int conn_timeout_ms(void);

/* A connection whose time is up: conn_fill() or conn_drain(), whichever c->want names,
 * tries once more and then ends it; NULL: no more of them. While the process is stopping,
 * idle connections are among them. Call after a batch of events, never within: the caller
 * may free what is returned. */
struct conn *conn_expired(void);

/* For the application's on_message(): the answer to `req`, exactly one. The body is
 * copied or sent before this returns. type, fields: as in struct http_head. */
void conn_reply(struct conn *c, const struct request *req, int status, struct slice type,
                struct slice fields, struct slice body);

/* The same with a body of `length` bytes that `produce` makes piece by piece. */
void conn_reply_produced(struct conn *c, const struct request *req, struct slice type,
                         uint64_t length, conn_produce *produce);

#endif
