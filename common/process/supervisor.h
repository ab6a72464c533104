/* supervisor.h - keep N worker processes alive, replace them without losing a client.
 * Does not: fork; the stage's spawn(slot) does, where a learner looks for it. */
#ifndef SUPERVISOR_H
#define SUPERVISOR_H

#include <sys/types.h>

#include "base/options.h"

/* A worker that lived for less than YOUNG_MS is replaced after a pause, which doubles
 * from RESPAWN_MIN_MS to RESPAWN_MAX_MS with each such death in a row; others are
 * replaced at once. */
enum { YOUNG_MS = 1000, RESPAWN_MIN_MS = 10, RESPAWN_MAX_MS = 640 };

/* Block the signals below until supervise() looks at them. Before anybody is told that
 * the server listens: an early signal would have its default action. */
void supervise_signals(void);

/* Start options->workers workers and replace the ones that die, until told to stop; then
 * reap them all and return 0. In a program that has taken over, the workers that run are
 * replaced, one slot after the other, instead of started.
 * spawn: forks; the child calls worker_begin(), worker_ready() and works, and exits; the
 * parent gets its pid, or -1.
 *
 * SIGTERM, SIGINT  stop: requests in flight finish, within opt->stop_timeout_ms; who has
 *                  not ended a second later gets SIGKILL. Again: SIGKILL at once.
 * SIGQUIT          stop without a bound; idle clients are closed at once.
 * SIGUSR1, SIGHUP  reload: check the program file, become it, replace the workers. With
 *                  value 1 (sigqueue(3)) the old ones may take as long as their clients
 *                  like.
 * SIGUSR2          open the log file anew.
 * Sources: waitpid(2), sigtimedwait(2). */
int supervise(const struct options *options, pid_t (*spawn)(int slot));

/* In a new worker, before anything else: undo what the parent blocked, catch the signals
 * of stop.h (but ignore SIGINT: the terminal sends it to the whole group; the parent
 * passes on SIGTERM), become opt->user, die with the parent (PR_SET_PDEATHSIG), take a
 * cell of the scoreboard. */
void worker_begin(int slot);

/* The worker can accept: from now on the one it replaces may go. */
void worker_ready(void);

#endif
