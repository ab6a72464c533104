/* crowd_options.c - the command line of crowd.
 * Does not: connect anywhere. */
#include "crowd_options.h"

#include <argp.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "crowd_answer.h"

enum { MAX_CONNECTIONS = 1000000, MAX_DEPTH = 1024, MAX_SECONDS = 86400 };

const struct traits behaviours[BEHAVIOURS] = {
    [SILENT] = { "silent", "connect, send nothing, stay", true, false, false, false, 0 },
    [HALF] = { "half", "send half a request head, stay", true, false, false, false, 0 },
    [DRIP] = { "drip", "send requests, a byte each --interval (100 ms)", true, false,
               false, false, 100 },
    [IDLE] = { "idle", "one complete request, then stay silently", true, false, false,
               false, 0 },
    [SLOW_READ] = { "slow-read",
                    "read the answer at --rate, a slice each --interval (100 ms)", true,
                    false, false, true, 100 },
    [NEVER_READ] = { "never-read", "send a request, never read, stay", true, false, false,
                     true, 0 },
    [RESET] = { "reset", "send a request, reset the connection, again", false, true, true,
                false, 0 },
    [PROBE] = { "probe", "a request on a fresh connection each --interval (100 ms)",
                false, true, true, false, 100 },
    [SHORT] = { "short", "a request on a fresh connection, again", false, true, true,
                false, 0 },
    [KEEP_ALIVE] = { "keep-alive", "a request, again on the same connection", false,
                     false, true, false, 0 },
    [PIPELINED] = { "pipelined", "--depth requests in one write, again", false, false,
                    true, false, 0 },
};

enum {
    KEY_SECONDS = 256,
    KEY_PATH,
    KEY_RATE,
    KEY_REQUESTS,
    KEY_DEPTH,
    KEY_CONNECT_RATE,
    KEY_TIMEOUT,
    KEY_INTERVAL,
    KEY_EXPECT,
    KEY_ANY_BODY,
    KEY_UNTIL_EOF,
    KEY_RECEIVE_BUFFER,
    KEY_SAMPLE,
    KEY_LATE,
};

static const struct argp_option table[] = {
    { "port", 'p', "PORT", 0, "port of the server (needed)", 1 },
    { "address", 'a', "ADDRESS", 0, "its address, a loopback one (127.0.0.1)", 1 },
    { "connections", 'n', "N", 0, "clients at the same time (1)", 1 },
    { "behaviour", 'b', "NAME", 0, "what they do; see below (needed)", 1 },
    { "seconds", KEY_SECONDS, "S", 0, "end after so long (10)", 2 },
    { "requests", KEY_REQUESTS, "N", 0, "end after so many requests of all clients", 2 },
    { "until-eof", KEY_UNTIL_EOF, NULL, 0, "end when stdin ends, too", 2 },
    { "path", KEY_PATH, "PATH", 0, "what to GET (/)", 3 },
    { "expect", KEY_EXPECT, "TEXT", 0,
      "the right answer; given several times: any of these. Without: 'hello world!' for "
      "/, the "
      "first answer seen for other paths",
      3 },
    { "any-body", KEY_ANY_BODY, NULL, 0, "every body is right", 3 },
    { "depth", KEY_DEPTH, "N", 0, "requests in one write, for pipelined (16)", 3 },
    { "connect-rate", KEY_CONNECT_RATE, "N", 0,
      "so many first connections a second; 0: all at once (10000)", 4 },
    { "interval", KEY_INTERVAL, "MS", 0,
      "between bytes, slices, probes; between answer and next request for the others",
      4 },
    { "timeout", KEY_TIMEOUT, "S", 0, "longest wait for an answer, in loops (5)", 4 },
    { "rate", KEY_RATE, "BYTES", 0, "bytes a second read by slow-read (65536)", 4 },
    { "receive-buffer", KEY_RECEIVE_BUFFER, "BYTES", 0,
      "SO_RCVBUF; 0: the kernel's choice (16384 for slow-read and never-read)", 4 },
    { "sample", KEY_SAMPLE, "MS", 0,
      "once ready, print the account so far, a line each MS; 0: never (0)", 4 },
    { "late", KEY_LATE, "S", 0,
      "count answers that take so long, as others count time-outs; 0: do not (0)", 4 },
    { "help", '?', NULL, 0, "print this", 5 },
    { 0 },
};

static long number(const char *option, const char *arg, long min, long max)
{
    char *end;
    long n;

    errno = 0;
    n = strtol(arg, &end, 10);
    if (end == arg || *end != '\0' || errno != 0 || n < min || n > max || *arg == ' ')
        die(EXIT_USAGE, "--%s: '%s' is not a number from %ld to %ld", option, arg, min,
            max);
    return n;
}

/* Seconds, fractions allowed, in ms. */
static int milliseconds(const char *option, const char *arg)
{
    char *end;
    double seconds = strtod(arg, &end);

    if (end == arg || *end != '\0' || !(seconds >= 0.01 && seconds <= MAX_SECONDS))
        die(EXIT_USAGE, "--%s: '%s' is not a number of seconds from 0.01 to %d", option,
            arg, MAX_SECONDS);
    return (int)(seconds * 1000 + 0.5);
}

static enum behaviour behaviour(const char *arg)
{
    char list[256];
    size_t len = 0;

    for (int i = 0; i < BEHAVIOURS; i++) {
        if (strcmp(arg, behaviours[i].name) == 0)
            return (enum behaviour)i;
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i > 0 ? ", " : "",
                                behaviours[i].name);
    }
    die(EXIT_USAGE, "--behaviour: '%s' is none of: %s", arg, list);
}

static void expect(struct crowd_options *opt, const char *text)
{
    size_t n = strlen(text);

    if (opt->n_expected == MAX_EXPECTED)
        die(EXIT_USAGE, "--expect: given more than %d times", MAX_EXPECTED);
    opt->expected[opt->n_expected++] =
        (struct expected){ .len = n, .hash = answer_hash(ANSWER_HASH, text, n) };
}

static const char *path(const char *arg)
{
    if (*arg != '/' || strlen(arg) > 1024 || arg[strcspn(arg, " \r\n")] != '\0')
        die(EXIT_USAGE,
            "--path: '%s' does not begin with '/', holds blanks, or is too long", arg);
    return arg;
}

static error_t parse_rest(int key, char *arg, const struct argp_state *state)
{
    struct crowd_options *opt = state->input;

    switch (key) {
    case KEY_CONNECT_RATE:
        opt->connect_rate = (int)number("connect-rate", arg, 0, MAX_CONNECTIONS);
        return 0;
    case KEY_INTERVAL:
        opt->interval_ms = (int)number("interval", arg, 0, 1000 * MAX_SECONDS);
        return 0;
    case KEY_TIMEOUT:
        opt->timeout_ms = milliseconds("timeout", arg);
        return 0;
    case KEY_RATE:
        opt->rate = (uint64_t)number("rate", arg, 1, 1L << 40);
        return 0;
    case KEY_RECEIVE_BUFFER:
        opt->receive_buffer = (int)number("receive-buffer", arg, 0, 1 << 30);
        return 0;
    case KEY_SAMPLE:
        opt->sample_ms = (int)number("sample", arg, 0, 1000 * MAX_SECONDS);
        return 0;
    case KEY_LATE:
        opt->late_ms = milliseconds("late", arg);
        return 0;
    case '?':
        argp_help(state->root_argp, stdout, ARGP_HELP_STD_HELP,
                  program_invocation_short_name);
        exit(EXIT_SUCCESS);
    case ARGP_KEY_ARG:
        die(EXIT_USAGE, "'%s' is not an option; see --help", arg);
    case ARGP_KEY_ERROR: /* getopt's word for it */
        die(EXIT_USAGE, "'%s' is unknown or lacks its value; see --help",
            state->argv[state->next - 1]);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct crowd_options *opt = state->input;

    switch (key) {
    case 'p':
        opt->port = (int)number("port", arg, 1, 65535);
        return 0;
    case 'a':
        opt->host = arg;
        return 0;
    case 'n':
        opt->connections = (int)number("connections", arg, 1, MAX_CONNECTIONS);
        return 0;
    case 'b':
        opt->behaviour = behaviour(arg);
        return 0;
    case KEY_SECONDS:
        opt->run_ms = milliseconds("seconds", arg);
        return 0;
    case KEY_REQUESTS:
        opt->requests = (uint64_t)number("requests", arg, 1, 1L << 50);
        return 0;
    case KEY_UNTIL_EOF:
        opt->until_eof = true;
        return 0;
    case KEY_PATH:
        opt->path = path(arg);
        return 0;
    case KEY_EXPECT:
        expect(opt, arg);
        return 0;
    case KEY_ANY_BODY:
        opt->any_body = true;
        return 0;
    case KEY_DEPTH:
        opt->depth = (int)number("depth", arg, 1, MAX_DEPTH);
        return 0;
    default:
        return parse_rest(key, arg, state);
    }
}

/* Odd clients in great numbers are an attack anywhere but at home. */
static void resolve(struct crowd_options *opt)
{
    struct sockaddr_in four = { .sin_family = AF_INET,
                                .sin_port = htons((uint16_t)opt->port) };
    struct sockaddr_in6 six = { .sin6_family = AF_INET6,
                                .sin6_port = htons((uint16_t)opt->port) };
    bool loopback;

    if (inet_pton(AF_INET, opt->host, &four.sin_addr) == 1) {
        loopback = ntohl(four.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
        opt->address_len = sizeof(four);
        memcpy(&opt->address, &four, sizeof(four));
    } else if (inet_pton(AF_INET6, opt->host, &six.sin6_addr) == 1) {
        loopback = IN6_IS_ADDR_LOOPBACK(&six.sin6_addr);
        opt->address_len = sizeof(six);
        memcpy(&opt->address, &six, sizeof(six));
    } else {
        die(EXIT_USAGE,
            "--address: '%s' is not an IPv4 or IPv6 literal, such as 127.0.0.1",
            opt->host);
    }
    if (!loopback)
        die(EXIT_USAGE,
            "--address: %s is not a loopback address (127.0.0.0/8 or ::1); this program "
            "loads "
            "servers on its own machine only",
            opt->host);
}

static void complete(struct crowd_options *opt)
{
    if (opt->port == 0)
        die(EXIT_USAGE, "--port is missing; see --help");
    if (opt->behaviour == BEHAVIOURS)
        die(EXIT_USAGE, "--behaviour is missing; see --help");
    resolve(opt);
    opt->traits = &behaviours[opt->behaviour];
    if (opt->behaviour != PIPELINED)
        opt->depth = 1;
    if (opt->interval_ms == -1)
        opt->interval_ms = opt->traits->interval_ms;
    if (opt->interval_ms == 0 && (opt->behaviour == DRIP || opt->behaviour == SLOW_READ))
        opt->interval_ms = 1;
    if (opt->receive_buffer == -1)
        opt->receive_buffer = opt->traits->small ? 16384 : 0;
    if (opt->n_expected == 0 && strcmp(opt->path, "/") == 0 && !opt->any_body)
        expect(opt, "hello world!");
}

/* Behind the options: what the behaviours are. */
static char *help_filter(int key, const char *text, void *input)
{
    char *help = NULL;
    size_t len;
    FILE *out;

    (void)input;
    if (key != ARGP_KEY_HELP_POST_DOC || !(out = open_memstream(&help, &len)))
        return (char *)text;
    fputs("Behaviours:\n", out);
    for (int i = 0; i < BEHAVIOURS; i++)
        fprintf(out, "  %-12s %s\n", behaviours[i].name, behaviours[i].help);
    fclose(out);
    return help; /* argp frees it */
}

void crowd_options_parse(struct crowd_options *opt, int argc, char **argv)
{
    struct argp argp = { .options = table,
                         .parser = parse,
                         .help_filter = help_filter,
                         .doc = "Be many odd clients of one server on this machine.\v-" };
    *opt = (struct crowd_options){ .behaviour = BEHAVIOURS,
                                   .host = "127.0.0.1",
                                   .path = "/",
                                   .connections = 1,
                                   .depth = 16,
                                   .connect_rate = 10000,
                                   .interval_ms = -1,
                                   .timeout_ms = 5000,
                                   .receive_buffer = -1,
                                   .run_ms = 10000,
                                   .rate = 65536 };
    /* Without ARGP_NO_ERRS argp spreads an error over two lines; with it, it has no help
     * of its own. */
    if (argp_parse(&argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, opt) != 0)
        die(EXIT_USAGE, "the command line is wrong; see --help");
    complete(opt);
}
