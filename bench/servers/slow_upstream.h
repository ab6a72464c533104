/* slow_upstream.h - what the parts of slow_upstream share: an upstream that takes its
 * time, and misbehaves on demand.
 * Does not: belong to any server; nothing in common/ knows it.
 *
 *   slow_upstream.c     the command line, the listener, signals
 *   slow_connection.c   one connection: its beginning, its events, its end
 *   slow_step.c         the same, step by step: read, wait, answer, next
 *   slow_request.c      bytes to what was asked
 *   slow_query.c        the query to how it shall be answered
 *   slow_answer.c       what was asked to a right answer
 *   slow_fault.c        the table of faults: answers that are wrong
 *   slow_counts.c       what was asked how often, and GET /counts
 */
#ifndef SLOW_UPSTREAM_H
#define SLOW_UPSTREAM_H

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/listener.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/queue.h>

enum {
    MAX_CONNECTIONS = 20000,
    MAX_TARGETS = 512,      /* with a count of their own */
    MAX_MS = 600000,        /* of ms= and gap= */
    MAX_HEAD = 65536,       /* bytes of a request's head: 431 above */
    MAX_ECHO = 8 << 20,     /* bytes of a body that is echoed: 413 above */
    MAX_LETTERS = 64 << 20, /* of n= */
    DEFAULT_LETTERS = 26,
    DEFAULT_GAP_MS = 10,
    PIECE = 65536, /* bytes read at a time; bytes made before they are sent */
};

struct connection;

/* A way to answer. */
struct fault {
    const char *name; /* of fault= */
    const char *help;
    /* Put the answer into c->out. NULL: never called, it waits for ever. */
    void (*answer)(struct connection *c);
    /* gap= ms after all of it was sent. NULL: the next request. */
    void (*after)(struct connection *c);
    bool early; /* the answer does not wait for the request's body */
};

/* Find one. fault_find(""): the right answer. NULL: there is none of this name. */
const struct fault *fault_find(const char *name);

/* Print a line for each. */
void fault_list(FILE *out);

/* ---- a request ---- */

enum frame { FRAME_LENGTH, FRAME_CHUNKED, FRAME_CLOSE };
enum chunk { CHUNK_SIZE, CHUNK_DATA, CHUNK_END, CHUNK_TRAILERS };

/* What was asked, and what is left of its body. */
struct asked {
    const struct fault *fault; /* borrowed, from the table */
    struct evbuffer *body;     /* owned: sent instead of letters; or NULL */
    struct evbuffer *fields;   /* owned: show=fields, field lines to send; or NULL */
    const char *type;          /* Content-Type of the answer; static */
    uint64_t letters;          /* n= */
    uint64_t missing;          /* bytes of the request's body, or chunk, to come */
    int ms, gap_ms, status;
    enum frame frame;
    enum chunk chunk;
    bool chunked;          /* the request's body is, and its end has not come */
    bool echo;             /* the request's body goes into `body` */
    bool bodyless;         /* HEAD */
    bool hop;              /* hop=1: send hop-by-hop fields */
    bool last;             /* close after the answer */
    bool expects_continue; /* and did not get it yet */
    bool observer;         /* /counts: not counted itself; `body` is to be filled */
};

/* Read a head from `in`, count it, and fill in `a`. What cannot be served is turned into
 * a right answer that says why (400, 431). False: incomplete, `a` is as it was. */
bool request_read_head(struct asked *a, struct evbuffer *in);

/* Take what is there of the body. True: it is complete. It may end in a refusal, too. */
bool request_read_body(struct asked *a, struct evbuffer *in);

/* Between its two files: slow_query.c. Do as the query says. head: the request's, with
 * NUL behind it. */
void request_read_query(struct asked *a, const char *head, const char *query);

/* Answer something else instead: an empty body, which is returned, to be filled; a
 * text. */
struct evbuffer *request_reply(struct asked *a, int status, const char *type);
void request_refuse(struct asked *a, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Free what it owns; of a body that still comes nothing is kept. */
void request_free(struct asked *a);

/* ---- a connection ---- */

enum state {
    READING_HEAD,
    READING_BODY,
    WAITING,   /* ms=: the request is complete, the answer has not begun */
    ANSWERING, /* bytes of it are left */
    IN_GAP,    /* gap=: it was sent */
    SILENT,    /* for ever: what comes is dropped */
    TRAPPED,   /* the next byte that comes ends it */
};

struct connection {
    LIST_ENTRY(connection) all;
    struct event io;    /* valid while `watching` is not 0 */
    struct event timer; /* of WAITING, drip, IN_GAP */
    struct asked asked;
    struct evbuffer *in;  /* owned: read, not yet looked at; NULL: none */
    struct evbuffer *out; /* owned: to be sent; NULL: none */
    uint64_t letters;     /* still to be made, behind `out` */
    uint64_t made;        /* letters of this answer so far */
    int fd;               /* owned */
    enum state state;
    short watching;  /* what `io` waits for: EV_READ, EV_WRITE */
    bool in_chunks;  /* letters are framed as chunks, and a last one follows */
    bool drip;       /* a byte each gap= ms */
    bool answered;   /* early: the body is still to be read */
    bool used;       /* had a request */
    bool observer;   /* its first request was for /counts: not counted */
    bool with_reset; /* a trapped one ends in RST, not FIN */
};

/* Take over an accepted, non-blocking socket. */
void connection_open(int fd);

/* End it, and free it: with FIN; with RST; all. */
void connection_close(struct connection *c);
void connection_reset(struct connection *c);
void connection_close_all(void);

/* Between its two files: slow_step.c. Take steps until an event must come first. Make the
 * answer, and be ANSWERING. */
void connection_run(struct connection *c);
void connection_answer(struct connection *c);

/* And slow_connection.c. The client went. Be in this state, and count who waits. Wait for
 * EV_READ, EV_WRITE, or 0: nothing. Let on_timer() be called in so many ms. */
void connection_left(struct connection *c);
void connection_set_state(struct connection *c, enum state state);
void connection_watch(struct connection *c, short what);
void connection_set_timer(struct connection *c, int ms);

/* For struct fault's `after`. Stay open, mute. End when the next request comes, which is
 * counted and not answered: with FIN; with RST. End now, but count what has come. Send an
 * answer that nobody asked for. */
void connection_stay(struct connection *c);
void connection_trap(struct connection *c);
void connection_trap_reset(struct connection *c);
void connection_leave(struct connection *c);
void connection_speak(struct connection *c);

/* ---- an answer ---- */

/* The right one. */
void answer_right(struct connection *c);

/* Its parts, for wrong ones. Status line and fields, up to those that frame the body; the
 * fields that do, for a body of len bytes, and the blank line; the first len bytes of the
 * body, and their frame. */
void answer_status(struct connection *c, const char *version);
void answer_framing(struct connection *c, uint64_t len);
void answer_body(struct connection *c, uint64_t len, bool in_chunks);
void answer_text(struct connection *c, const char *text);

/* Bytes of the right body. */
uint64_t answer_body_len(const struct connection *c);

/* Make letters until PIECE bytes wait in c->out, or all are made. */
void answer_make(struct connection *c);

/* ---- counts ---- */

struct counts {
    uint64_t accepted;     /* connections */
    uint64_t open;         /* of them */
    uint64_t waiting;      /* requests whose answer has not begun */
    uint64_t most_waiting; /* at a time */
    uint64_t requests;     /* heads that came whole */
    uint64_t partial;      /* heads that did not */
    uint64_t left;         /* requests whose client went before it was answered whole */
};
extern struct counts counts;

void counts_asked(const char *method, const char *target);

/* Forget all but what is open and waiting. */
void counts_reset(void);

/* As JSON. */
void counts_print(struct evbuffer *out);

/* ---- the program ---- */

struct upstream {
    struct event_base *base;         /* owned */
    struct evconnlistener *listener; /* owned; NULL: --no-accept */
    int connections;                 /* open */
    int max_connections;
    bool silent;
};
extern struct upstream upstream;

/* Unless ok, the end of the program: what failed, and errno. */
void must(bool ok, const char *what);

/* An empty buffer, or the end of the program. */
struct evbuffer *buffer_new(void);

#endif
