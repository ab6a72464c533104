/* reload.c - the program by a new one: wanted, checked, become; and after that, which
 * children there are. See crew.h.
 * Does not: replace the workers; replace.c does, in the new program. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "process/crew.h"
#include "process/daemon.h"
#include "process/takeover.h"

/* Environment, over execve(2): is the present reload graceful, do others wait for the next
 * one, shall that be graceful; 0 or 1 each. */
#define FLAGS "SERVER_RELOAD"

enum {
    CHECK_MS = 10000, /* for --check of a new program */
    WATCH_MS = 200,   /* --watch: pace of its looks; the file must rest so long */
};

struct reload reload;

static struct reload_run *present_run(void)
{
    return &board->runs[stats_get(&board->reloads_begun) % BOARD_RELOADS];
}

void reload_failed(const char *why)
{
    struct reload_run *run = present_run();

    snprintf(run->error, sizeof(run->error), "%s", why);
    run->outcome = RELOAD_FAILED;
    stats_add(&board->reloads_failed, 1);
    log_line(LOG_ERROR, "reload failed, the old program goes on: %s", why);
    daemon_notify("READY=1");
    reload.rolling = false;
}

void reload_done(void)
{
    reload.rolling = false;
    present_run()->outcome = RELOAD_DONE;
    stats_add(&board->reloads_done, 1);
    log_line(LOG_INFO, "reload: all workers are new");
    daemon_notify("READY=1");
}

static void start_check(void)
{
    reload.checker = takeover_check(crew.opt, &reload.complaint);
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
    takeover_exec(crew.opt);
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

void reload_checked(int status, bool stopping_all)
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

void reload_begin(void)
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

/* The name is looked up anew each time, so a flipped link anywhere in it is a change, and
 * a folder may be removed and made again. */
int64_t reload_watch(int64_t now)
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

void reload_adopt(void)
{
    const char *flags = getenv(FLAGS);

    for (int slot = 0; slot < crew.opt->workers; slot++) {
        struct worker *w = &crew.workers[slot];

        for (int side = 0; side < 2; side++) {
            struct stats *cell = stats_cell(slot, side);
            pid_t pid = (pid_t)stats_get(&cell->pid);
            int status = 0;

            if (pid == 0)
                continue;
            if (waitpid(pid, &status, WNOHANG) != 0) {
                worker_empty_cell(cell, status);
            } else if (stats_get(&cell->state) == WORKER_LEAVING) {
                w->leaving = pid;
                w->told = true;
                w->kill_at = clock_ms() + crew.opt->stop_timeout_ms + KILL_GRACE_MS;
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
