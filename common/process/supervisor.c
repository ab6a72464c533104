/* supervisor.c - the master's loop: reap, do what is due, sleep until a signal comes; and
 * the end of it all. See supervisor.h.
 * Does not: serve clients; it sleeps in sigtimedwait(2) nearly always. */
#include "process/supervisor.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "process/crew.h"
#include "process/daemon.h"
#include "process/takeover.h"

enum { RECYCLE_POLL_MS = 100 }; /* pace at which --max-requests is looked at */

struct crew crew;
static sigset_t signals; /* what the master waits for */

/* [supervisor.reap] */
/* Collect every dead child: one SIGCHLD may stand for several. */
static void reap(bool stopping_all)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == reload.checker) {
            reload_checked(status, stopping_all);
            continue;
        }
        for (int slot = 0; slot < crew.opt->workers; slot++)
            if (crew.workers[slot].pid == pid || crew.workers[slot].leaving == pid)
                worker_died(slot, pid, status, stopping_all);
    }
}

static int alive(void)
{
    int n = 0;

    for (int slot = 0; slot < crew.opt->workers; slot++)
        n += (crew.workers[slot].pid != 0) + (crew.workers[slot].leaving != 0);
    return n;
}

static void kill_all(int sig)
{
    for (int slot = 0; slot < crew.opt->workers; slot++) {
        if (crew.workers[slot].pid != 0)
            kill(crew.workers[slot].pid, sig);
        if (crew.workers[slot].leaving != 0)
            kill(crew.workers[slot].leaving, sig);
    }
}

/* Sleep until a signal comes or clock_ms() reaches `until`. Returns the signal, 0 for
 * none. */
static int sleep_until(int64_t until, siginfo_t *info)
{
    int64_t ms = until - clock_ms();
    struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
    int sig;

    if (ms <= 0)
        left = (struct timespec){ 0 };
    sig = sigtimedwait(&signals, info, &left);
    return sig == -1 ? 0 : sig;
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Do what is due. Returns when the next thing is. */
static int64_t do_due(void)
{
    int64_t now = clock_ms();
    int64_t next = now + 3600 * INT64_C(1000);

    replace_roll();
    if (crew.opt->max_requests > 0) {
        replace_recycle();
        next = now + RECYCLE_POLL_MS;
    }
    for (int slot = 0; slot < crew.opt->workers; slot++) {
        if (crew.workers[slot].pid == 0 && crew.workers[slot].start_at <= now)
            worker_start(slot);
        if (crew.workers[slot].pid == 0)
            next = sooner(next, crew.workers[slot].start_at);
        if (crew.workers[slot].leaving != 0)
            next = sooner(next, now + POLL_MS);
    }
    if (crew.opt->watch)
        next = sooner(next, reload_watch(now));
    if (reload.checker && now >= reload.check_until)
        kill(-reload.checker, SIGKILL);
    if (reload.checker)
        next = sooner(next, reload.check_until);
    reload_begin();
    return reload.rolling ? sooner(next, now + POLL_MS) : next;
}

/* True: the signal ends the server. */
static bool handle(int sig, const siginfo_t *info)
{
    switch (sig) {
    case SIGTERM:
    case SIGINT:
    case SIGQUIT:
        return true;
    case SIGUSR1:
    case SIGHUP:
        reload.wanted = true;
        if (info->si_code == SI_QUEUE && info->si_value.sival_int == 1)
            reload.wanted_graceful = true; /* whoever shares the run: no client is lost */
        return false;
    case SIGUSR2:
        daemon_reopen_log();
        kill_all(SIGUSR2);
        return false;
    default:
        return false;
    }
}

static void stop_all(int first)
{
    bool bounded = first != SIGQUIT;
    int64_t give_up = clock_ms() + crew.opt->stop_timeout_ms + KILL_GRACE_MS;
    bool killed = false;

    daemon_notify("STOPPING=1");
    if (reload.checker)
        kill(-reload.checker, SIGKILL);
    kill_all(first == SIGQUIT ? SIGQUIT : SIGTERM);
    while (reap(true), alive() > 0 || reload.checker) {
        siginfo_t info;
        int sig = sleep_until(bounded ? give_up : clock_ms() + KILL_GRACE_MS, &info);
        bool again = sig == SIGTERM || sig == SIGINT;

        if (again && !bounded) { /* patience is over: now as with SIGTERM */
            bounded = true;
            give_up = clock_ms() + crew.opt->stop_timeout_ms + KILL_GRACE_MS;
            kill_all(SIGTERM);
        } else if (!killed && bounded && (again || clock_ms() >= give_up)) {
            log_line(LOG_WARNING, "killing %d workers that have not ended", alive());
            kill_all(SIGKILL);
            killed = true;
            give_up = clock_ms() + KILL_GRACE_MS; /* only a pace for the look-out now */
        }
    }
}

void supervise_signals(void)
{
    static const int handled[] = { SIGCHLD, SIGTERM, SIGINT, SIGQUIT,
                                   SIGUSR1, SIGUSR2, SIGHUP };

    sigemptyset(&signals);
    for (size_t i = 0; i < sizeof(handled) / sizeof(handled[0]); i++)
        sigaddset(&signals, handled[i]);
    sigprocmask(SIG_BLOCK, &signals, &crew.outside);
    /* After a takeover they were blocked already. */
    for (size_t i = 0; i < sizeof(handled) / sizeof(handled[0]); i++)
        sigdelset(&crew.outside, handled[i]);
    signal(SIGPIPE, SIG_IGN);
}

int supervise(const struct options *options, pid_t (*spawn)(int slot))
{
    siginfo_t info;
    int sig;

    crew.opt = options;
    crew.spawn = spawn;
    crew.master = getpid();
    supervise_signals();
    reload_adopt();
    if (crew.opt->watch)
        takeover_program_changed(&reload.watched); /* from now on */
    /* [supervisor.loop] */
    do {
        reap(false); /* may become the new program: no signal is in hand now */
        sig = sleep_until(do_due(), &info);
    } while (!handle(sig, &info));
    stop_all(sig);
    return EXIT_SUCCESS;
}
