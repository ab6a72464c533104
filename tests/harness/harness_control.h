/* harness_control.h - what tests of process control share: servers found by their pid
 * file, commands to them, load that counts its failures, and what is left behind.
 * Does not: know what is tested. Built on harness.h. */
#ifndef HARNESS_CONTROL_H
#define HARNESS_CONTROL_H

#include "harness/harness.h"

enum { PIDS = 160 };

/* The tests of one mode. */
struct control_case {
    const char *mode;       /* harness_mode() */
    void (*add)(TCase *tc); /* its tests */
};

/* Run them, one after the other. Each test has a folder of its own: its $XDG_RUNTIME_DIR.
 * Processes that a test leaves behind are killed. timeout_s: of a single test, before
 * scaling. Returns what main() returns. */
int control_run(const char *suite, const struct control_case cases[], int n,
                int timeout_s);

extern char folder[64]; /* of the running test */

/* ---- the program ---- */

/* Copy the stage of `mode` into the folder; from now on this test starts that copy. */
void program_copy(void);
const char *program_path(void);
const char *built_in(void); /* the folder of the originals */

/* Put another file into the copy's place, as a linker does: a new one, then rename(2). */
void program_greet(
    const char *greeting); /* says this instead of "hello world!"; 12 bytes */
void program_write(const char *bytes, unsigned mode_bits); /* any text */

/* ---- commands ---- */

/* Run the stage with the mode's options and these words (split at spaces) to its end. */
void command(struct outcome *o, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same; this must be the exit status, and stdout or stderr must say `text`. */
void expect_command(int status, const char *text, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* `reload`; it must succeed, and the master still be s->pid. */
void expect_reload(const struct server *s);

/* Start as a daemon on a free port: s->pid and s->port are set. End it by `stop`. */
void daemon_run(struct server *s, const char *args);
void daemon_stop(const struct server *s);

/* ---- processes ---- */

/* Living children, sorted. */
int children_of(pid_t parent, pid_t pids[], int cap);

/* Wait until the master has n workers, none of them among the old. new: gets them. */
void expect_workers(pid_t master, int n, const pid_t old[], int n_old, pid_t new[]);

/* Wait until it is no more, or a zombie. */
void expect_gone(pid_t pid);

int fds_of(pid_t pid); /* open descriptors */

/* The command that this child of ours runs has mapped the scoreboard. */
bool has_looked(pid_t aside);

/* The nth number (from 0) behind "FIELD:" in /proc/PID/status; -1: none. */
long proc_number(pid_t pid, const char *field, int nth);

/* ---- files and ports ---- */

/* The default pid file of this port. Static memory. */
const char *pid_path(int port);
pid_t pid_in(const char *path); /* the first number of the file; 0: none */
void write_file(const char *path, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
const char *read_file(const char *path); /* static memory; "" when there is none */
const char *in_folder(const char *name); /* static memory */

int free_port(void);
bool port_taken(int port); /* somebody listens there */

/* ---- load ---- */

struct load {
    pid_t pid;
    int in;  /* owned: closing it ends the load */
    int out; /* owned: the account */
    const char *behaviour;
};

/* Start the crowd client and return when all its clients are there. words: more options,
 * NULL-terminated, or NULL. */
void load_begin(struct load *l, const struct server *s, const char *behaviour,
                int clients, const char *const *words);

/* End it. Its account, in JSON; static memory. */
const char *load_end(struct load *l);

/* End it: something was served, and nothing failed. Returns how many were served. */
long long load_end_clean(struct load *l);

#endif
