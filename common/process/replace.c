/* replace.c - a worker by the next, while it serves: for a reload, or as it has answered
 * enough. See crew.h.
 * Does not: decide that a reload begins, or end a worker that was not replaced. */
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "process/crew.h"

enum {
    START_MS = 10000,   /* for a replacement to be ready; then its predecessor stays */
    GIVE_UP_DEATHS = 3, /* young deaths of a replacement: the old worker stays */
};

/* Start a second worker in the slot; the first goes on until the second is ready. */
static void replace(int slot)
{
    struct worker *w = &crew.workers[slot];

    if (w->leaving || w->pid == 0)
        return;
    w->leaving = w->pid;
    w->told = false;
    w->kill_at = INT64_MAX;
    w->pid = 0;
    w->young_deaths = 0;
    w->side = !w->side;
    worker_start(slot);
}

/* The replacement keeps dying: its predecessor, which was not told to go, stays. */
static void restore(int slot)
{
    struct worker *w = &crew.workers[slot];

    w->side = !w->side;
    w->pid = w->leaving;
    w->leaving = 0;
    w->young_deaths = 0;
    if (reload.rolling)
        reload_failed("a new worker dies at start, or hangs; see the log");
}

static void watch_replacement(int slot)
{
    struct worker *w = &crew.workers[slot];
    union sigval value = { .sival_int = reload.graceful };

    if (w->leaving == 0)
        return;
    if (!w->told && w->pid != 0 && stats_get(&worker_cell(slot)->state) == WORKER_READY) {
        stats_set(&stats_cell(slot, !w->side)->state, WORKER_LEAVING);
        sigqueue(w->leaving, SIGUSR1, value);
        w->told = true;
        w->kill_at = reload.graceful
                         ? INT64_MAX
                         : clock_ms() + crew.opt->stop_timeout_ms + KILL_GRACE_MS;
    } else if (!w->told && w->pid == 0 && w->young_deaths >= GIVE_UP_DEATHS) {
        restore(slot);
    } else if (!w->told && w->pid != 0 && clock_ms() - w->started > START_MS) {
        int status = 0;

        kill(w->pid, SIGKILL);
        waitpid(w->pid, &status, 0);
        worker_empty_cell(worker_cell(slot), status);
        restore(slot);
    } else if (w->told && clock_ms() >= w->kill_at) {
        log_line(LOG_WARNING, "worker %d (pid %d) has not ended; killing it", slot,
                 w->leaving);
        kill(w->leaving, SIGKILL);
        w->kill_at = INT64_MAX;
    }
}

void replace_roll(void)
{
    bool all_gone = true;

    for (int slot = 0; slot < crew.opt->workers; slot++) {
        watch_replacement(slot);
        all_gone = all_gone && crew.workers[slot].leaving == 0;
        if (crew.workers[slot].leaving && !crew.workers[slot].told)
            return;
    }
    if (!reload.rolling)
        return;
    if (reload.next_slot < crew.opt->workers) {
        if (!crew.workers[reload.next_slot].leaving)
            replace(reload.next_slot++); /* who died has a new successor anyway */
    } else if (all_gone) {
        reload_done();
    }
}

void replace_recycle(void)
{
    for (int slot = 0; slot < crew.opt->workers; slot++) {
        struct worker *w = &crew.workers[slot];
        struct stats total;

        stats_total(worker_cell(slot), &total);
        if (w->pid && w->last_request && stats_get(&total.requests) >= w->last_request)
            replace(slot);
    }
}
