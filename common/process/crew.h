/* crew.h - what the files of the supervisor share: supervisor.c, the loop; worker.c, one
 * slot; replace.c, one worker by the next; reload.c, the program by a new one.
 * Does not: concern others; they include supervisor.h. */
#ifndef CREW_H
#define CREW_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/options.h"
#include "board/stats.h"

enum {
    KILL_GRACE_MS = 1000, /* after the stop time-out, before SIGKILL */
    POLL_MS = 10,         /* pace while a replacement is under way */
};

/* A slot has one worker, and for a while the one that it replaces, which is leaving. */
struct worker {
    pid_t pid;             /* 0: none at the moment */
    int side;              /* which of the slot's two cells is its */
    int64_t started;       /* clock_ms() */
    int64_t start_at;      /* clock_ms(), when pid is 0 */
    int young_deaths;      /* in a row */
    uint64_t last_request; /* requests of its cell at which it is recycled; 0: never */
    pid_t leaving;         /* 0: nobody */
    bool told;             /* the leaving one was told to drain: its successor is ready */
    int64_t kill_at; /* clock_ms() when the leaving one is killed; INT64_MAX: never */
};

/* Set by supervise(); a worker inherits it. */
struct crew {
    const struct options *opt; /* borrowed */
    pid_t (*spawn)(int slot);  /* the stage's */
    pid_t master;
    sigset_t outside; /* the signal mask for workers */
    struct worker workers[MAX_WORKERS];
};

extern struct crew crew;

/* The run that is under way, and the wish for the next. */
struct reload {
    bool wanted, wanted_graceful; /* by those who wait for the next run */
    bool graceful;                /* the present run */
    pid_t checker;                /* 0: none */
    int complaint;                /* what it says */
    int64_t check_until;
    int next_slot; /* to be replaced; opt->workers: all were */
    bool rolling;
    struct stat watched; /* --watch: the program file at the last look */
    int64_t look_at;     /* clock_ms() of the next look */
    bool settling;       /* it has changed, and may not be complete */
};

extern struct reload reload;

/* --- worker.c ----------------------------------------------------------------------- */

/* The cell of the slot's worker. */
struct stats *worker_cell(int slot);

/* By crew.spawn(). A fork that fails is tried again: start_at. */
void worker_start(int slot);

/* pid, of this slot, has died: start_at says when the next may start. */
void worker_died(int slot, pid_t pid, int status, bool stopping_all);

/* Nobody has this cell any more. status: waitpid(2)'s. */
void worker_empty_cell(struct stats *cell, int status);

/* --- replace.c ---------------------------------------------------------------------- */

/* Go on with the replacements: one slot after the other, the next is begun when this
 * one's new worker accepts. */
void replace_roll(void);

/* Replace who has answered --max-requests. */
void replace_recycle(void);

/* --- reload.c ----------------------------------------------------------------------- */

/* If one is wanted and none runs: check the program file. */
void reload_begin(void);

/* --check has ended. Good: become the new program. */
void reload_checked(int status, bool stopping_all);

/* The run has ended: the board, the log and systemd are told. */
void reload_failed(const char *why);
void reload_done(void);

/* Has --watch seen a change? Returns when to look next. */
int64_t reload_watch(int64_t now);

/* After a takeover: the children are ours still, and the board says where they sit. */
void reload_adopt(void);

#endif
