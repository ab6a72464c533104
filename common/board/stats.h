/* stats.h - the scoreboard: one cell a worker, in memory that all processes of a server
 * share, and that commands such as `status` look into: it answers even when the server
 * hangs.
 * Does not: lock. A cell has one writer, its worker; pid, state and what concerns the
 * slot are the master's between two workers. A worker's threads have a cell each, and
 * what is shown is the sum: stats_total(). Cells outlive their worker, so counters survive a
 * crash. */
#ifndef STATS_H
#define STATS_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/options.h"

enum {
    BOARD_LAYOUT = 4,   /* a server with another layout cannot take over by reload */
    BOARD_RELOADS = 16, /* runs whose end can be told; a command looks every 20 ms */
};

enum worker_state { WORKER_NONE, WORKER_STARTING, WORKER_READY, WORKER_LEAVING };

struct stats {
    _Alignas(128) _Atomic uint64_t pid; /* 0: nobody */
    _Atomic uint64_t state;             /* enum worker_state */
    _Atomic uint64_t started_ms;        /* clock_ms() when this worker started */
    _Atomic uint64_t
        busy_since_ms;         /* clock_ms() when the present batch began; 0: waiting */
    _Atomic uint64_t restarts; /* how often a worker in this cell was replaced */
    _Atomic uint64_t exit_status;     /* of the last one; 128 + N: killed by signal N */
    _Atomic uint64_t accepted;        /* connections ever */
    _Atomic uint64_t connections;     /* open now */
    _Atomic uint64_t requests;        /* answered by the application */
    _Atomic uint64_t requests_before; /* of them, by this worker's predecessors */
    _Atomic uint64_t refused;  /* requests answered with an error by the server itself */
    _Atomic uint64_t timeouts; /* connections ended by a deadline */
    _Atomic uint64_t send_failures; /* send(2) failed: the peer was gone */
    _Atomic uint64_t bytes_in;
    _Atomic uint64_t bytes_out;
    _Atomic uint64_t waiting;       /* now: for a thread, a callback, in a coroutine */
    _Atomic uint64_t full_since_ms; /* clock_ms() since when nobody is let in, as too many
                                     * wait; 0: they are */
    _Atomic uint64_t stack_used;    /* bytes, of the coroutine that went deepest */
    _Atomic uint64_t threads;       /* so many cells of threads count, beside this one */
};

/* What is known of one connection besides what the kernel tells; by fd. */
struct conn_stats {
    uint64_t bytes_in, bytes_out;
    int64_t last_ms;   /* clock_ms() of the last recv or send */
    uint32_t requests; /* answered */
    uint32_t id;       /* counts the cell's connections; 0: no such fd */
};

enum reload_outcome { RELOAD_RUNS, RELOAD_DONE, RELOAD_FAILED };

/* One run of a reload. Commands that wait share the first that began after they asked. */
struct reload_run {
    _Atomic int64_t began_ns; /* clock_ns(), before the program file was looked at */
    _Atomic int outcome;      /* enum reload_outcome; set last */
    char error[256];          /* why it failed */
};

/* The head of the board. The master writes it. */
struct board {
    char magic[8]; /* "SCORES\n" */
    uint32_t layout;
    uint32_t slots;
    uint32_t fds; /* records of connections in a cell: one for each descriptor */
    char stage[32];
    char version[48];
    char address[64];
    int32_t port;
    int32_t master;
    int64_t
        started_at; /* time(2) when the server was started; reloads do not change it */
    _Atomic uint64_t reloads_begun, reloads_done, reloads_failed;
    struct reload_run runs[BOARD_RELOADS]; /* run N (from 1) at N % BOARD_RELOADS */
    /* Two cells a slot: a worker and the one that it replaces work side by side for a
     * while. */
    struct stats cells[2 * MAX_WORKERS];
};

/* This thread's cell. Never NULL: before stats_take() it is one that nobody looks at. */
extern _Thread_local struct stats *stats;
extern struct board *board;

/* Before any fork: make a board for a server that listens where `opt` says. Failure:
 * die(). It is memory without a name in any file system, which can neither run full nor
 * be truncated by others: either would end whoever writes to it with SIGBUS. mmap(2),
 * memfd_create(2), fcntl(2) F_ADD_SEALS. */
void stats_setup(const struct options *opt);

/* The same for the program that a reload has started: the board is there, behind fd. */
void stats_inherit(int fd);

/* With --check: could stats_inherit() use this board? It may have another layout. It stays
 * mapped. */
bool stats_fits(int fd);

/* The board's descriptor, to hand on to a new program. */
int stats_fd(void);

/* Look at the board of the server whose master is `pid`, by way of /proc/PID/fd: only its
 * user and root may (EACCES). False: see errno; EPROTO: it is of another make. The
 * mapping is never undone. */
bool stats_look(pid_t pid);

struct stats *stats_cell(int slot, int side);

/* A worker's cell and its threads', taken together: sums, and since when the one is busy that
 * has been longest. In the cells alone a number of what is now may be below zero: one thread
 * has counted it up, another down. */
void stats_total(const struct stats *cell, struct stats *total);

/* Nothing is now: no connections, nobody busy or waiting. The counters stay. */
void stats_empty(struct stats *cell);
const struct conn_stats *stats_conns(const struct stats *cell);

/* Become the writer of a cell. The connections of a predecessor that crashed are gone. */
void stats_take(int slot, int side);
int stats_slot(void); /* of this process */

/* This process's cell, which stats_take() has made its own, has so many of threads beside
 * it, at most MAX_THREADS. stats_join(): this thread is the writer of one, 0 to n - 1. */
void stats_threads(int n);
void stats_join(int thread);

/* The record of connection `fd` of this thread's cell. */
extern _Thread_local struct conn_stats *stats_own_conns; /* borrowed from the board */
extern _Thread_local int stats_own_fds;                  /* so many */
extern _Thread_local struct conn_stats stats_nobody;     /* for descriptors beyond */

static inline struct conn_stats *stats_conn(int fd)
{
    return fd < stats_own_fds ? &stats_own_conns[fd] : &stats_nobody;
}

/* Plain addition: one writer needs no locked instruction. */
static inline void stats_add(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t old = atomic_load_explicit(counter, memory_order_relaxed);

    atomic_store_explicit(counter, old + n, memory_order_relaxed);
}

static inline void stats_sub(_Atomic uint64_t *counter, uint64_t n)
{
    stats_add(counter, 0 - n);
}

static inline uint64_t stats_get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline void stats_set(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, n, memory_order_relaxed);
}

#endif
