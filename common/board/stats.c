/* stats.c - see stats.h.
 * Does not: trust a board it did not make; it checks magic, layout and size first. */
#include "board/stats.h"

#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define NAME "scoreboard"

static const char magic[8] = "SCORES\n";
static struct stats private_cell;
static int board_fd = -1;
static int own_slot;
static struct stats *own_cell = &private_cell; /* the process's */

_Thread_local struct stats *stats = &private_cell;
_Thread_local struct conn_stats *stats_own_conns;
_Thread_local int stats_own_fds;
_Thread_local struct conn_stats stats_nobody;
struct board *board;

/* Behind the head lie the cells of threads, and behind them the records of connections. The
 * memory is sparse: what was never used costs nothing. */
static size_t board_size(uint32_t slots, uint32_t fds)
{
    return sizeof(struct board) + 2 * (size_t)slots * MAX_THREADS * sizeof(struct stats) +
           2 * (size_t)slots * fds * sizeof(struct conn_stats);
}

static bool map(int fd, size_t size, int protection)
{
    void *p = mmap(NULL, size, protection, MAP_SHARED, fd, 0);

    if (p == MAP_FAILED)
        return false;
    board = p;
    return true;
}

/* [stats.setup] */
void stats_setup(const struct options *opt)
{
    uint32_t slots = (uint32_t)opt->workers, fds = (uint32_t)options_max_fds();
    size_t size = board_size(slots, fds);

    board_fd = memfd_create(NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (board_fd == -1 || ftruncate(board_fd, (off_t)size) == -1 ||
        fcntl(board_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1 ||
        !map(board_fd, size, PROT_READ | PROT_WRITE))
        die(EXIT_SYSTEM, "cannot make the scoreboard: %s", strerror(errno));
    memcpy(board->magic, magic, sizeof(magic));
    board->layout = BOARD_LAYOUT;
    board->slots = slots;
    board->fds = fds;
    board->port = opt->port;
    board->master = (int32_t)getpid();
    board->started_at = time(NULL);
    snprintf(board->stage, sizeof(board->stage), "%s", opt->name);
    snprintf(board->version, sizeof(board->version), "%s", argp_program_version);
    snprintf(board->address, sizeof(board->address), "%s", opt->address);
    stats_take(0, 0);
    stats_set(&stats->state, WORKER_READY);
}

/* *size: of the board behind fd, if it is of our make. */
static bool right_make(int fd, size_t *size)
{
    struct {
        char magic[8];
        uint32_t layout, slots, fds;
    } head;
    struct stat st;

    if (pread(fd, &head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
        memcmp(head.magic, magic, sizeof(magic)) == 0 && head.layout == BOARD_LAYOUT &&
        head.slots >= 1 && head.slots <= MAX_WORKERS && fstat(fd, &st) == 0) {
        *size = board_size(head.slots, head.fds);
        if (st.st_size == (off_t)*size)
            return true;
    }
    errno = EPROTO;
    return false;
}

static bool map_existing(int fd, int protection)
{
    size_t size;

    return right_make(fd, &size) && map(fd, size, protection);
}

void stats_inherit(int fd)
{
    if (!map_existing(fd, PROT_READ | PROT_WRITE))
        die(EXIT_SYSTEM, "the scoreboard has another layout; use restart, not reload");
    board_fd = fd;
    snprintf(board->version, sizeof(board->version), "%s", argp_program_version);
}

bool stats_fits(int fd)
{
    return map_existing(fd, PROT_READ);
}

int stats_fd(void)
{
    return board_fd;
}

/* Open the board of a server: the link in /proc/PID/fd that names it, proc(5). */
static int open_board(pid_t pid)
{
    static const char target[] = "/memfd:" NAME " ";
    char name[64];
    struct dirent *entry;
    int fd = -1;
    DIR *dir;

    snprintf(name, sizeof(name), "/proc/%d/fd", (int)pid);
    dir = opendir(name);
    if (dir == NULL)
        return -1;
    errno = ENOENT;
    while (fd == -1 && (entry = readdir(dir))) {
        char link[sizeof(target)] = "";

        if (readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1) > 0 &&
            strcmp(link, target) == 0)
            fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_CLOEXEC);
    }
    closedir(dir);
    return fd;
}

bool stats_look(pid_t pid)
{
    int fd = open_board(pid);
    bool ok;

    if (fd == -1)
        return false;
    ok = map_existing(fd, PROT_READ);
    close(fd);
    return ok;
}

struct stats *stats_cell(int slot, int side)
{
    return &board->cells[2 * slot + side];
}

const struct conn_stats *stats_conns(const struct stats *cell)
{
    const struct stats *threads = (const void *)(board + 1);
    const struct conn_stats *behind =
        (const void *)(threads + 2 * (size_t)board->slots * MAX_THREADS);

    return behind + (size_t)(cell - board->cells) * board->fds;
}

/* The first of its threads'. */
static struct stats *threads_of(const struct stats *cell)
{
    struct stats *threads = (void *)(board + 1);

    return threads + (size_t)(cell - board->cells) * MAX_THREADS;
}

/* All fields are numbers, and in a thread's cell zero unless they are counted there. */
static void add(struct stats *total, const struct stats *cell)
{
    enum { FIELDS = offsetof(struct stats, threads) / sizeof(uint64_t) + 1 };
    _Atomic uint64_t *sums = (void *)total;
    const _Atomic uint64_t *numbers = (const void *)cell;

    for (int i = 0; i < FIELDS; i++)
        stats_add(&sums[i], stats_get(&numbers[i]));
}

/* One thread counts up and another down, and they are not looked at in the same moment. */
static void not_below_zero(_Atomic uint64_t *sum)
{
    if ((int64_t)stats_get(sum) < 0)
        stats_set(sum, 0);
}

void stats_total(const struct stats *cell, struct stats *total)
{
    const uint64_t threads = stats_get(&cell->threads);
    uint64_t busy = stats_get(&cell->busy_since_ms);

    *total = (struct stats){ 0 };
    add(total, cell);
    for (uint64_t t = 0; t < threads; t++) {
        uint64_t since = stats_get(&threads_of(cell)[t].busy_since_ms);

        add(total, &threads_of(cell)[t]);
        if (since != 0 && (busy == 0 || since < busy))
            busy = since;
    }
    stats_set(&total->busy_since_ms, busy);
    not_below_zero(&total->connections);
    not_below_zero(&total->waiting);
}

static void empty(struct stats *cell)
{
    stats_set(&cell->busy_since_ms, 0);
    stats_set(&cell->connections, 0);
    stats_set(&cell->waiting, 0);
    stats_set(&cell->full_since_ms, 0);
}

void stats_empty(struct stats *cell)
{
    empty(cell);
    for (uint64_t t = 0; t < stats_get(&cell->threads); t++)
        empty(&threads_of(cell)[t]);
}

void stats_take(int slot, int side)
{
    struct stats total;

    own_slot = slot;
    stats = own_cell = stats_cell(slot, side);
    stats_own_conns = (struct conn_stats *)stats_conns(stats);
    stats_own_fds = (int)board->fds;
    stats_set(&stats->pid, (uint64_t)getpid());
    stats_set(&stats->state, WORKER_STARTING);
    stats_set(&stats->started_ms, (uint64_t)clock_ms());
    stats_empty(stats);
    stats_set(&stats->stack_used, 0);
    stats_total(stats, &total);
    stats_set(&stats->requests_before, stats_get(&total.requests));
}

int stats_slot(void)
{
    return own_slot;
}

void stats_threads(int n)
{
    if ((uint64_t)n > stats_get(&own_cell->threads)) /* a predecessor's count, too */
        stats_set(&own_cell->threads, (uint64_t)n);
}

void stats_join(int thread)
{
    stats = &threads_of(own_cell)[thread];
    stats_own_conns = (struct conn_stats *)stats_conns(own_cell);
    stats_own_fds = (int)board->fds;
}
