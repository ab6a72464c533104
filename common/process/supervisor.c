/* supervisor.c - see supervisor.h.
 * Does not: serve clients; it sleeps in sigtimedwait(2) nearly always. */
#include "process/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/stop.h"
#include "board/stats.h"
#include "process/daemon.h"
#include "process/pidfile.h"
#include "process/takeover.h"

enum {
    KILL_GRACE_MS = 1000,  /* after the stop time-out, before SIGKILL */
    POLL_MS = 10,          /* pace while a replacement is under way */
    RECYCLE_POLL_MS = 100, /* pace at which --max-requests is looked at */
    START_MS = 10000,      /* for a replacement to be ready; then its predecessor stays */
    CHECK_MS = 10000,      /* for --check of a new program */
    WATCH_MS = 200,        /* --watch: pace of its looks; the file must rest so long */
    GIVE_UP_DEATHS = 3,    /* young deaths of a replacement: the old worker stays */
};

/* Environment, over execve(2): is the present reload graceful, do others wait for the next
 * one, shall that be graceful; 0 or 1 each. */
#define FLAGS "SERVER_RELOAD"

/* A slot has one worker, and for a while the one that it replaces, which is leaving. */
struct worker {
    pid_t pid;             /* 0: none at the moment */
    int side;              /* which of the slot's two cells is its */
    int64_t started;       /* clock_ms() */
    int64_t start_at;      /* clock_ms(), when pid is 0 */
    int young_deaths;      /* in a row */
    uint64_t last_request; /* requests of its cell at which it is recycled; 0: never */
    pid_t leaving;         /* 0: nobody */
    bool told;             /* the leaving one was told to drain: its successor is ready */
    int64_t kill_at; /* clock_ms() when the leaving one is killed; INT64_MAX: never */
};

static const struct options *opt;
static struct worker workers[MAX_WORKERS];
static pid_t master;
static sigset_t outside; /* the signal mask for workers */
static sigset_t signals; /* what the master waits for */

static struct {
    bool wanted, wanted_graceful; /* by those who wait for the next run */
    bool graceful;                /* the present run */
    pid_t checker;                /* 0: none */
    int complaint;                /* what it says */
    int64_t check_until;
    int next_slot; /* to be replaced; opt->workers: all were */
    bool rolling;
    struct stat watched; /* --watch: the program file at the last look */
    int64_t look_at;     /* clock_ms() of the next look */
    bool settling;       /* it has changed, and may not be complete */
} reload;

static struct stats *cell_of(int slot)
{
    return stats_cell(slot, workers[slot].side);
}

static void start(int slot, pid_t (*spawn)(int slot))
{
    struct worker *w = &workers[slot];
    uint64_t requests = stats_get(&cell_of(slot)->requests);

    w->started = clock_ms();
    stats_set(&cell_of(slot)->state, WORKER_STARTING);
    if (opt->max_requests > 0) /* up to a tenth more, or all would go at the same time */
        w->last_request = requests + (uint64_t)opt->max_requests +
                          (uint64_t)rand() % ((uint64_t)opt->max_requests / 10 + 1);
    w->pid = spawn(slot);
    if (w->pid == -1) {
        log_line(LOG_ERROR, "fork: %s; trying again in a second", strerror(errno));
        w->pid = 0;
        w->start_at = clock_ms() + YOUNG_MS;
    } else { /* at once: a reload may come before the worker enters itself */
        stats_set(&cell_of(slot)->pid, (uint64_t)w->pid);
        stats_set(&cell_of(slot)->started_ms, (uint64_t)w->started);
    }
}

/* [supervisor.next-start] */
/* When may the slot's next worker start? A program that dies at start must not become a
 * loop of forks; but the pause stays under a second, since a crash is no reason to be
 * away. */
static int64_t next_start(struct worker *w, int64_t now)
{
    int pause = RESPAWN_MIN_MS;

    if (now - w->started >= YOUNG_MS) {
        w->young_deaths = 0;
        return now;
    }
    for (int i = 0; i < w->young_deaths && pause < RESPAWN_MAX_MS; i++)
        pause *= 2;
    w->young_deaths++;
    return now + pause;
}

static void describe_death(int slot, pid_t pid, int status)
{
    if (WIFSIGNALED(status))
        log_line(LOG_WARNING, "worker %d (pid %d) was killed by signal %d (%s)", slot,
                 pid, WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        log_line(LOG_WARNING, "worker %d (pid %d) exited with status %d", slot, pid,
                 WEXITSTATUS(status));
}

static void empty_cell(struct stats *cell, int status)
{
    stats_set(&cell->exit_status, (uint64_t)(WIFSIGNALED(status) ? 128 + WTERMSIG(status)
                                                                 : WEXITSTATUS(status)));
    stats_set(&cell->state, WORKER_NONE);
    stats_set(&cell->connections, 0);
    stats_set(&cell->busy_since_ms, 0);
    stats_set(&cell->pid, 0);
}

static void worker_died(int slot, pid_t pid, int status, bool stopping_all)
{
    struct worker *w = &workers[slot];

    if (w->leaving == pid) {
        empty_cell(stats_cell(slot, !w->side), status);
        w->leaving = 0;
        return;
    }
    empty_cell(cell_of(slot), status);
    w->pid = 0;
    w->start_at = next_start(w, clock_ms());
    if (!stopping_all) {
        stats_add(&cell_of(slot)->restarts, 1);
        describe_death(slot, pid, status);
    }
}

static struct reload_run *present_run(void)
{
    return &board->runs[stats_get(&board->reloads_begun) % BOARD_RELOADS];
}

static void reload_failed(const char *why)
{
    struct reload_run *run = present_run();

    snprintf(run->error, sizeof(run->error), "%s", why);
    run->outcome = RELOAD_FAILED;
    stats_add(&board->reloads_failed, 1);
    log_line(LOG_ERROR, "reload failed, the old program goes on: %s", why);
    daemon_notify("READY=1");
    reload.rolling = false;
}

static void start_check(void)
{
    reload.checker = takeover_check(opt, &reload.complaint);
    reload.check_until = clock_ms() + CHECK_MS;
    if (reload.checker == -1) {
        reload.checker = 0;
        reload_failed(strerror(errno));
    }
}

static void become_new(void)
{
    char why[256], flags[8];

    log_line(LOG_INFO, "reload: becoming %s", takeover_program());
    snprintf(flags, sizeof(flags), "%d%d%d", reload.graceful, reload.wanted,
             reload.wanted_graceful);
    setenv(FLAGS, flags, 1);
    takeover_exec(opt);
    snprintf(why, sizeof(why), "%s: %s", takeover_program(), strerror(errno));
    reload_failed(why);
}

/* Why the check is no consent; said: what it printed. */
static void check_failed(int status, const char *said)
{
    char why[256];
    bool exited = WIFEXITED(status);

    if (exited && WEXITSTATUS(status) == 0)
        snprintf(why, sizeof(why),
                 "%s --check does not see that it is to take over; %.99s",
                 takeover_program(), said);
    else if (*said)
        snprintf(why, sizeof(why), "%s", said);
    else
        snprintf(why, sizeof(why), "%s --check %s %d", takeover_program(),
                 exited ? "exited with status" : "was killed by signal",
                 exited ? WEXITSTATUS(status) : WTERMSIG(status));
    reload_failed(why);
}

/* --check has ended. Good: become the new program. */
static void check_done(int status, bool stopping_all)
{
    char said[256] = "";
    ssize_t n = read(reload.complaint, said, sizeof(said) - 1);

    close(reload.complaint);
    reload.checker = 0;
    if (stopping_all) /* who is told to end does not become another */
        return;
    for (ssize_t i = 0; i < n; i++)
        if (said[i] == '\n')
            said[i] = i + 1 < n ? ';' : '\0';
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !strstr(said, TAKEOVER_CONSENT))
        check_failed(status, said);
    else if (takeover_unchecked())
        start_check(); /* the file was replaced meanwhile: this one as well */
    else
        become_new();
}

/* [supervisor.reap] */
/* Collect every dead child: one SIGCHLD may stand for several. */
static void reap(bool stopping_all)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == reload.checker) {
            check_done(status, stopping_all);
            continue;
        }
        for (int slot = 0; slot < opt->workers; slot++)
            if (workers[slot].pid == pid || workers[slot].leaving == pid)
                worker_died(slot, pid, status, stopping_all);
    }
}

/* --- replacing ---------------------------------------------------------------------- */

/* Start a second worker in the slot; the first goes on until the second is ready. */
static void replace(int slot, pid_t (*spawn)(int slot))
{
    struct worker *w = &workers[slot];

    if (w->leaving || w->pid == 0)
        return;
    w->leaving = w->pid;
    w->told = false;
    w->kill_at = INT64_MAX;
    w->pid = 0;
    w->young_deaths = 0;
    w->side = !w->side;
    start(slot, spawn);
}

/* The replacement keeps dying: its predecessor, which was not told to go, stays. */
static void restore(int slot)
{
    struct worker *w = &workers[slot];

    w->side = !w->side;
    w->pid = w->leaving;
    w->leaving = 0;
    w->young_deaths = 0;
    if (reload.rolling)
        reload_failed("a new worker dies at start, or hangs; see the log");
}

static void watch_replacement(int slot)
{
    struct worker *w = &workers[slot];
    union sigval value = { .sival_int = reload.graceful };

    if (w->leaving == 0)
        return;
    if (!w->told && w->pid != 0 && stats_get(&cell_of(slot)->state) == WORKER_READY) {
        stats_set(&stats_cell(slot, !w->side)->state, WORKER_LEAVING);
        sigqueue(w->leaving, SIGUSR1, value);
        w->told = true;
        w->kill_at = reload.graceful ? INT64_MAX
                                     : clock_ms() + opt->stop_timeout_ms + KILL_GRACE_MS;
    } else if (!w->told && w->pid == 0 && w->young_deaths >= GIVE_UP_DEATHS) {
        restore(slot);
    } else if (!w->told && w->pid != 0 && clock_ms() - w->started > START_MS) {
        int status = 0;

        kill(w->pid, SIGKILL);
        waitpid(w->pid, &status, 0);
        empty_cell(cell_of(slot), status);
        restore(slot);
    } else if (w->told && clock_ms() >= w->kill_at) {
        log_line(LOG_WARNING, "worker %d (pid %d) has not ended; killing it", slot,
                 w->leaving);
        kill(w->leaving, SIGKILL);
        w->kill_at = INT64_MAX;
    }
}

/* One slot after the other: the next is begun when this one's new worker accepts. */
static void roll(pid_t (*spawn)(int slot))
{
    bool all_gone = true;

    for (int slot = 0; slot < opt->workers; slot++) {
        watch_replacement(slot);
        all_gone = all_gone && workers[slot].leaving == 0;
        if (workers[slot].leaving && !workers[slot].told)
            return;
    }
    if (!reload.rolling)
        return;
    if (reload.next_slot < opt->workers) {
        if (!workers[reload.next_slot].leaving)
            replace(reload.next_slot++, spawn); /* who died has a new successor anyway */
    } else if (all_gone) {
        reload.rolling = false;
        present_run()->outcome = RELOAD_DONE;
        stats_add(&board->reloads_done, 1);
        log_line(LOG_INFO, "reload: all workers are new");
        daemon_notify("READY=1");
    }
}

static void recycle(pid_t (*spawn)(int slot))
{
    for (int slot = 0; slot < opt->workers; slot++) {
        struct worker *w = &workers[slot];

        if (w->pid && w->last_request &&
            stats_get(&cell_of(slot)->requests) >= w->last_request)
            replace(slot, spawn);
    }
}

static void begin_reload(void)
{
    struct reload_run *run;
    sigset_t pending;

    if (!reload.wanted || reload.checker || reload.rolling)
        return;
    sigpending(&pending);
    if (sigismember(&pending, SIGUSR1) || sigismember(&pending, SIGHUP))
        return; /* who asked shares this run; the loop takes the signal without a sleep */
    reload.graceful = reload.wanted_graceful;
    reload.wanted = reload.wanted_graceful = false;
    daemon_notify("RELOADING=1");
    run = &board->runs[(stats_get(&board->reloads_begun) + 1) % BOARD_RELOADS];
    run->outcome = RELOAD_RUNS;
    run->began_ns = clock_ns();
    stats_add(&board->reloads_begun, 1);
    start_check();
}

/* Has --watch seen a change? The name is looked up anew each time, so a flipped link
 * anywhere in it is a change, and a folder may be removed and made again. Returns when to
 * look next. */
static int64_t watch_program(int64_t now)
{
    if (now < reload.look_at)
        return reload.look_at;
    reload.look_at = now + WATCH_MS;
    if (takeover_program_changed(&reload.watched)) {
        reload.settling = true;
    } else if (reload.settling) {
        reload.settling = false;
        reload.wanted = true;
    }
    return reload.look_at;
}

/* --- the loop ----------------------------------------------------------------------- */

static int alive(void)
{
    int n = 0;

    for (int slot = 0; slot < opt->workers; slot++)
        n += (workers[slot].pid != 0) + (workers[slot].leaving != 0);
    return n;
}

static void kill_all(int sig)
{
    for (int slot = 0; slot < opt->workers; slot++) {
        if (workers[slot].pid != 0)
            kill(workers[slot].pid, sig);
        if (workers[slot].leaving != 0)
            kill(workers[slot].leaving, sig);
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
static int64_t do_due(pid_t (*spawn)(int slot))
{
    int64_t now = clock_ms();
    int64_t next = now + 3600 * INT64_C(1000);

    roll(spawn);
    if (opt->max_requests > 0) {
        recycle(spawn);
        next = now + RECYCLE_POLL_MS;
    }
    for (int slot = 0; slot < opt->workers; slot++) {
        if (workers[slot].pid == 0 && workers[slot].start_at <= now)
            start(slot, spawn);
        if (workers[slot].pid == 0)
            next = sooner(next, workers[slot].start_at);
        if (workers[slot].leaving != 0)
            next = sooner(next, now + POLL_MS);
    }
    if (opt->watch)
        next = sooner(next, watch_program(now));
    if (reload.checker && now >= reload.check_until)
        kill(-reload.checker, SIGKILL);
    if (reload.checker)
        next = sooner(next, reload.check_until);
    begin_reload();
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
    int64_t give_up = clock_ms() + opt->stop_timeout_ms + KILL_GRACE_MS;
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
            give_up = clock_ms() + opt->stop_timeout_ms + KILL_GRACE_MS;
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
    sigprocmask(SIG_BLOCK, &signals, &outside);
    for (size_t i = 0; i < sizeof(handled) / sizeof(handled[0]); i++)
        sigdelset(&outside, handled[i]); /* after a takeover they were blocked already */
    signal(SIGPIPE, SIG_IGN);
}

/* After a takeover: the children are ours still, and the board says where they sit. */
static void adopt(void)
{
    const char *flags = getenv(FLAGS);

    for (int slot = 0; slot < opt->workers; slot++) {
        struct worker *w = &workers[slot];

        for (int side = 0; side < 2; side++) {
            struct stats *cell = stats_cell(slot, side);
            pid_t pid = (pid_t)stats_get(&cell->pid);
            int status = 0;

            if (pid == 0)
                continue;
            if (waitpid(pid, &status, WNOHANG) != 0) {
                empty_cell(cell, status);
            } else if (stats_get(&cell->state) == WORKER_LEAVING) {
                w->leaving = pid;
                w->told = true;
                w->kill_at = clock_ms() + opt->stop_timeout_ms + KILL_GRACE_MS;
            } else {
                if (w->pid) /* it was being recycled */
                    w->leaving = w->pid, w->kill_at = INT64_MAX;
                w->pid = pid;
                w->side = side;
                w->started = (int64_t)stats_get(&cell->started_ms);
            }
        }
        if (w->pid == 0 && w->leaving)
            w->side = stats_get(&stats_cell(slot, 0)->pid) == (uint64_t)w->leaving;
    }
    if (flags && strlen(flags) == 3) {
        reload.graceful = flags[0] == '1';
        reload.wanted = flags[1] == '1';
        reload.wanted_graceful = flags[2] == '1';
    }
    unsetenv(FLAGS);
    reload.rolling = stats_get(&board->reloads_begun) >
                     stats_get(&board->reloads_done) + stats_get(&board->reloads_failed);
}

int supervise(const struct options *options, pid_t (*spawn)(int slot))
{
    siginfo_t info;
    int sig;

    opt = options;
    master = getpid();
    supervise_signals();
    adopt();
    if (opt->watch)
        takeover_program_changed(&reload.watched); /* from now on */
    /* [supervisor.loop] */
    do {
        reap(false); /* may become the new program: no signal is in hand now */
        sig = sleep_until(do_due(spawn), &info);
    } while (!handle(sig, &info));
    stop_all(sig);
    return EXIT_SUCCESS;
}

/* --- in the worker ------------------------------------------------------------------ */

/* [supervisor.worker-begin] */
void worker_begin(int slot)
{
    pidfile_forget();
    daemon_become(opt->user, false);
    /* After daemon_become(), which clears it. */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) == -1)
        die(EXIT_SYSTEM, "prctl(PR_SET_PDEATHSIG): %s", strerror(errno));
    if (getppid() != master) /* it died before prctl(2): no signal will come */
        exit(EXIT_SUCCESS);
    stats_take(slot, workers[slot].side);
    stop_on_signals(opt->stop_timeout_ms);
    stop_on_drain();
    daemon_reopen_on_signal();
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN); /* the terminal's too; the master knows what it means */
    sigprocmask(SIG_SETMASK, &outside, NULL);
}

void worker_ready(void)
{
    stats_set(&stats->state, WORKER_READY);
}
