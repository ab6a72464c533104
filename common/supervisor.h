/* supervisor.h - keep N worker processes alive until told to stop.
 * Does not: fork; the stage's spawn(slot) does, where a learner looks for it. */
#ifndef SUPERVISOR_H
#define SUPERVISOR_H

#include <sys/types.h>

/* A worker that lived for less than YOUNG_MS is replaced after a pause, which doubles
 * from RESPAWN_MIN_MS to RESPAWN_MAX_MS with each such death in a row; others are
 * replaced at once. */
enum { YOUNG_MS = 1000, RESPAWN_MIN_MS = 10, RESPAWN_MAX_MS = 640 };

/* From now on SIGTERM, SIGINT and SIGCHLD wait until supervise() takes them. Call it
 * before the server says that it listens: whoever reads that may send a signal at once.
 * (supervise() calls it if nobody did.) */
void supervisor_begin(void);

/* Start n workers and replace the ones that die, until SIGTERM or SIGINT; then
 * pass SIGTERM on, reap them all and return 0. Workers that have not ended a second after
 * STOP_TIMEOUT_MS, or when a second signal comes, are killed with SIGKILL.
 * spawn: forks; the child calls worker_begin(), works, and exits; the parent gets its
 * pid, or -1. Sources: waitpid(2), sigtimedwait(2). */
int supervise(int n, pid_t (*spawn)(int slot));

/* In a new worker, before anything else: undo what the parent blocked, catch SIGTERM
 * (stop_on_signals()), ignore SIGINT (the terminal sends it to the whole group; the
 * parent passes on SIGTERM), die with the parent (PR_SET_PDEATHSIG), take cell `slot` of
 * the scoreboard. */
void worker_begin(int slot);

#endif
