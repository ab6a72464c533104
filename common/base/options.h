/* options.h - the command line: one table for all stages.
 * Does not: open what the words name. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

/* What a stage offers beside the options that all have; or-ed together. */
enum {
    OPTIONS_WORKERS = 1,     /* -w: all but stages 1 and 3 */
    OPTIONS_MULTIPLEXER = 2, /* --multiplexer: stage 3 */
    OPTIONS_EPOLL = 4,       /* --accept, --trigger: stage 4 */
    OPTIONS_MASTER = 8,      /* reload, restart, connections: all but stages 1 and 3 */
    OPTIONS_THREADS = 16,    /* --threads, --queue: stage 5 */
    OPTIONS_CALLBACKS = 32,  /* nothing; but a reload tells stage 6 from others by it */
    OPTIONS_COROUTINES = 64, /* --coroutines, --stack, --shared-stack: stage 7 */
};

#define OPTIONS_ADDRESS "127.0.0.1" /* the default of --address */

/* Environment: the directory that relative names start from, across reloads. */
#define OPTIONS_CWD "SERVER_CWD"

enum { MAX_WORKERS = 64, MAX_THREADS = 256 };

enum verb {
    VERB_START,
    VERB_STOP,
    VERB_RESTART,
    VERB_RELOAD,
    VERB_STATUS,
    VERB_CONNECTIONS,
};
enum multiplexer { MULTIPLEXER_SELECT, MULTIPLEXER_POLL };
enum accept_mode { ACCEPT_REUSEPORT, ACCEPT_SHARED, ACCEPT_EXCLUSIVE };
enum trigger { TRIGGER_LEVEL, TRIGGER_EDGE };

struct options {
    const char *name;       /* of the program; borrowed from argv */
    const char *address;    /* IPv4 or IPv6 literal; borrowed */
    int port;               /* 0: any free one */
    int workers;            /* 1 to MAX_WORKERS; 1 where the stage has no workers */
    int backlog;            /* listen(2) */
    int max_connections;    /* per process; INT_MAX: as many as there are descriptors */
    int keepalive_ms;       /* idle time-out; 0: close after each answer */
    int request_timeout_ms; /* from a request's first byte to its last; also the longest
                             * time without progress while a reply is sent */
    size_t max_body;        /* bytes */
    enum verb verb;
    bool daemon;   /* go to the background */
    bool graceful; /* stop, restart, reload: wait for connections without a bound */
    bool check;    /* only say whether this program would start */
    bool watch;    /* start: reload when the program file changes; status: repeat */
    bool json;     /* status, connections */
    int reply_timeout_ms; /* of an answer that comes later; then 504 */
    const char *upstream; /* ADDRESS:PORT that /upstream asks; NULL: none; borrowed */
    int stop_timeout_ms;  /* after SIGTERM, or in a worker that was replaced */
    int max_requests;     /* a worker is replaced after about so many; 0: never */
    long limit_nofile;    /* RLIMIT_NOFILE; 0: the hard limit */
    const char *pid_file; /* absolute; NULL: the default place */
    const char *log;      /* file for stdout and stderr; absolute; NULL: none */
    const char *user;     /* NAME[:GROUP] to become; NULL: stay; borrowed */
    char **argv;          /* borrowed: what a reload starts again */
    unsigned features;    /* what was passed to options_parse() */
    enum multiplexer multiplexer;
    enum accept_mode accept;
    enum trigger trigger;
    int threads;       /* that work, per process */
    int queue;         /* connections that may wait for a thread, per process */
    int coroutines;    /* per process; INT_MAX: as many as there are descriptors */
    size_t stack;      /* bytes of a coroutine's; rounded up to pages */
    bool shared_stack; /* all coroutines run on one, and copy theirs to it and back */
};

/* log_setup(); read the command line, set log_level, and raise RLIMIT_NOFILE to its hard limit.
 * Wrong words: one line on stderr that names the cause and the cure, exit status 2.
 * --help and --version print to stdout and exit 0. */
struct options options_parse(int argc, char **argv, unsigned features);

/* How many descriptors this process may have open: RLIMIT_NOFILE, but at most a
 * million. */
int options_max_fds(void);

#endif
