/* worker.c - one slot's worker: as the master starts it and finds it dead; as it begins
 * and is ready itself. See crew.h and supervisor.h.
 * Does not: fork; the stage's spawn() does. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/stop.h"
#include "process/crew.h"
#include "process/daemon.h"
#include "process/pidfile.h"
#include "process/supervisor.h"

struct stats *worker_cell(int slot)
{
    return stats_cell(slot, crew.workers[slot].side);
}

void worker_start(int slot)
{
    struct worker *w = &crew.workers[slot];
    struct stats total;

    w->started = clock_ms();
    stats_total(worker_cell(slot), &total);
    stats_set(&worker_cell(slot)->state, WORKER_STARTING);
    if (crew.opt->max_requests > 0) /* up to a tenth more, or all would go at once */
        w->last_request = stats_get(&total.requests) + (uint64_t)crew.opt->max_requests +
                          (uint64_t)rand() % ((uint64_t)crew.opt->max_requests / 10 + 1);
    w->pid = crew.spawn(slot);
    if (w->pid == -1) {
        log_line(LOG_ERROR, "fork: %s; trying again in a second", strerror(errno));
        w->pid = 0;
        w->start_at = clock_ms() + YOUNG_MS;
    } else { /* at once: a reload may come before the worker enters itself */
        stats_set(&worker_cell(slot)->pid, (uint64_t)w->pid);
        stats_set(&worker_cell(slot)->started_ms, (uint64_t)w->started);
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

void worker_empty_cell(struct stats *cell, int status)
{
    stats_set(&cell->exit_status, (uint64_t)(WIFSIGNALED(status) ? 128 + WTERMSIG(status)
                                                                 : WEXITSTATUS(status)));
    stats_set(&cell->state, WORKER_NONE);
    stats_empty(cell);
    stats_set(&cell->pid, 0);
}

void worker_died(int slot, pid_t pid, int status, bool stopping_all)
{
    struct worker *w = &crew.workers[slot];

    if (w->leaving == pid) {
        worker_empty_cell(stats_cell(slot, !w->side), status);
        w->leaving = 0;
        return;
    }
    worker_empty_cell(worker_cell(slot), status);
    w->pid = 0;
    w->start_at = next_start(w, clock_ms());
    if (!stopping_all) {
        stats_add(&worker_cell(slot)->restarts, 1);
        describe_death(slot, pid, status);
    }
}

/* --- in the worker ------------------------------------------------------------------ */

/* [supervisor.worker-begin] */
void worker_begin(int slot)
{
    pidfile_forget();
    daemon_become(crew.opt->user, false);
    /* After daemon_become(), which clears it. */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) == -1)
        die(EXIT_SYSTEM, "prctl(PR_SET_PDEATHSIG): %s", strerror(errno));
    if (getppid() != crew.master) /* it died before prctl(2): no signal will come */
        exit(EXIT_SUCCESS);
    stats_take(slot, crew.workers[slot].side);
    stop_on_signals(crew.opt->stop_timeout_ms);
    stop_on_drain();
    daemon_reopen_on_signal();
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN); /* the terminal's too; the master knows what it means */
    sigprocmask(SIG_SETMASK, &crew.outside, NULL);
}

void worker_ready(void)
{
    stats_set(&stats->state, WORKER_READY);
}
