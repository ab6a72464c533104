/* takeover.h - a master becomes a new program in place: execve(2), with the same pid, the
 * same children, and the same listeners, scoreboard and pid file, which are never closed.
 * Does not: decide when; the supervisor does. */
#ifndef TAKEOVER_H
#define TAKEOVER_H

#include <stdbool.h>
#include <sys/types.h>

#include "options.h"

/* What --check prints when all is well. */
#define TAKEOVER_CONSENT "this program would start"

/* The file this process was started from, absolute. A build may have put another file
 * there. */
const char *takeover_program(void);

/* Start the program file with --check and this server's arguments. Returns its pid;
 * *complaint is a pipe with what it says. -1: fork(2) or pipe(2) failed. */
pid_t takeover_check(const struct options *opt, int *complaint);

/* Become the new program. Returns only if that failed, with errno; nothing has changed
 * then. */
void takeover_exec(const struct options *opt);

/* At start: true if this process was somebody else before, and has taken its
 * descriptors. */
bool takeover_begun(const struct options *opt);

/* With --check: would a server of this program be able to take over? die() if not. */
void takeover_check_layout(void);

#endif
