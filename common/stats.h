/* stats.h - the scoreboard: one cell a worker, in memory that all processes of a server
 * share.
 * Does not: lock. A cell has one writer, its worker; restarts, pid and started are the
 * parent's between two workers. Cells outlive their worker, so counters survive a
 * crash. */
#ifndef STATS_H
#define STATS_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

struct stats {
    _Alignas(128) _Atomic uint64_t pid; /* 0: nobody */
    _Atomic uint64_t started_ms;        /* clock_ms() when this worker started */
    _Atomic uint64_t restarts;          /* how often the slot's worker was replaced */
    _Atomic uint64_t accepted;          /* connections ever */
    _Atomic uint64_t connections;       /* open now */
    _Atomic uint64_t requests;          /* answered by the application */
    _Atomic uint64_t refused;  /* requests answered with an error by the server itself */
    _Atomic uint64_t timeouts; /* connections ended by a deadline */
    _Atomic uint64_t bytes_in;
    _Atomic uint64_t bytes_out;
};

/* This process's cell. Never NULL: before stats_setup() it is a private one. */
extern struct stats *stats;

/* Before any fork: make n cells. mmap(2), MAP_SHARED. Failure: die(). */
void stats_setup(int n);

int stats_slots(void);
struct stats *stats_cell(int slot);

/* Become the writer of cell `slot`. The connections of a predecessor that crashed are
 * gone. */
void stats_take(int slot);
int stats_slot(void); /* of this process */

/* Plain addition: one writer needs no locked instruction. */
static inline void stats_add(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t old = atomic_load_explicit(counter, memory_order_relaxed);

    atomic_store_explicit(counter, old + n, memory_order_relaxed);
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
