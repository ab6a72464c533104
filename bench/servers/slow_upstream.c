/* slow_upstream.c - an upstream that takes its time, and misbehaves on demand: main, the
 * command line, the listener.
 * Does not: leave the loopback interface; keep secrets; obey RFC 9110 more than it must.
 *
 * One process on libevent's loop. evhttp would not do: it cannot be made to send nonsense.
 */
#include "slow_upstream.h"

#include <argp.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

enum {
    BACKLOG = 4096,
    SPARE_DESCRIPTORS = 32,
    PAUSE_MS = 100, /* when accept(2) finds no descriptor */
};

struct upstream upstream;

/* ---- the command line ---- */

enum { KEY_NO_ACCEPT = 256, KEY_SILENT };

struct words {
    long port;
    bool no_accept;
};

static const struct argp_option table[] = {
    { "port", 'p', "PORT", 0, "on 127.0.0.1; 0: any that is free (0)", 1 },
    { "no-accept", KEY_NO_ACCEPT, NULL, 0,
      "never accept, and keep the queue full: connecting takes for ever", 1 },
    { "silent", KEY_SILENT, NULL, 0, "accept, and never say a word", 1 },
    { "help", '?', NULL, 0, "print this", 2 },
    { 0 },
};

/* Behind the options. */
static const char manual[] =
    "METHOD /any/path?KEY=VALUE&... is answered as its query says:\n"
    "  ms=N             so many ms after the request came whole (0)\n"
    "  n=BYTES          with so many letters (26; POST: the request's body)\n"
    "  status=N         with this status, 200 to 599 (200)\n"
    "  frame=NAME       length, chunked or close (length)\n"
    "  show=1           the body is the head of the request, as it came\n"
    "  show=fields      the fields of the request come back as Asked-NAME\n"
    "  hop=1            with hop-by-hop fields\n"
    "  gap=N            ms between an answer and what comes after it, or between\n"
    "                   the bytes of fault=drip (10)\n"
    "  fault=NAME       wrongly; see below\n"
    "GET /counts tells what it was asked, in JSON; POST /counts/reset forgets it.\n"
    "Faults:\n";

static char *help_filter(int key, const char *text, void *input)
{
    char *help = NULL;
    size_t len;
    FILE *out;

    (void)input;
    if (key != ARGP_KEY_HELP_POST_DOC || !(out = open_memstream(&help, &len)))
        return (char *)text;
    fputs(manual, out);
    fault_list(out);
    fclose(out);
    return help; /* argp frees it */
}

static long port_number(const char *arg)
{
    char *end;
    long n = strtol(arg, &end, 10);

    if (end == arg || *end != '\0' || n < 0 || n > 65535)
        die(EXIT_USAGE, "--port: '%s' is not a number from 0 to 65535", arg);
    return n;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct words *words = state->input;

    switch (key) {
    case 'p':
        words->port = port_number(arg);
        return 0;
    case KEY_NO_ACCEPT:
        words->no_accept = true;
        return 0;
    case KEY_SILENT:
        upstream.silent = true;
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

/* ---- the listener ---- */

void must(bool ok, const char *what)
{
    if (!ok)
        die(EXIT_SYSTEM, "%s: %s", what, strerror(errno));
}

struct evbuffer *buffer_new(void)
{
    struct evbuffer *buffer = evbuffer_new();

    must(buffer != NULL, "evbuffer_new");
    return buffer;
}

static int listen_on_loopback(long port, int backlog, struct sockaddr_in *address)
{
    socklen_t len = sizeof(*address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;

    *address = (struct sockaddr_in){ .sin_family = AF_INET,
                                     .sin_port = htons((uint16_t)port),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    must(listener != -1, "socket");
    must(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0,
         "SO_REUSEADDR");
    must(setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0,
         "TCP_NODELAY");
    if (bind(listener, (struct sockaddr *)address, len) == -1)
        die(EXIT_SYSTEM, "port %ld: %s; take another with --port", port, strerror(errno));
    must(listen(listener, backlog) == 0, "listen");
    must(getsockname(listener, (struct sockaddr *)address, &len) == 0, "getsockname");
    return listener;
}

static void on_accept(struct evconnlistener *listener, int fd, struct sockaddr *from,
                      int len, void *arg)
{
    (void)listener;
    (void)from;
    (void)len;
    (void)arg;
    connection_open(fd);
}

static void on_pause_over(int fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    if (upstream.connections < upstream.max_connections)
        evconnlistener_enable(upstream.listener);
}

/* No descriptors, or no memory: the client stays in the queue. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
    const struct timeval pause = { .tv_usec = PAUSE_MS * 1000 };

    (void)arg;
    evconnlistener_disable(listener);
    event_base_once(upstream.base, -1, EV_TIMEOUT, on_pause_over, NULL, &pause);
}

static void accept_all(int fd)
{
    upstream.listener =
        evconnlistener_new(upstream.base, on_accept, NULL, LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    must(upstream.listener != NULL, "evconnlistener_new");
    evconnlistener_set_error_cb(upstream.listener, on_accept_error);
}

/* A queue of length 0 still takes one: us. To the next the kernel does not reply
 * (listen(2)). */
static int fill_queue(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    must(fd != -1 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0,
         "connect");
    return fd;
}

static void limit_connections(void)
{
    struct rlimit limit;

    must(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
    upstream.max_connections = MAX_CONNECTIONS;
    if (limit.rlim_cur < MAX_CONNECTIONS + SPARE_DESCRIPTORS)
        upstream.max_connections = (int)limit.rlim_cur - SPARE_DESCRIPTORS;
    if (upstream.max_connections < 1)
        die(EXIT_SYSTEM, "ulimit -Hn is too low; give it at least %d",
            SPARE_DESCRIPTORS + 1);
}

/* ---- the run ---- */

static void on_signal(int number, short what, void *arg)
{
    (void)number;
    (void)what;
    (void)arg;
    event_base_loopexit(upstream.base, NULL);
}

static void open_base(void)
{
    struct event_config *config = event_config_new();

    must(config != NULL, "event_config_new");
    /* Thousands of requests may come in one turn of the loop: the last of them shall wait
     * for as long as the first. And by a precise clock: the coarse one is up to a tick
     * behind, and who waits by it would wait too short. */
    must(event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME) == 0 &&
             event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER) == 0,
         "event_config_set_flag");
    upstream.base = event_base_new_with_config(config);
    event_config_free(config);
    must(upstream.base != NULL, "event_base_new");
}

static struct event *end_on(int sig)
{
    struct event *event = evsignal_new(upstream.base, sig, on_signal, NULL);

    must(event && evsignal_add(event, NULL) == 0, "evsignal_add");
    return event;
}

/* SIGTERM and SIGINT end the loop; then all is given back. They are caught before anybody
 * is told that we listen. */
static void run(const struct sockaddr_in *address)
{
    struct event *terminate = end_on(SIGTERM);
    struct event *interrupt = end_on(SIGINT);

    printf("slow_upstream: listening on 127.0.0.1:%d (pid %d)\n",
           ntohs(address->sin_port), (int)getpid());
    fflush(stdout);
    event_base_dispatch(upstream.base);
    connection_close_all();
    counts_reset();
    event_free(terminate);
    event_free(interrupt);
}

int main(int argc, char **argv)
{
    struct argp argp = { .options = table,
                         .parser = parse,
                         .help_filter = help_filter,
                         .doc = "Be a slow upstream, or a broken one.\v-" };
    struct words words = { 0 };
    struct sockaddr_in address;
    int listener, filler = -1;

    /* Without ARGP_NO_ERRS argp spreads an error over two lines; with it, it has no help
     * of its own. */
    argp_parse(&argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &words);
    limit_connections();
    signal(SIGPIPE, SIG_IGN); /* libevent writes with writev(2): no MSG_NOSIGNAL */
    open_base();
    listener = listen_on_loopback(words.port, words.no_accept ? 0 : BACKLOG, &address);
    if (words.no_accept)
        filler = fill_queue(&address);
    else
        accept_all(listener);
    run(&address);
    if (upstream.listener)
        evconnlistener_free(upstream.listener);
    close(listener);
    if (filler != -1)
        close(filler);
    event_base_free(upstream.base);
    return 0;
}
