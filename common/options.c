/* options.c - see options.h.
 * Does not: check what only the kernel knows, such as whether a port is free. */
#include "options.h"

#include <argp.h>
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "log.h"

const char *argp_program_version = "network server evolution 1.0";

enum { KEY_MAX_BODY = 256, KEY_MULTIPLEXER, KEY_ACCEPT, KEY_TRIGGER };

enum { MAX_BODY_LIMIT = 1 << 30, MAX_SECONDS = 86400 };

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
    { { "max-body", KEY_MAX_BODY, "BYTES", 0, "longest request body (1048576)", 2 }, 0 },
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
    struct in6_addr any;

    if (inet_pton(AF_INET, arg, &any) != 1 && inet_pton(AF_INET6, arg, &any) != 1)
        die(EXIT_USAGE,
            "--address: '%s' is not an IPv4 or IPv6 literal, such as 127.0.0.1", arg);
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

_Noreturn static void print_help(const struct argp *argp)
{
    argp_help(argp, stdout, ARGP_HELP_SHORT_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC,
              program_invocation_short_name);
    exit(EXIT_SUCCESS);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *opt = state->input;

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
    case KEY_MAX_BODY:
        opt->max_body = (size_t)number("max-body", arg, 0, MAX_BODY_LIMIT);
        return 0;
    case 'v':
        log_level = LOG_DEBUG;
        return 0;
    case 'q':
        log_level = LOG_ERROR;
        return 0;
    case '?':
        print_help(state->root_argp);
    case ARGP_KEY_ERROR:
        die(EXIT_USAGE, "'%s' is unknown or lacks its value; see --help",
            state->argv[state->next - 1]);
    case ARGP_KEY_ARG:
        die(EXIT_USAGE, "'%s' is not an option; see --help", arg);
    case 'V':
        puts(argp_program_version);
        exit(EXIT_SUCCESS);
    default:
        return parse_choice(key, arg, opt);
    }
}

/* More clients than the customary 1024 descriptors: as many as the administrator
 * allows. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) == -1)
            log_line(LOG_WARNING, "setrlimit(RLIMIT_NOFILE): %s", strerror(errno));
    }
}

int options_max_fds(void)
{
    enum { MILLION = 1 << 20 };
    struct rlimit limit = { .rlim_cur = MILLION };

    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur < MILLION ? (int)limit.rlim_cur : MILLION;
}

struct options options_parse(int argc, char **argv, unsigned features)
{
    static struct argp_option offered[TABLE + 1];
    struct argp argp = { .options = offered,
                         .parser = parse,
                         .doc = "Serve one small web application; see README.md." };
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    struct options opt = { .name = program_invocation_short_name,
                           .address = "127.0.0.1",
                           .port = 8080,
                           .workers = 1,
                           .backlog = 4096,
                           .max_connections = INT_MAX,
                           .keepalive_ms = 60000,
                           .request_timeout_ms = 10000,
                           .max_body = 1 << 20 };
    int n = 0;

    if (features & OPTIONS_WORKERS)
        opt.workers = cpus < 1 ? 1 : cpus > MAX_WORKERS ? MAX_WORKERS : (int)cpus;
    for (int i = 0; i < TABLE; i++)
        if (table[i].features == 0 || table[i].features & features)
            offered[n++] = table[i].option;
    /* Without ARGP_NO_ERRS argp spreads an error over two lines; with it, it prints no
     * help. */
    argp_parse(&argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &opt);
    raise_descriptor_limit();
    return opt;
}
