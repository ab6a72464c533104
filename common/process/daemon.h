/* daemon.h - what a server does to itself before it serves: background, log file, user;
 * and systemd's plain protocols, sd_listen_fds(3) and sd_notify(3).
 * Does not: know what is served. */
#ifndef DAEMON_H
#define DAEMON_H

#include <stdbool.h>

/* Go to the background: fork twice, setsid(2), umask 027, chdir to /. The process that
 * was called waits, and exits with 0 when daemon_ready() was called, or with the daemon's
 * status if that ends first; its complaints still reach the terminal until then.
 * daemon(7). */
void daemon_start(void);

/* Open the log file, to append; daemon_ready() puts it in place of stdout and stderr.
 * log: an absolute name. user: who must be able to open it anew; may be NULL. False: it
 * cannot be opened, errno; daemon_reopen_log() will try again. */
bool daemon_open_log(const char *log, const char *user);

/* With --check: would daemon_open_log() succeed? Makes nothing. False: errno. */
bool daemon_log_usable(const char *log);

/* The server listens. stdout and stderr go to the log, if one was opened. If
 * daemon_start() was called: release the caller, and put stdin on /dev/null, without a log
 * stdout and stderr too. */
void daemon_ready(void);

/* Open the log file anew, by the same name: O_APPEND, so a rotated file can be moved
 * away. Async-signal-safe. If that fails, the old file stays. */
void daemon_reopen_log(void);

/* Do so on SIGUSR2. */
void daemon_reopen_on_signal(void);

/* Become NAME or NAME:GROUP: setgroups(2), setresgid(2), setresuid(2), and verify that
 * there is no way back. Any failure: die(). user: NULL: nothing. check_only: see whether
 * it exists. */
void daemon_become(const char *user, int check_only);

/* Tell systemd, if it started us: "READY=1", "RELOADING=1", "STOPPING=1". */
void daemon_notify(const char *state);

/* How many listening sockets systemd has passed, from descriptor 3 on.
 * sd_listen_fds(3). */
int daemon_listen_fds(void);

#endif
