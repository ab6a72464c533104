/* options.c - see options.h.
 * Does not: check what only the kernel knows, such as whether a port is free. */
#include "base/options.h"

#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/address.h"
#include "base/log.h"

const char *argp_program_version = "network server evolution 1.0";

enum {
    KEY_MAX_BODY = 256,
    KEY_MULTIPLEXER,
    KEY_ACCEPT,
    KEY_TRIGGER,
    KEY_THREADS,
    KEY_QUEUE,
    KEY_COROUTINES,
    KEY_STACK,
    KEY_SHARED_STACK,
    KEY_REPLY_TIMEOUT,
    KEY_UPSTREAM,
    KEY_STOP_TIMEOUT,
    KEY_MAX_REQUESTS,
    KEY_PID_FILE,
    KEY_LOG,
    KEY_USER,
    KEY_LIMIT_NOFILE,
    KEY_WATCH,
    KEY_JSON,
    KEY_CHECK,
};

enum {
    MAX_BODY_LIMIT = 1 << 30,
    MAX_SECONDS = 86400,
    MAX_QUEUE = 1 << 20,
    MIN_STACK = 8192,
    MAX_STACK = 8 << 20,
};

/* The options in the order of --help; features: who has them, 0: all. */
static const struct {
    struct argp_option option;
    unsigned features;
} table[] = {
    { { "address", 'a', "ADDRESS", 0, "IPv4 or IPv6 literal to listen on (127.0.0.1)",
        1 },
      0 },
    { { "port", 'p', "PORT", 0, "port to listen on; 0 picks a free one (8080)", 1 }, 0 },
    { { "workers", 'w', "N", 0, "worker processes (one per online cpu)", 1 },
      OPTIONS_WORKERS },
    { { "backlog", 'b', "N", 0, "connections the kernel queues for accept (4096)", 1 },
      0 },
    { { "max-connections", 'c', "N", 0,
        "open connections per process (as many as there are descriptors)", 1 },
      0 },
    { { "keepalive", 'k', "SECONDS", 0,
        "close connections idle for so long; 0 closes after each answer (60)", 2 },
      0 },
    { { "request-timeout", 't', "SECONDS", 0,
        "longest time for a request to arrive, or for a reply to make progress (10)", 2 },
      0 },
    { { "reply-timeout", KEY_REPLY_TIMEOUT, "SECONDS", 0,
        "longest time for an answer that others give (75)", 2 },
      0 },
    { { "max-body", KEY_MAX_BODY, "BYTES", 0, "longest request body (1048576)", 2 }, 0 },
    { { "upstream", KEY_UPSTREAM, "ADDRESS:PORT", 0,
        "the server that /upstream asks; IPv6: [ADDRESS]:PORT (none)", 2 },
      0 },
    { { "multiplexer", KEY_MULTIPLEXER, "NAME", 0, "wait with select or poll (select)",
        3 },
      OPTIONS_MULTIPLEXER },
    { { "accept", KEY_ACCEPT, "MODE", 0,
        "reuseport: a listener per worker; shared: one listener, all are woken; "
        "exclusive: one "
        "listener, EPOLLEXCLUSIVE (reuseport)",
        3 },
      OPTIONS_EPOLL },
    { { "trigger", KEY_TRIGGER, "MODE", 0,
        "level- or edge-triggered epoll: level, edge (level)", 3 },
      OPTIONS_EPOLL },
    { { "threads", KEY_THREADS, "N", 0, "threads that work, per process (4)", 3 },
      OPTIONS_THREADS },
    { { "queue", KEY_QUEUE, "N", 0,
        "connections that may wait for a thread, per process (1024)", 3 },
      OPTIONS_THREADS },
    { { "coroutines", KEY_COROUTINES, "N", 0,
        "coroutines per process; further clients wait (as many as there are descriptors)",
        3 },
      OPTIONS_COROUTINES },
    { { "stack", KEY_STACK, "BYTES", 0, "of a coroutine (65536)", 3 },
      OPTIONS_COROUTINES },
    { { "shared-stack", KEY_SHARED_STACK, NULL, 0,
        "run all coroutines on one stack; copy what each has on it to and fro", 3 },
      OPTIONS_COROUTINES },
    { { "daemon", 'd', NULL, 0, "go to the background once the server listens", 5 }, 0 },
    { { "graceful", 'g', NULL, 0,
        "stop, restart, reload: wait for connections to end, without a bound", 5 },
      0 },
    { { "stop-timeout", KEY_STOP_TIMEOUT, "SECONDS", 0,
        "time for requests in flight when a server or worker ends (2)", 5 },
      0 },
    { { "max-requests", KEY_MAX_REQUESTS, "N", 0,
        "replace a worker after about N requests; 0: never (0)", 5 },
      OPTIONS_MASTER },
    { { "watch", KEY_WATCH, NULL, 0,
        "start: reload when the program file changes; status: again each second", 5 },
      0 },
    { { "json", KEY_JSON, NULL, 0, "status, connections: print JSON", 5 }, 0 },
    { { "pid-file", KEY_PID_FILE, "FILE", 0,
        "where a running server is found (by stage, address and port, in "
        "$XDG_RUNTIME_DIR, "
        "/run or /tmp)",
        5 },
      0 },
    { { "log", KEY_LOG, "FILE", 0, "append the log to FILE; SIGUSR2 opens it anew", 5 },
      0 },
    { { "user", KEY_USER, "NAME[:GROUP]", 0, "serve as this user", 5 }, 0 },
    { { "limit-nofile", KEY_LIMIT_NOFILE, "N", 0,
        "descriptors per process (the hard limit)", 5 },
      0 },
    { { "check", KEY_CHECK, NULL, 0, "only say whether this program would start", 5 },
      0 },
    { { "verbose", 'v', NULL, 0, "log every connection", 4 }, 0 },
    { { "quiet", 'q', NULL, 0, "log errors only", 4 }, 0 },
    { { "help", '?', NULL, 0, "print this", -1 }, 0 },
    { { "version", 'V', NULL, 0, "print the version", -1 }, 0 },
};
enum { TABLE = sizeof(table) / sizeof(table[0]) };

static long number(const char *option, const char *arg, long min, long max)
{
    char *end;
    long n;

    errno = 0;
    n = strtol(arg, &end, 10);
    if (end == arg || *end != '\0' || errno != 0 || n < min || n > max ||
        isspace((unsigned char)*arg))
        die(EXIT_USAGE, "--%s: '%s' is not a number from %ld to %ld", option, arg, min,
            max);
    return n;
}

static int choice(const char *option, const char *arg, const char *const names[], int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(arg, names[i]) == 0)
            return i;
    die(EXIT_USAGE, "--%s: '%s' is none of: %s, %s%s%s", option, arg, names[0], names[1],
        n > 2 ? ", " : "", n > 2 ? names[2] : "");
}

static const char *address(const char *arg)
{
    union address any;

    if (address_parse(arg, 0, &any) == 0)
        die(EXIT_USAGE,
            "--address: '%s' is not an IPv4 or IPv6 literal, such as 127.0.0.1", arg);
    return arg;
}

static const char *upstream(const char *arg)
{
    union address any;

    if (address_endpoint(arg, &any) == 0)
        die(EXIT_USAGE,
            "--upstream: '%s' is not ADDRESS:PORT, such as 127.0.0.1:9000 or [::1]:9000",
            arg);
    return arg;
}

static error_t parse_choice(int key, const char *arg, struct options *opt)
{
    static const char *const multiplexers[] = { "select", "poll" };
    static const char *const accepts[] = { "reuseport", "shared", "exclusive" };
    static const char *const triggers[] = { "level", "edge" };

    switch (key) {
    case KEY_MULTIPLEXER:
        opt->multiplexer = (enum multiplexer)choice("multiplexer", arg, multiplexers, 2);
        return 0;
    case KEY_ACCEPT:
        opt->accept = (enum accept_mode)choice("accept", arg, accepts, 3);
        return 0;
    case KEY_TRIGGER:
        opt->trigger = (enum trigger)choice("trigger", arg, triggers, 2);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_handlers(int key, const char *arg, struct options *opt)
{
    switch (key) {
    case KEY_THREADS:
        opt->threads = (int)number("threads", arg, 1, MAX_THREADS);
        return 0;
    case KEY_QUEUE:
        opt->queue = (int)number("queue", arg, 1, MAX_QUEUE);
        return 0;
    case KEY_COROUTINES:
        opt->coroutines = (int)number("coroutines", arg, 1, INT_MAX);
        return 0;
    case KEY_STACK:
        opt->stack = (size_t)number("stack", arg, MIN_STACK, MAX_STACK);
        return 0;
    case KEY_SHARED_STACK:
        opt->shared_stack = true;
        return 0;
    default:
        return parse_choice(key, arg, opt);
    }
}

/* A daemon leaves its directory, and a reload reads the same words again: names are made
 * absolute, from where the server was first started. */
static const char *absolute(const char *name)
{
    const char *start = getenv(OPTIONS_CWD);
    char cwd[PATH_MAX];
    char *path;

    if (*name == '/')
        return name;
    if (start == NULL) {
        start = getcwd(cwd, sizeof(cwd));
        if (start == NULL || setenv(OPTIONS_CWD, start, 1) == -1)
            die(EXIT_SYSTEM, "getcwd: %s; give '%s' as an absolute name", strerror(errno),
                name);
    }
    if (asprintf(&path, "%s/%s", start, name) == -1)
        die(EXIT_SYSTEM, "no memory");
    return path;
}

static const struct {
    const char *name;
    enum verb verb;
    unsigned features;
} verbs[] = {
    { "start", VERB_START, 0 },
    { "stop", VERB_STOP, 0 },
    { "status", VERB_STATUS, 0 },
    { "restart", VERB_RESTART, OPTIONS_MASTER },
    { "reload", VERB_RELOAD, OPTIONS_MASTER },
    { "connections", VERB_CONNECTIONS, OPTIONS_MASTER },
};
enum { VERBS = sizeof(verbs) / sizeof(verbs[0]) };

static unsigned offered_features;

static void parse_verb(const char *arg, struct options *opt)
{
    for (int i = 0; i < VERBS; i++) {
        if (strcmp(arg, verbs[i].name) != 0)
            continue;
        if (verbs[i].features & ~offered_features)
            die(EXIT_USAGE, "'%s' needs a stage with a master: not 1 or 3", arg);
        opt->verb = verbs[i].verb;
        return;
    }
    die(EXIT_USAGE, "'%s' is neither an option nor a command; see --help", arg);
}

static error_t parse_process(int key, char *arg, struct options *opt)
{
    switch (key) {
    case 'd':
        opt->daemon = true;
        return 0;
    case 'g':
        opt->graceful = true;
        return 0;
    case KEY_STOP_TIMEOUT:
        opt->stop_timeout_ms = (int)number("stop-timeout", arg, 0, MAX_SECONDS) * 1000;
        return 0;
    case KEY_MAX_REQUESTS:
        opt->max_requests = (int)number("max-requests", arg, 0, INT_MAX / 2);
        return 0;
    case KEY_LIMIT_NOFILE:
        opt->limit_nofile = number("limit-nofile", arg, 16, INT_MAX);
        return 0;
    case KEY_PID_FILE:
        opt->pid_file = absolute(arg);
        return 0;
    case KEY_LOG:
        opt->log = absolute(arg);
        return 0;
    case KEY_USER:
        opt->user = arg;
        return 0;
    case KEY_WATCH:
        opt->watch = true;
        return 0;
    case KEY_JSON:
        opt->json = true;
        return 0;
    case KEY_CHECK:
        opt->check = true;
        return 0;
    default:
        return parse_handlers(key, arg, opt);
    }
}

_Noreturn static void print_help(const struct argp *argp)
{
    argp_help(argp, stdout, ARGP_HELP_SHORT_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC,
              program_invocation_short_name);
    exit(EXIT_SUCCESS);
}

static error_t parse_serving(int key, char *arg, struct options *opt)
{
    switch (key) {
    case 'a':
        opt->address = address(arg);
        return 0;
    case 'p':
        opt->port = (int)number("port", arg, 0, 65535);
        return 0;
    case 'w':
        opt->workers = (int)number("workers", arg, 1, MAX_WORKERS);
        return 0;
    case 'b':
        opt->backlog = (int)number("backlog", arg, 1, INT_MAX);
        return 0;
    case 'c':
        opt->max_connections = (int)number("max-connections", arg, 1, INT_MAX);
        return 0;
    case 'k':
        opt->keepalive_ms = (int)number("keepalive", arg, 0, MAX_SECONDS) * 1000;
        return 0;
    case 't':
        opt->request_timeout_ms =
            (int)number("request-timeout", arg, 1, MAX_SECONDS) * 1000;
        return 0;
    case KEY_REPLY_TIMEOUT:
        opt->reply_timeout_ms = (int)number("reply-timeout", arg, 1, MAX_SECONDS) * 1000;
        return 0;
    case KEY_UPSTREAM:
        opt->upstream = upstream(arg);
        return 0;
    case KEY_MAX_BODY:
        opt->max_body = (size_t)number("max-body", arg, 0, MAX_BODY_LIMIT);
        return 0;
    default:
        return parse_process(key, arg, opt);
    }
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case 'v':
        log_level = LOG_DEBUG;
        return 0;
    case 'q':
        log_level = LOG_ERROR;
        return 0;
    case '?':
        print_help(state->root_argp);
    case 'V':
        puts(argp_program_version);
        exit(EXIT_SUCCESS);
    case ARGP_KEY_ARG:
        parse_verb(arg, state->input);
        return 0;
    case ARGP_KEY_ERROR:
        die(EXIT_USAGE, "'%s' is unknown or lacks its value; see --help",
            state->argv[state->next - 1]);
    default:
        return parse_serving(key, arg, state->input);
    }
}

/* More clients than the customary 1024 descriptors: as many as the administrator
 * allows. */
static void set_descriptor_limit(long wanted)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
        return;
    if (wanted > 0 && (rlim_t)wanted > limit.rlim_max)
        limit.rlim_max = (rlim_t)wanted;
    limit.rlim_cur = wanted > 0 ? (rlim_t)wanted : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == -1)
        die(EXIT_SYSTEM,
            "--limit-nofile %ld: %s; the hard limit is raised by root or ulimit -Hn",
            wanted, strerror(errno));
}

int options_max_fds(void)
{
    enum { MILLION = 1 << 20 };
    struct rlimit limit = { .rlim_cur = MILLION };

    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur < MILLION ? (int)limit.rlim_cur : MILLION;
}

static int default_workers(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    return cpus < 1 ? 1 : cpus > MAX_WORKERS ? MAX_WORKERS : (int)cpus;
}

struct options options_parse(int argc, char **argv, unsigned features)
{
    static struct argp_option offered[TABLE + 1];
    struct argp argp = { .options = offered,
                         .parser = parse,
                         .args_doc =
                             features & OPTIONS_MASTER
                                 ? "[start|stop|restart|reload|status|connections]"
                                 : "[start|stop|status]",
                         .doc = "Serve one small web application; see README.md." };
    struct options opt = { .name = program_invocation_short_name,
                           .address = OPTIONS_ADDRESS,
                           .port = 8080,
                           .workers = 1,
                           .backlog = 4096,
                           .max_connections = INT_MAX,
                           .keepalive_ms = 60000,
                           .request_timeout_ms = 10000,
                           .reply_timeout_ms = 75000,
                           .max_body = 1 << 20,
                           .stop_timeout_ms = 2000,
                           .threads = 4,
                           .queue = 1024,
                           .coroutines = INT_MAX,
                           .stack = 65536,
                           .argv = argv,
                           .features = features };
    int n = 0;

    log_setup();
    offered_features = features;
    if (features & OPTIONS_WORKERS)
        opt.workers = default_workers();
    for (int i = 0; i < TABLE; i++)
        if (table[i].features == 0 || table[i].features & features)
            offered[n++] = table[i].option;
    /* Without ARGP_NO_ERRS argp spreads an error over two lines; with it, it prints no
     * help. */
    argp_parse(&argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &opt);
    set_descriptor_limit(opt.limit_nofile);
    return opt;
}
