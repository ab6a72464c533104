/* crowd_run.h - the run: its clients, and the account of what became of each request.
 * Does not: read, write, wait or print. */
#ifndef CROWD_RUN_H
#define CROWD_RUN_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "crowd_answer.h"
#include "crowd_histogram.h"
#include "crowd_options.h"

enum failure {
    FAILED_TIMEOUT,      /* no complete answer within --timeout */
    FAILED_RESET,        /* RST before the answer was complete */
    FAILED_CLOSED,       /* FIN before the answer was complete */
    FAILED_WRONG_STATUS, /* not 200, or not HTTP */
    FAILED_WRONG_BODY,
    FAILED_RACED,       /* a reused connection ended, and no byte of an answer came */
    FAILED_AFTER_CLOSE, /* pipelined behind an answer that said "Connection: close" */
    FAILURES
};

struct counts {
    uint64_t offered;            /* connections tried */
    uint64_t established;        /* by the kernel; the server need not know yet */
    uint64_t refused;            /* RST to connect(2), or 503 as the first answer */
    uint64_t refused_at_connect; /* of these, the former */
    uint64_t connect_failed;     /* timed out, or this machine had no port or memory */
    uint64_t connecting;         /* undecided when the run ended */
    uint64_t requests;           /* of which at least one byte was written */
    uint64_t served;             /* complete, correct answers */
    uint64_t late;               /* of these, by --late */
    uint64_t failures[FAILURES]; /* of requests, each under one heading */
    uint64_t unfinished;         /* requests under way when the run ended */
    uint64_t closed_idle;        /* connections that the server closed between requests */
    uint64_t announced_close;    /* answers with an unasked for "Connection: close" */
    uint64_t surplus;            /* connections with bytes that answer no request */
    uint64_t answered_503;
    uint64_t answered_408;
    uint64_t closed_by_server; /* connections whose FIN or RST came before ours */
    uint64_t reset_by_server;  /* of these, by RST */
    uint64_t open;             /* established, just before the end closed them */
    uint64_t bytes_read, bytes_written;
    int connect_errno; /* of the last connect that failed; 0: none did */
};

enum { CLIENT_AWAY, CLIENT_CONNECTING, CLIENT_OPEN, CLIENT_OVER };

struct client {
    struct event io; /* valid while `watching` is not 0 */
    struct event timer;
    int fd;           /* owned; -1: none */
    int state;        /* CLIENT_... */
    short watching;   /* what `io` waits for: EV_READ, EV_WRITE */
    bool settled;     /* its first connection got where it was meant to get */
    bool last;        /* this connection has seen "Connection: close" */
    bool heard;       /* a byte of an answer came since the last request was written */
    bool wrong;       /* this connection gave an answer that is no 200 */
    uint32_t answers; /* complete ones on this connection */
    uint32_t outstanding; /* requests without complete answer */
    size_t sent, to_send; /* bytes of the request text */
    struct answer answer;
    int64_t opened_ns; /* connect(2) was called */
    int64_t established_ns;
    int64_t asked_ns; /* where first_byte and total start */
    uint64_t paced;   /* bytes a slow reader has read; of its request, drip has sent */
};

/* The one run of this process. */
struct run {
    struct crowd_options opt;
    struct counts counts;
    struct histogram connect, first_byte, total, closed_after; /* ns */
    struct event_base *base;                                   /* owned */
    const struct timeval *timeout; /* borrowed from base: --timeout, in its cheap form */
    struct client *clients;        /* owned */
    char *request;                 /* owned: the text, --depth times */
    size_t request_len;            /* of one */
    int started;                   /* clients that had their first go */
    int settled;                   /* clients whose first connection is decided */
    int active;                    /* clients that are not over; 0 ends the run */
    uint64_t granted;              /* requests counted against --requests */
    int64_t began_ns, changed_ns,
        stopped_ns; /* changed: any client settled or was turned away */
    bool stopping;  /* no new requests; those under way are awaited */
};

extern struct run run;

static inline int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Its first connection is where it was meant to get, or never will be. */
void client_settle(struct client *c);

/* All requests without answer have failed. */
void client_fail(struct client *c, enum failure why);

/* Neither the run stops nor is --requests reached. */
bool client_may_ask(void);

#endif
