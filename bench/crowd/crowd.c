/* crowd.c - thousands of odd clients of one server on this machine, and a strict account
 * of what became of each request.
 * Does not: load other machines (it refuses any address but a loopback one), or replace
 * wrk where the most requests per second are wanted.
 *
 * Who calls whom, downwards only:
 *   crowd.c             main, the pace of new clients, "ready", the end
 *   crowd_report.c      the lines of JSON
 *   crowd_client.c      one client: connect, ask, wait, fail, begin again
 *   crowd_socket.c      a socket for it
 *   crowd_read.c        bytes to answers, answers to the account; what was found
 *   crowd_run.c         the run, its clients, the account
 *   crowd_options.c     the command line
 *   crowd_answer.c      bytes of an answer to a verdict
 *   crowd_histogram.c   many times in little memory */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "crowd_client.h"
#include "crowd_report.h"

enum {
    TICK_MS = 10,   /* between two looks at who is due, and whether all are there */
    QUIET_MS = 150, /* holders are there when nothing changed for so long: a refusal */
    PATIENCE_MS = 1000, /* comes after the kernel's handshake. Who waits longer, waits */
    SPARE_FDS = 32,
};

static struct event tick, deadline, sample, signals[2], eof;
static bool ready;

/* ---- the beginning and the end of a run ---- */

static void add_event(struct event *e, int fd, short what, event_callback_fn call,
                      int64_t ms)
{
    struct timeval time = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

    if (event_assign(e, run.base, fd, what, call, NULL) == -1 ||
        event_add(e, ms > 0 ? &time : NULL) == -1)
        die(EXIT_SYSTEM, "libevent: an event could not be added");
}

static void on_sample(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    report_sample();
}

static void say_ready(void)
{
    if (ready)
        return;
    report_ready();
    ready = true;
    if (run.opt.sample_ms > 0)
        add_event(&sample, -1, EV_PERSIST, on_sample, run.opt.sample_ms);
}

/* No new requests. at_once: do not even wait for the answers under way. */
static void stop(bool at_once)
{
    if (!run.stopping) {
        say_ready();
        run.stopping = true;
        run.stopped_ns = now_ns();
        report_count();
    }
    for (int i = 0; i < run.opt.connections; i++)
        client_stop(&run.clients[i], at_once);
}

/* Begin with the clients that are due by now. */
static void start_due(void)
{
    int64_t due = run.opt.connections;

    if (run.opt.connect_rate > 0)
        due = ((now_ns() - run.began_ns) / 1000000 + TICK_MS) * run.opt.connect_rate /
                  1000 +
              1;
    while (run.started < run.opt.connections && run.started < due && !run.stopping)
        client_start(&run.clients[run.started++]);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    int64_t unchanged_ms;

    (void)fd;
    (void)what;
    (void)arg;
    start_due();
    if (run.started < run.opt.connections)
        return;
    unchanged_ms = (now_ns() - run.changed_ns) / 1000000;
    if (unchanged_ms >= PATIENCE_MS ||
        (run.settled == run.opt.connections &&
         (!run.opt.traits->holder || unchanged_ms >= QUIET_MS))) {
        say_ready();
        event_del(&tick);
    }
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    stop(false);
}

/* The second signal is meant more seriously than the first. */
static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    stop(run.stopping);
}

static void on_stdin(evutil_socket_t fd, short what, void *arg)
{
    char ignored[4096];

    (void)what;
    (void)arg;
    if (read(fd, ignored, sizeof(ignored)) > 0)
        return;
    event_del(&eof);
    stop(false);
}

/* ---- set-up ---- */

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    rlim_t needed = (rlim_t)run.opt.connections + SPARE_FDS;

    if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
        die(EXIT_SYSTEM, "getrlimit: %s", strerror(errno));
    if (limit.rlim_max < needed)
        die(EXIT_SYSTEM,
            "%d connections need %lu descriptors, the hard limit is %lu; see ulimit -Hn",
            run.opt.connections, (unsigned long)needed, (unsigned long)limit.rlim_max);
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == -1)
        die(EXIT_SYSTEM, "setrlimit(RLIMIT_NOFILE): %s", strerror(errno));
}

/* The text of a request, as often as one write takes of it. */
static void make_request(void)
{
    const struct crowd_options *opt = &run.opt;
    bool six = opt->address.ss_family == AF_INET6;
    char *one;
    int len = asprintf(&one, "GET %s HTTP/1.1\r\nHost: %s%s%s:%d\r\n%s\r\n", opt->path,
                       six ? "[" : "", opt->host, six ? "]" : "", opt->port,
                       opt->behaviour == PROBE || opt->behaviour == SHORT
                           ? "Connection: close\r\n"
                           : "");

    if (len == -1)
        die(EXIT_SYSTEM, "no memory");
    run.request_len = (size_t)len;
    run.request = calloc((size_t)opt->depth, run.request_len);
    if (run.request == NULL)
        die(EXIT_SYSTEM, "no memory");
    for (int i = 0; i < opt->depth; i++)
        memcpy(run.request + (size_t)i * run.request_len, one, run.request_len);
    free(one);
}

static void make_clients(void)
{
    run.clients = calloc((size_t)run.opt.connections, sizeof(*run.clients));
    if (run.clients == NULL)
        die(EXIT_SYSTEM, "no memory for %d clients", run.opt.connections);
    for (int i = 0; i < run.opt.connections; i++)
        client_init(&run.clients[i]);
    run.active = run.opt.connections;
}

/* Coarse time costs libevent no system call, and is 1 to 4 ms wrong. */
static void make_base(void)
{
    struct event_config *config = event_config_new();
    struct timeval timeout = { .tv_sec = run.opt.timeout_ms / 1000,
                               .tv_usec = run.opt.timeout_ms % 1000 * 1000 };

    if (config == NULL)
        die(EXIT_SYSTEM, "no memory");
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    if (run.opt.interval_ms > 0)
        event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
    run.base = event_base_new_with_config(config);
    event_config_free(config);
    if (run.base == NULL)
        die(EXIT_SYSTEM, "libevent: no way to wait for events");
    run.timeout = event_base_init_common_timeout(run.base, &timeout);
}

static void ignore_log(int severity, const char *message)
{
    (void)severity;
    (void)message;
}

static void make_events(void)
{
    add_event(&signals[0], SIGTERM, EV_SIGNAL | EV_PERSIST, on_signal, 0);
    add_event(&signals[1], SIGINT, EV_SIGNAL | EV_PERSIST, on_signal, 0);
    add_event(&deadline, -1, 0, on_deadline, run.opt.run_ms);
    add_event(&tick, -1, EV_PERSIST, on_tick, TICK_MS);
    if (!run.opt.until_eof)
        return;
    event_set_log_callback(ignore_log);
    event_assign(&eof, run.base, STDIN_FILENO, EV_READ | EV_PERSIST, on_stdin, NULL);
    if (event_add(&eof, NULL) == -1)
        stop(false); /* epoll(7) does not wait for files: those have no more to say */
}

int main(int argc, char **argv)
{
    crowd_options_parse(&run.opt, argc, argv);
    raise_descriptor_limit();
    make_request();
    make_base();
    make_clients();
    run.began_ns = run.changed_ns = now_ns();
    make_events();
    start_due();
    if (run.active > 0)
        event_base_dispatch(run.base);
    stop(true); /* the rest of the account, if the clients ended by themselves */
    report_end();
    event_base_free(run.base);
    free(run.clients);
    free(run.request);
    return 0;
}
