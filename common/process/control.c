/* control.c - see control.h.
 * Does not: wait without a bound, unless --graceful asks for it. */
#include "process/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/stop.h"
#include "board/stats.h"
#include "board/status.h"
#include "net/net.h"
#include "process/daemon.h"
#include "process/pidfile.h"
#include "process/supervisor.h"
#include "process/takeover.h"

enum {
    FIRST_LISTEN_FD = 3,
    STOP_MARGIN_MS = 3000, /* after the server's own bound for its end */
    RELOAD_STEP_MS = 20,
    WATCH_MS = 1000,
};

static bool taken_over;
static pid_t keeper;         /* of the pid file, where the server may not remove it */
static int keeper_pipe = -1; /* its end tells the keeper that the server has ended */

/* A running server, or die(). */
static int find_server(const struct options *opt, pid_t *pid)
{
    char path[PIDFILE_PATH_MAX];
    int pidfd = pidfile_holder(opt, pid);

    if (pidfd == -1) {
        pidfile_path(opt, path);
        die(EXIT_SYSTEM,
            "not running on port %d (nobody holds %s); see --port, --address and "
            "--pid-file",
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

/* The run that answers a command: the first that began after it asked. One that is under
 * way then may have looked at an earlier program; requests that wait for its end share the
 * next. NULL: it has not begun yet. */
static const struct reload_run *run_since(uint64_t earlier, int64_t asked_ns)
{
    uint64_t begun = stats_get(&board->reloads_begun);

    for (uint64_t n = earlier + 1; n <= begun; n++) {
        const struct reload_run *run = &board->runs[n % BOARD_RELOADS];

        if (run->began_ns >= asked_ns)
            return run;
    }
    return NULL;
}

static void reload_server(const struct options *opt, int pidfd, pid_t pid)
{
    struct pollfd end = { .fd = pidfd, .events = POLLIN };
    int64_t until = clock_ms() + reload_bound_ms(opt);
    const struct reload_run *run;
    uint64_t earlier;
    int64_t asked_ns;

    look_at_board(pid);
    earlier = stats_get(&board->reloads_begun);
    asked_ns = clock_ns();
    signal_server(pidfd, pid, SIGUSR1, opt->graceful);
    do {
        if (poll(&end, 1, RELOAD_STEP_MS) == 1)
            die(EXIT_SYSTEM, "the server (pid %d) ended during the reload; see its log",
                (int)pid);
        run = run_since(earlier, asked_ns);
    } while ((run == NULL || run->outcome == RELOAD_RUNS) && clock_ms() < until);
    if (run == NULL || run->outcome == RELOAD_RUNS)
        die(EXIT_SYSTEM, "the reload has not ended in time; see status, and the log");
    if (run->outcome == RELOAD_FAILED)
        die(EXIT_SYSTEM, "reload failed, the old program goes on: %s", run->error);
    printf("%s: reloaded (pid %d)\n", opt->name, (int)pid);
}

/* With --watch: is there a server still? Another one, after a restart, has another
 * board. */
static bool still_there(const struct options *opt, pid_t *pid)
{
    pid_t before = *pid;
    int pidfd = pidfile_holder(opt, pid);

    if (pidfd == -1)
        return false;
    close(pidfd);
    return *pid == before || stats_look(*pid);
}

_Noreturn static void show(const struct options *opt)
{
    pid_t pid;

    find_server(opt, &pid);
    look_at_board(pid);
    do {
        if (opt->watch && !opt->json)
            fputs("\033[H\033[2J", stdout);
        if (opt->verb == VERB_STATUS)
            status_print(opt);
        else
            connections_print(opt);
        fflush(stdout);
        if (opt->watch)
            poll(NULL, 0, WATCH_MS);
    } while (opt->watch && still_there(opt, &pid));
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
    if (opt->log && !daemon_log_usable(opt->log))
        die(EXIT_SYSTEM, "cannot open %s: %s", opt->log, strerror(errno));
    if (takeover_fits(opt)) {
        puts(TAKEOVER_CONSENT); /* one that is no server at all would end with 0, too */
    } else {
        pidfile_check(opt); /* a reload keeps the file that there is */
        puts("this program would start");
    }
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
    if (opt->verb == VERB_STOP || opt->verb == VERB_RELOAD)
        stop_or_reload(opt);
    daemon_become(opt->user, true); /* before anything is made: does the user exist? */
    if (opt->log && !daemon_open_log(opt->log, opt->user))
        die(EXIT_SYSTEM, "cannot open %s: %s; choose another --log", opt->log,
            strerror(errno));
    if (opt->verb == VERB_RESTART)
        stop_or_reload(opt);
    take_listen_fds(opt);
    if (opt->daemon)
        daemon_start();
    if (opt->port != 0)
        pidfile_lock(opt);
}

_Noreturn static void keep_files(int pipe_end)
{
    const int *listeners;
    int n = net_listeners(&listeners);
    sigset_t all;
    char byte;

    sigfillset(&all); /* what is sent to the group is meant for the server */
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int i = 0; i < n; i++)
        close(listeners[i]);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        close(fd); /* the log may be rotated; nothing is opened or said here any more */
    while (read(pipe_end, &byte, 1) == -1 && errno == EINTR)
        continue;
    control_end();
    _exit(EXIT_SUCCESS);
}

/* A stage without a master is going to be somebody who may not remove what was made here.
 * The keeper stays who we are, waits for the server's end, and does nothing else. */
static void leave_keeper(void)
{
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) == -1 || (pid = fork()) == -1)
        die(EXIT_SYSTEM, "cannot start the keeper of the pid file: %s", strerror(errno));
    if (pid == 0) {
        close(ends[1]);
        keep_files(ends[0]);
    }
    close(ends[0]);
    keeper_pipe = ends[1];
    keeper = pid;
}

void control_ready(struct options *opt, unsigned features)
{
    tzset(); /* or the first answer's date opens /etc/localtime while its client waits */
    if (taken_over) {
        pidfile_inherit(opt, pidfile_fd()); /* its name: the port is known by now */
        if (opt->log && !daemon_open_log(opt->log, opt->user))
            log_line(LOG_WARNING, "cannot open %s: %s; the log goes on where it was",
                     opt->log, strerror(errno));
        daemon_ready();
        return;
    }
    if (pidfile_fd() == -1)
        pidfile_lock(opt);
    stats_setup(opt);
    atexit(control_end); /* a start that fails later leaves nothing behind */
    if (!(features & OPTIONS_MASTER)) {
        if (opt->user)
            leave_keeper();
        daemon_become(opt->user, false);
        stop_at_end = control_end;
        stop_on_signals(opt->stop_timeout_ms);
        daemon_reopen_on_signal();
    } else {
        supervise_signals();
    }
    net_announce(opt);
    daemon_ready();
    daemon_notify("READY=1");
}

void control_end(void)
{
    pidfile_remove();
    if (keeper_pipe == -1)
        return;
    close(keeper_pipe);
    keeper_pipe = -1;
    waitpid(keeper, NULL, 0); /* who waits for our end finds the files gone */
}
