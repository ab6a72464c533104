/* supervisor.c - see supervisor.h.
 * Does not: serve clients; it sleeps in sigtimedwait(2) nearly always. */
#include "supervisor.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "options.h"
#include "stats.h"
#include "stop.h"

enum { KILL_AFTER_MS = STOP_TIMEOUT_MS + 1000 };

struct worker {
    pid_t pid;        /* 0: none at the moment */
    int64_t started;  /* clock_ms() */
    int64_t start_at; /* clock_ms(), when pid is 0 */
    int young_deaths; /* in a row */
};

static struct worker workers[MAX_WORKERS];
static int worker_count;
static pid_t supervisor;
static sigset_t outside; /* the signal mask before supervisor_begin() */
static sigset_t signals; /* what is waited for */

static void start(int slot, pid_t (*spawn)(int slot))
{
    struct worker *w = &workers[slot];

    w->started = clock_ms();
    w->pid = spawn(slot);
    if (w->pid == -1) {
        log_line(LOG_ERROR, "fork: %s; trying again in a second", strerror(errno));
        w->pid = 0;
        w->start_at = clock_ms() + YOUNG_MS;
    }
}

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

/* Collect every dead child: one SIGCHLD may stand for several. */
static void reap(bool expected)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (int slot = 0; slot < worker_count; slot++) {
            struct worker *w = &workers[slot];

            if (w->pid != pid)
                continue;
            w->pid = 0;
            w->start_at = next_start(w, clock_ms());
            stats_set(&stats_cell(slot)->pid, 0);
            if (!expected) {
                stats_add(&stats_cell(slot)->restarts, 1);
                describe_death(slot, pid, status);
            }
        }
    }
}

static int alive(void)
{
    int n = 0;

    for (int slot = 0; slot < worker_count; slot++)
        n += workers[slot].pid != 0;
    return n;
}

static void kill_all(int sig)
{
    for (int slot = 0; slot < worker_count; slot++)
        if (workers[slot].pid != 0)
            kill(workers[slot].pid, sig);
}

/* Sleep until a signal comes or clock_ms() reaches `until`. Returns the signal, 0 for
 * none. */
static int sleep_until(int64_t until)
{
    int64_t ms = until - clock_ms();
    struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
    int sig;

    if (ms <= 0)
        return 0;
    sig = sigtimedwait(&signals, NULL, &left);
    return sig == -1 ? 0 : sig;
}

/* Start what is due. Returns when the next one is. */
static int64_t start_due(pid_t (*spawn)(int slot))
{
    int64_t now = clock_ms();
    int64_t next = now + 3600 * INT64_C(1000);

    for (int slot = 0; slot < worker_count; slot++) {
        if (workers[slot].pid == 0 && workers[slot].start_at <= now)
            start(slot, spawn);
        if (workers[slot].pid == 0 && workers[slot].start_at < next)
            next = workers[slot].start_at;
    }
    return next;
}

static void stop_all(void)
{
    int64_t give_up = clock_ms() + KILL_AFTER_MS;
    bool killed = false;

    kill_all(SIGTERM);
    while (reap(true), alive() > 0) {
        int sig = sleep_until(give_up);

        if (!killed && (clock_ms() >= give_up || sig == SIGTERM || sig == SIGINT)) {
            log_line(LOG_WARNING, "killing %d workers that have not ended", alive());
            kill_all(SIGKILL);
            killed = true;
            give_up = clock_ms() + KILL_AFTER_MS; /* only a pace for the look-out now */
        }
    }
}

void supervisor_begin(void)
{
    supervisor = getpid();
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, &outside);
}

int supervise(int n, pid_t (*spawn)(int slot))
{
    int sig = 0;

    if (supervisor != getpid())
        supervisor_begin();
    worker_count = n;
    while (sig != SIGTERM && sig != SIGINT) {
        int64_t next = start_due(spawn);

        sig = sleep_until(next);
        reap(false);
    }
    stop_all();
    return EXIT_SUCCESS;
}

void worker_begin(int slot)
{
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) == -1)
        die(EXIT_SYSTEM, "prctl(PR_SET_PDEATHSIG): %s", strerror(errno));
    if (getppid() != supervisor) /* it died before prctl(2): no signal will come */
        exit(EXIT_SUCCESS);
    stats_take(slot);
    stop_on_signals();
    signal(SIGINT, SIG_IGN);
    sigprocmask(SIG_SETMASK, &outside, NULL);
}
