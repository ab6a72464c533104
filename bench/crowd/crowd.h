/* crowd.h - what the parts of the crowd client share: options, counters, the run.
 * Does not: belong to any server; nothing in common/ knows it.
 *
 *   crowd.c           main, the pace of new clients, "ready", the end
 *   crowd_options.c   the command line
 *   crowd_client.c    one client: connect, ask, wait, fail, begin again
 *   crowd_read.c      the same client: read, judge, account
 *   crowd_answer.c    bytes of an answer to a verdict
 *   crowd_report.c    histograms, and the lines of JSON
 */
#ifndef CROWD_H
#define CROWD_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#include "crowd_answer.h"
#include "crowd_report.h"

enum behaviour {
    SILENT,
    HALF,
    DRIP,
    IDLE,
    SLOW_READ,
    NEVER_READ, /* holders: stay until the end */
    RESET,
    PROBE,
    SHORT,
    KEEP_ALIVE,
    PIPELINED, /* loops: again and again */
    BEHAVIOURS
};

/* What sets the behaviours apart. */
struct traits {
    const char *name;
    const char *help;
    bool holder; /* connects once and stays */
    bool fresh;  /* a new connection for every request */
    bool timed;  /* answers are awaited for --timeout at most */
    bool small;  /* a small receive buffer, so that the server feels who does not read */
    int interval_ms; /* default of --interval */
};

extern const struct traits behaviours[BEHAVIOURS];

enum { MAX_EXPECTED = 8 };

/* An answer's body, by its length and hash; how often it came. */
struct expected {
    uint64_t len;
    uint64_t hash;
    uint64_t seen;
};

struct crowd_options {
    enum behaviour behaviour;
    const struct traits *traits;     /* borrowed: of the behaviour */
    struct sockaddr_storage address; /* of the server; loopback */
    socklen_t address_len;
    const char *host; /* the address as given; borrowed */
    const char *path; /* borrowed */
    int port;
    int connections;
    int depth;        /* requests in one write: 1 but for pipelined */
    int connect_rate; /* new clients per second, at the start; 0: all at once */
    int interval_ms;
    int timeout_ms;
    int receive_buffer; /* bytes; 0: the kernel's default */
    int sample_ms;      /* between two lines "sample"; 0: none */
    int64_t run_ms;
    uint64_t rate;     /* bytes per second a slow reader reads */
    uint64_t requests; /* end after so many; 0: no limit */
    bool until_eof;    /* end when stdin does */
    bool any_body;     /* bodies are not compared */
    int n_expected;    /* 0: the first answer seen is what the others must be */
    struct expected expected[MAX_EXPECTED];
};

/* Read the command line; die(EXIT_USAGE) if it is wrong. */
void crowd_options_parse(struct crowd_options *opt, int argc, char **argv);

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

/* ---- a client, for crowd.c ---- */

/* Make a client of zeroed memory. */
void client_init(struct client *c);

/* It begins. */
void client_start(struct client *c);

/* The run stops: who waits for no answer is over now, others will be. at_once: all. */
void client_stop(struct client *c, bool at_once);

/* ---- between its two files: crowd_client.c ---- */

/* Its first connection is where it was meant to get, or never will be. */
void client_settle(struct client *c);

/* All requests without answer have failed. */
void client_fail(struct client *c, enum failure why);

/* The server has ended the connection; reset: by RST. */
void client_ended(struct client *c, bool reset);

/* The connection is done with. A holder has nothing else; the others begin anew after
 * delay_ms; -1: at once. */
void client_again(struct client *c, int delay_ms);

/* How long to pause before the next go: it shall begin --interval after the last one
 * began (probe) or ended. client_retry_ms(): after a failure; who fails at once must not
 * be hammered. */
int client_pause_ms(const struct client *c);
int client_retry_ms(const struct client *c);

/* Neither the run stops nor is --requests reached. */
bool client_may_ask(void);

/* The open connection has nothing under way: ask, or be over. */
void client_ask_next(struct client *c);

/* Set the timer. */
void client_wait_ms(struct client *c, int64_t ms);

/* ---- and crowd_read.c ---- */

/* Bytes are there. Read until there are no more, so that the end of the stream is seen
 * before the next request is written. */
void client_read(struct client *c);

/* The connection is broken: read what had come before, then client_ended(). */
void client_read_out(struct client *c);

/* Read as many bytes as --rate allows by now; ask anew when the answer is complete. */
void client_read_slice(struct client *c);

/* Something came that shall stay unread: is it the end? A refusal is looked at only. */
void client_look(struct client *c);

#endif
