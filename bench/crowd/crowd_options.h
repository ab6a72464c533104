/* crowd_options.h - what crowd is asked to do: behaviours, and the command line.
 * Does not: know a client, or the run. */
#ifndef CROWD_OPTIONS_H
#define CROWD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

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
    int late_ms;        /* an answer that takes so long is counted as late; 0: none is */
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

#endif
