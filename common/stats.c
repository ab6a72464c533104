/* stats.c - see stats.h.
 * Does not: name the memory; it is anonymous and goes with the last process. */
#include "stats.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

static struct stats private_cell;
static struct stats *cells = &private_cell;
static int slots = 1;
static int own_slot;

struct stats *stats = &private_cell;

void stats_setup(int n)
{
    cells = mmap(NULL, sizeof(*cells) * (size_t)n, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (cells == MAP_FAILED)
        die(EXIT_SYSTEM, "no memory for the scoreboard: %s; lower --workers",
            strerror(errno));
    slots = n;
    stats_take(0);
}

int stats_slots(void)
{
    return slots;
}

struct stats *stats_cell(int slot)
{
    return &cells[slot];
}

void stats_take(int slot)
{
    own_slot = slot;
    stats = &cells[slot];
    stats_set(&stats->pid, (uint64_t)getpid());
    stats_set(&stats->started_ms, (uint64_t)clock_ms());
    stats_set(&stats->connections, 0);
}

int stats_slot(void)
{
    return own_slot;
}
