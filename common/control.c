/* control.c - see control.h.
 * Does not: wait without a bound, unless --graceful asks for it. */
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "daemon.h"
#include "log.h"
#include "net.h"
#include "pidfile.h"
#include "stats.h"
#include "status.h"
#include "stop.h"
#include "supervisor.h"
#include "takeover.h"

enum {
    FIRST_LISTEN_FD = 3,
    STOP_MARGIN_MS = 3000, /* after the server's own bound for its end */
    RELOAD_STEP_MS = 20,
    WATCH_MS = 1000,
};

static bool taken_over;

/* A running server, or die(). */
static int find_server(const struct options *opt, pid_t *pid)
{
    char path[PIDFILE_PATH_MAX];
    int pidfd = pidfile_holder(opt, pid);

    if (pidfd == -1) {
        pidfile_path(opt, "", path);
        die(EXIT_SYSTEM,
            "not running on port %d (nobody holds %s); see --port and --pid-file",
            opt->port, path);
    }
    return pidfd;
}

static void look_at_board(pid_t pid)
{
    if (!stats_look(pid))
        die(EXIT_SYSTEM, "cannot look at the scoreboard of pid %d: %s", (int)pid,
            errno == EPROTO   ? "it is another version's; restart the server"
            : errno == EACCES ? "only its user and root may"
                              : strerror(errno));
}

static void signal_server(int pidfd, pid_t pid, int sig, int value)
{
    siginfo_t info = { .si_signo = sig, .si_code = SI_QUEUE };

    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_int = value;
    if (pidfd_send_signal(pidfd, sig, &info, 0) == -1)
        die(EXIT_SYSTEM, "cannot signal pid %d: %s", (int)pid, strerror(errno));
}

/* Tell the server to end, and wait until it has. A pidfd is readable then:
 * pidfd_open(2). */
static void stop_server(const struct options *opt, int pidfd, pid_t pid)
{
    struct pollfd end = { .fd = pidfd, .events = POLLIN };
    int bound = opt->graceful ? -1 : opt->stop_timeout_ms + STOP_MARGIN_MS;

    signal_server(pidfd, pid, opt->graceful ? SIGQUIT : SIGTERM, 0);
    if (poll(&end, 1, bound) == 1)
        return;
    signal_server(pidfd, pid, SIGTERM, 0); /* the second ends it at once */
    if (poll(&end, 1, STOP_MARGIN_MS) != 1)
        die(EXIT_SYSTEM, "pid %d has not ended; it may be stopped or traced", (int)pid);
}

/* How long may a reload take? The check, and one stop time-out for all the old
 * workers. */
static int64_t reload_bound_ms(const struct options *opt)
{
    return opt->graceful ? INT64_MAX / 2 : 30000 + 2 * (int64_t)opt->stop_timeout_ms;
}

static void reload_server(const struct options *opt, int pidfd, pid_t pid)
{
    uint64_t done, failed, ended;
    struct pollfd end = { .fd = pidfd, .events = POLLIN };
    int64_t until = clock_ms() + reload_bound_ms(opt);

    look_at_board(pid);
    done = stats_get(&board->reloads_done);
    failed = stats_get(&board->reloads_failed);
    signal_server(pidfd, pid, SIGUSR1, opt->graceful);
    do {
        if (poll(&end, 1, RELOAD_STEP_MS) == 1)
            die(EXIT_SYSTEM, "the server (pid %d) ended during the reload; see its log",
                (int)pid);
        if (stats_get(&board->reloads_failed) > failed)
            die(EXIT_SYSTEM, "reload failed, the old program goes on: %s",
                board->reload_error);
        ended = stats_get(&board->reloads_done);
    } while (ended == done && clock_ms() < until);
    if (ended == done)
        die(EXIT_SYSTEM, "the reload has not ended in time; see status, and the log");
    printf("%s: reloaded (pid %d)\n", opt->name, (int)pid);
}

_Noreturn static void show(const struct options *opt)
{
    pid_t pid;

    find_server(opt, &pid);
    do {
        look_at_board(pid);
        if (opt->watch && !opt->json)
            fputs("\033[H\033[2J", stdout);
        if (opt->verb == VERB_STATUS)
            status_print(opt);
        else
            connections_print(opt);
        fflush(stdout);
        if (opt->watch)
            poll(NULL, 0, WATCH_MS);
    } while (opt->watch && pidfile_holder(opt, &pid) != -1);
    exit(EXIT_SUCCESS);
}

static void stop_or_reload(struct options *opt)
{
    pid_t pid;
    int pidfd;

    if (opt->verb == VERB_RESTART)
        pidfd = pidfile_holder(opt, &pid);
    else
        pidfd = find_server(opt, &pid);
    if (pidfd == -1)
        return; /* a restart with nothing to stop: start */
    if (opt->verb == VERB_RELOAD) {
        reload_server(opt, pidfd, pid);
        exit(EXIT_SUCCESS);
    }
    stop_server(opt, pidfd, pid);
    if (opt->verb == VERB_STOP) {
        printf("%s: stopped (pid %d)\n", opt->name, (int)pid);
        exit(EXIT_SUCCESS);
    }
}

_Noreturn static void check(const struct options *opt)
{
    daemon_become(opt->user, true);
    takeover_check_layout();
    puts(TAKEOVER_CONSENT); /* a program that is no server at all would end with 0, too */
    exit(EXIT_SUCCESS);
}

/* systemd's sockets, if it passed any. */
static void take_listen_fds(struct options *opt)
{
    int fds[MAX_WORKERS];
    int n = daemon_listen_fds();

    for (int i = 0; i < n && i < MAX_WORKERS; i++)
        fds[i] = FIRST_LISTEN_FD + i;
    if (n > 0) {
        net_inherit(fds, n < MAX_WORKERS ? n : MAX_WORKERS);
        opt->port = 0; /* the socket has one, and the pid file is named after that */
    }
}

void control(struct options *opt)
{
    if (opt->check)
        check(opt);
    if (opt->verb == VERB_STATUS || opt->verb == VERB_CONNECTIONS)
        show(opt);
    taken_over = takeover_begun(opt);
    if (taken_over)
        return;
    if (opt->verb != VERB_START)
        stop_or_reload(opt);
    daemon_become(opt->user, true); /* before anything is made: does the user exist? */
    take_listen_fds(opt);
    if (opt->daemon)
        daemon_start();
    if (opt->port != 0)
        pidfile_lock(opt);
}

void control_ready(struct options *opt, unsigned features)
{
    tzset(); /* or the first answer's date opens /etc/localtime while its client waits */
    if (taken_over) {
        pidfile_inherit(opt, pidfile_fd()); /* its name: the port is known by now */
        daemon_ready(opt->log, opt->user);  /* the log's name; it is open already */
        return;
    }
    if (pidfile_fd() == -1)
        pidfile_lock(opt);
    stats_setup(opt);
    atexit(control_end); /* a start that fails later leaves nothing behind */
    if (!(features & OPTIONS_MASTER)) {
        daemon_become(opt->user, false);
        stop_on_signals(opt->stop_timeout_ms);
        daemon_reopen_on_signal();
    } else {
        supervise_signals();
    }
    net_announce(opt);
    daemon_ready(opt->log, opt->user);
    daemon_notify("READY=1");
}

void control_end(void)
{
    pidfile_remove();
}
