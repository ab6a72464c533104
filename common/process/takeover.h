/* takeover.h - a master becomes a new program in place: execve(2), with the same pid, the
 * same children, and the same listeners, scoreboard and pid file, which are never closed.
 * Does not: decide when; the supervisor does. */
#ifndef TAKEOVER_H
#define TAKEOVER_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/options.h"

/* What --check prints when all is well and a running server asks. */
#define TAKEOVER_CONSENT "this program would take over"

/* The name by which this process was started, absolute; links in it are not resolved. A
 * build may have put another file there, a deploy another link. */
const char *takeover_program(void);

/* Does that name lead to another file than *seen, or to another content? Then *seen is
 * that one. A name that leads nowhere has not changed. stat(2). */
bool takeover_program_changed(struct stat *seen);

/* Start the program file with --check, this server's arguments, and its scoreboard.
 * Returns its pid, which is also the number of its process group; *complaint is a pipe
 * with what it says. -1: fork(2) or pipe(2) failed. */
pid_t takeover_check(const struct options *opt, int *complaint);

/* Is the program file another one than that which was given to --check? */
bool takeover_unchecked(void);

/* Become the new program. Returns only if that failed, with errno; nothing has changed
 * then. */
void takeover_exec(const struct options *opt);

/* At start: true if this process was somebody else before, and has taken its descriptors.
 * opt->workers is what it was. */
bool takeover_begun(struct options *opt);

/* With --check: true if a running server asks, and this program could take over from it:
 * the same stage, listeners shared out in the same way, the scoreboard as it must be.
 * die() if not. False: nobody asks. */
bool takeover_fits(const struct options *opt);

#endif
