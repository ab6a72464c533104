/* pidfile.h - a running server is found by a file that it keeps locked, flock(2).
 * Does not: believe the number in it; only the lock says that the server lives. */
#ifndef PIDFILE_H
#define PIDFILE_H

#include <sys/types.h>

#include "base/options.h"

enum { PIDFILE_PATH_MAX = 512 };

/* The file's absolute name for opt->port: opt->pid_file, or NAME-PORT.pid in
 * $XDG_RUNTIME_DIR, in /run if that is writable, else in /tmp; NAME-ADDRESS-PORT.pid if
 * the address is another than the default.
 * path has room for PIDFILE_PATH_MAX bytes. */
void pidfile_path(const struct options *opt, char *path);

/* Create the file, lock it for the life of this process, write the pid. Somebody holds
 * it, or it cannot be made: die(), saying who or why. A file without a holder is taken
 * over. Forked children must call pidfile_forget(). */
void pidfile_lock(const struct options *opt);

/* With --check: could pidfile_lock() make the file? die() if not. Makes nothing. */
void pidfile_check(const struct options *opt);

/* In a worker: the lock is the master's alone. */
void pidfile_forget(void);

/* The end: remove the file, if it is still the one that was locked. */
void pidfile_remove(void);

/* The locked descriptor, to hand on to a new program; and what that does with it. */
int pidfile_fd(void);
void pidfile_inherit(const struct options *opt, int fd);

/* A pidfd (pidfd_open(2)) of the server that holds the file, and its pid; -1: there is
 * none. The lock is looked at again after the pidfd is open, and the time at which the
 * process started is compared, so it is never that of a later process with the same
 * pid. */
int pidfile_holder(const struct options *opt, pid_t *pid);

#endif
