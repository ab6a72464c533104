/* stats.c - see stats.h.
 * Does not: trust a board it did not make; it checks magic, layout and size first. */
#include "stats.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

enum { CELL_CONNS_SIZE = BOARD_CONNS * (int)sizeof(struct conn_stats) };

static const char magic[8] = "SCORES\n";
static struct stats private_cell;
static struct conn_stats private_conn;
static struct conn_stats *own_conns;
static int board_fd = -1;
static int own_slot;

struct stats *stats = &private_cell;
struct board *board;

/* The records of a cell's connections lie behind the head. The file is sparse: an fd that
 * was never open costs nothing. */
static size_t board_size(uint32_t slots)
{
    return sizeof(struct board) + 2 * (size_t)slots * CELL_CONNS_SIZE;
}

static bool map(int fd, uint32_t slots, int protection)
{
    void *p = mmap(NULL, board_size(slots), protection, MAP_SHARED, fd, 0);

    if (p == MAP_FAILED)
        return false;
    board = p;
    return true;
}

void stats_setup(const struct options *opt, const char *path)
{
    uint32_t slots = (uint32_t)opt->workers;

    if (path)
        unlink(path); /* a stale one; whoever looks at it keeps it */
    board_fd = path ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644)
                    : memfd_create("scoreboard", MFD_CLOEXEC);
    if (board_fd != -1 && path)
        fchmod(board_fd, 0644); /* a daemon's umask is 027, but all may look */
    if (board_fd == -1 || ftruncate(board_fd, (off_t)board_size(slots)) == -1 ||
        !map(board_fd, slots, PROT_READ | PROT_WRITE))
        die(EXIT_SYSTEM, "cannot make the scoreboard %s: %s; choose another --pid-file",
            path ? path : "", strerror(errno));
    memcpy(board->magic, magic, sizeof(magic));
    board->layout = BOARD_LAYOUT;
    board->slots = slots;
    board->port = opt->port;
    board->master = (int32_t)getpid();
    board->started_at = time(NULL);
    snprintf(board->stage, sizeof(board->stage), "%s", opt->name);
    snprintf(board->version, sizeof(board->version), "%s", argp_program_version);
    snprintf(board->address, sizeof(board->address), "%s", opt->address);
    stats_take(0, 0);
    stats_set(&stats->state, WORKER_READY);
}

static bool right_make(int fd, uint32_t *slots)
{
    struct {
        char magic[8];
        uint32_t layout;
        uint32_t slots;
    } head;
    struct stat st;

    if (pread(fd, &head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
        memcmp(head.magic, magic, sizeof(magic)) == 0 && head.layout == BOARD_LAYOUT &&
        head.slots >= 1 && head.slots <= MAX_WORKERS && fstat(fd, &st) == 0 &&
        st.st_size == (off_t)board_size(head.slots)) {
        *slots = head.slots;
        return true;
    }
    errno = EPROTO;
    return false;
}

void stats_inherit(int fd)
{
    uint32_t slots;

    if (!right_make(fd, &slots) || !map(fd, slots, PROT_READ | PROT_WRITE))
        die(EXIT_SYSTEM, "the scoreboard has another layout; use restart, not reload");
    board_fd = fd;
    snprintf(board->version, sizeof(board->version), "%s", argp_program_version);
}

bool stats_fits(int fd)
{
    uint32_t slots;

    return right_make(fd, &slots) && map(fd, slots, PROT_READ);
}

int stats_fd(void)
{
    return board_fd;
}

bool stats_look(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo would hang it */
    uint32_t slots;
    bool ok;

    if (fd == -1)
        return false;
    ok = right_make(fd, &slots) && map(fd, slots, PROT_READ);
    close(fd);
    return ok;
}

struct stats *stats_cell(int slot, int side)
{
    return &board->cells[2 * slot + side];
}

const struct conn_stats *stats_conns(const struct stats *cell)
{
    char *behind = (char *)(board + 1);

    return (const void *)(behind + (cell - board->cells) * CELL_CONNS_SIZE);
}

void stats_take(int slot, int side)
{
    own_slot = slot;
    stats = stats_cell(slot, side);
    own_conns = (struct conn_stats *)stats_conns(stats);
    stats_set(&stats->pid, (uint64_t)getpid());
    stats_set(&stats->state, WORKER_STARTING);
    stats_set(&stats->started_ms, (uint64_t)clock_ms());
    stats_set(&stats->busy_since_ms, 0);
    stats_set(&stats->connections, 0);
    stats_set(&stats->requests_before, stats_get(&stats->requests));
}

int stats_slot(void)
{
    return own_slot;
}

struct conn_stats *stats_conn(int fd)
{
    return own_conns && fd < BOARD_CONNS ? &own_conns[fd] : &private_conn;
}
