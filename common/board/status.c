/* status.c - see status.h.
 * Does not: keep anything between two looks; rates are averages since a worker's
 * start. */
#include "board/status.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "board/stats.h"

enum { SIDES = 2 };

/* What the kernel prints in /proc needs no check for overflow.
 * NOLINTBEGIN(cert-err34-c) */

/* --- status ------------------------------------------------------------------------- */

/* Resident memory in KiB; 0: unknown. proc(5), statm. */
static long resident_kib(pid_t pid)
{
    long pages = 0;
    char name[64];
    FILE *file;

    snprintf(name, sizeof(name), "/proc/%d/statm", (int)pid);
    file = fopen(name, "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%*d %ld", &pages) != 1)
        pages = 0;
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static const char *state_of(const struct stats *cell, char *text, size_t size)
{
    static const char *const names[] = { "none", "starting", "ready", "leaving" };
    uint64_t state = stats_get(&cell->state);
    uint64_t busy = stats_get(&cell->busy_since_ms);
    uint64_t full = stats_get(&cell->full_since_ms);

    if (full != 0)
        snprintf(text, size, "full %.1fs", (double)(clock_ms() - (int64_t)full) / 1000);
    else if (busy != 0)
        snprintf(text, size, "%s%.1fs", state == WORKER_LEAVING ? "leaving " : "busy ",
                 (double)(clock_ms() - (int64_t)busy) / 1000);
    else
        snprintf(text, size, "%s", names[state <= WORKER_LEAVING ? state : 0]);
    return text;
}

/* By this worker; a cell counts for its predecessors, too. */
static uint64_t own_requests(const struct stats *cell)
{
    return stats_get(&cell->requests) - stats_get(&cell->requests_before);
}

static double per_second(const struct stats *cell)
{
    int64_t ms = clock_ms() - (int64_t)stats_get(&cell->started_ms);

    return ms > 0 ? (double)own_requests(cell) * 1000 / (double)ms : 0;
}

/* In the slot, whose workers sit in its two cells by turns. */
static uint64_t restarts_in(uint32_t slot)
{
    return stats_get(&board->cells[SIDES * slot].restarts) +
           stats_get(&board->cells[SIDES * slot + 1].restarts);
}

static uint64_t deepest_stack(void)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < SIDES * board->slots; i++)
        if (stats_get(&board->cells[i].stack_used) > most)
            most = stats_get(&board->cells[i].stack_used);
    return most;
}

static void print_load(const char *format)
{
    double load[3] = { 0 };

    if (getloadavg(load, 3) == 3)
        printf(format, load[0], load[1], load[2]);
}

static void worker_json(uint32_t slot, const struct stats *cell, const char *comma)
{
    pid_t pid = (pid_t)stats_get(&cell->pid);
    char state[32];

    printf("%s{\"worker\":%u,\"pid\":%d,\"state\":\"%s\",\"memory_kib\":%ld,"
           "\"listening\":\"%s:%d\",\"connections\":%lu,\"accepted\":%lu,"
           "\"requests\":%lu,"
           "\"requests_per_s\":%.1f,\"send_failures\":%lu,\"waiting\":%lu,"
           "\"stack_used\":%lu,\"timeouts\":%lu,"
           "\"restarts\":%lu,\"last_exit_status\":%lu}",
           comma, slot, (int)pid, state_of(cell, state, sizeof(state)), resident_kib(pid),
           board->address, board->port, (unsigned long)stats_get(&cell->connections),
           (unsigned long)stats_get(&cell->accepted), (unsigned long)own_requests(cell),
           per_second(cell), (unsigned long)stats_get(&cell->send_failures),
           (unsigned long)stats_get(&cell->waiting),
           (unsigned long)stats_get(&cell->stack_used),
           (unsigned long)stats_get(&cell->timeouts), (unsigned long)restarts_in(slot),
           (unsigned long)stats_get(&cell->exit_status));
}

static void status_json(void)
{
    const char *comma = "\n";

    printf(
        "{\"stage\":\"%s\",\"version\":\"%s\",\"pid\":%d,\"address\":\"%s\",\"port\":%d,"
        "\"started_at\":%lld,\"uptime_s\":%lld,\"reloads\":%lu,\"reloads_failed\":%lu,",
        board->stage, board->version, board->master, board->address, board->port,
        (long long)board->started_at, (long long)(time(NULL) - board->started_at),
        (unsigned long)stats_get(&board->reloads_done),
        (unsigned long)stats_get(&board->reloads_failed));
    print_load("\"load\":[%.2f,%.2f,%.2f],");
    fputs("\"workers\":[", stdout);
    for (uint32_t i = 0; i < SIDES * board->slots; i++) {
        struct stats total;

        stats_total(&board->cells[i], &total);
        if (stats_get(&total.pid) == 0 &&
            (i % SIDES || stats_get(&board->cells[i + 1].pid)))
            continue;
        worker_json(i / SIDES, &total, comma);
        comma = ",\n";
    }
    puts("]}");
}

/* At most five characters: 1234, 99999, 98K, 1.2M. */
static const char *brief(uint64_t n, char text[8])
{
    static const char units[] = "KMGTPE";
    double value = (double)n;
    int unit = -1;

    if (n < 100000)
        snprintf(text, 8, "%u", (unsigned)n);
    else {
        do {
            value /= 1024;
            unit++;
        } while (value >= 1000);
        snprintf(text, 8, value < 10 ? "%.1f%c" : "%.0f%c", value, units[unit]);
    }
    return text;
}

static void print_worker(uint32_t slot, const struct stats *cell)
{
    pid_t pid = (pid_t)stats_get(&cell->pid);
    uint64_t exited = stats_get(&cell->exit_status);
    char state[32], rate[8];

    printf("%2u %7d %5.1fM %5lu %9lu %6s %5lu %6lu %3lu %4lu %5lu %s\n", slot, (int)pid,
           (double)resident_kib(pid) / 1024, (unsigned long)stats_get(&cell->connections),
           (unsigned long)own_requests(cell),
           brief((uint64_t)(per_second(cell) + 0.5), rate),
           (unsigned long)stats_get(&cell->send_failures),
           (unsigned long)stats_get(&cell->waiting),
           (unsigned long)stats_get(&cell->timeouts), (unsigned long)restarts_in(slot),
           (unsigned long)exited, state_of(cell, state, sizeof(state)));
}

void status_print(const struct options *opt)
{
    time_t started = (time_t)board->started_at;
    long up = (long)(time(NULL) - started);
    char when[32];

    if (opt->json) {
        status_json();
        return;
    }
    strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", localtime(&started));
    printf("%s (%s)\nlistening on %s:%d, pid %d, %u workers\nstarted %s, up %ldd "
           "%02ld:%02ld:%02ld,",
           board->stage, board->version, board->address, board->port, board->master,
           board->slots, when, up / 86400, up / 3600 % 24, up / 60 % 60, up % 60);
    print_load(" load %.2f %.2f %.2f");
    printf("\nreloads %lu, failed %lu\n", (unsigned long)stats_get(&board->reloads_done),
           (unsigned long)stats_get(&board->reloads_failed));
    if (deepest_stack() > 0)
        printf("deepest stack %lu bytes\n", (unsigned long)deepest_stack());
    putchar('\n');
    printf("%2s %7s %6s %5s %9s %6s %5s %6s %3s %4s %5s %s\n", "#", "pid", "memory",
           "conns", "requests", "req/s", "sfail", "wait", "t/o", "rest", "exit", "state");
    for (uint32_t i = 0; i < SIDES * board->slots; i++) {
        struct stats total;

        stats_total(&board->cells[i], &total);
        if (stats_get(&total.pid) == 0 &&
            (i % SIDES || stats_get(&board->cells[i + 1].pid)))
            continue;
        print_worker(i / SIDES, &total);
    }
}

/* --- connections -------------------------------------------------------------------- */

/* A line of /proc/net/tcp or tcp6; proc(5). */
struct kernel_conn {
    char local[INET6_ADDRSTRLEN + 8], peer[INET6_ADDRSTRLEN + 8];
    unsigned state, send_q, recv_q;
    unsigned long inode;
    int protocol; /* 4 or 6 */
};

static struct kernel_conn *kernel_conns;
static size_t kernel_conns_len;

/* "0100007F:1F90": words of the address in the machine's byte order. */
static void decode_address(const char *hex, int protocol, char *out, size_t size)
{
    unsigned char address[16];
    char text[INET6_ADDRSTRLEN];
    unsigned port = 0;
    int words = protocol == 6 ? 4 : 1;

    for (int i = 0; i < words; i++) {
        unsigned word = 0;

        sscanf(hex + 8 * i, "%8x", &word);
        memcpy(address + 4 * i, &word, 4);
    }
    sscanf(hex + 8 * words, ":%x", &port);
    inet_ntop(protocol == 6 ? AF_INET6 : AF_INET, address, text, sizeof(text));
    snprintf(out, size, protocol == 6 ? "[%s]:%u" : "%s:%u", text, port);
}

static void read_kernel_conns(const char *path, int protocol)
{
    FILE *file = fopen(path, "re");
    char line[512];

    while (file && fgets(line, sizeof(line), file)) {
        char local[64], peer[64];
        struct kernel_conn *k;
        struct kernel_conn one = { .protocol = protocol };
        void *grown;

        if (sscanf(line, " %*d: %63s %63s %x %x:%x %*s %*s %*s %*s %lu", local, peer,
                   &one.state, &one.send_q, &one.recv_q, &one.inode) != 6 ||
            one.inode == 0)
            continue;
        if ((kernel_conns_len & (kernel_conns_len + 1)) == 0) { /* full: double it */
            grown =
                realloc(kernel_conns, 2 * (kernel_conns_len + 1) * sizeof(*kernel_conns));
            if (grown == NULL)
                break;
            kernel_conns = grown;
        }
        k = &kernel_conns[kernel_conns_len++];
        *k = one;
        decode_address(local, protocol, k->local, sizeof(k->local));
        decode_address(peer, protocol, k->peer, sizeof(k->peer));
    }
    if (file)
        fclose(file);
}

static int by_inode(const void *a, const void *b)
{
    const struct kernel_conn *x = a, *y = b;

    return (x->inode > y->inode) - (x->inode < y->inode);
}

/* enum of linux/tcp_states.h; the short name for narrow terminals. */
static const struct {
    const char *name, *brief;
} tcp_states[] = {
    { "?", "?" },
    { "ESTABLISHED", "ESTAB" },
    { "SYN-SENT", "SYN-S" },
    { "SYN-RECV", "SYN-R" },
    { "FIN-WAIT-1", "FIN-1" },
    { "FIN-WAIT-2", "FIN-2" },
    { "TIME-WAIT", "TIME" },
    { "CLOSE", "CLOSE" },
    { "CLOSE-WAIT", "CLO-W" },
    { "LAST-ACK", "L-ACK" },
    { "LISTEN", "LISTN" },
    { "CLOSING", "CLSNG" },
};
enum { TCP_LISTENING = 10, TCP_STATES = sizeof(tcp_states) / sizeof(tcp_states[0]) };

enum { NARROW = 80, WIDE = 120 };

/* Columns of the terminal, or $COLUMNS, or 80. */
static int columns(void)
{
    const char *variable = getenv("COLUMNS");
    struct winsize size;

    if (variable && strtol(variable, NULL, 10) > 0)
        return (int)strtol(variable, NULL, 10);
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return NARROW;
}

static void print_conn_json(uint32_t slot, pid_t pid, const struct kernel_conn *k,
                            const struct conn_stats *own, const char *comma)
{
    printf(
        "%s{\"worker\":%u,\"pid\":%d,\"id\":%u,\"protocol\":\"tcp%d\",\"local\":\"%s\","
        "\"peer\":\"%s\",\"recv_q\":%u,\"send_q\":%u,\"bytes_read\":%lu,"
        "\"bytes_written\":%lu,\"requests\":%u,\"state\":\"%s\",\"idle_s\":%.1f}",
        comma, slot, (int)pid, own->id, k->protocol, k->local, k->peer, k->recv_q,
        k->send_q, (unsigned long)own->bytes_in, (unsigned long)own->bytes_out,
        own->requests, tcp_states[k->state < TCP_STATES ? k->state : 0].name,
        (double)(clock_ms() - own->last_ms) / 1000);
}

static void print_conn(uint32_t slot, pid_t pid, const struct kernel_conn *k,
                       const struct conn_stats *own, bool wide)
{
    unsigned state = k->state < TCP_STATES ? k->state : 0;
    long idle_s = (long)(clock_ms() - own->last_ms) / 1000;
    char in[8], out[8], recv_q[8], send_q[8];

    if (wide)
        printf("%7d %3u %6u tcp%d  %-28s %-28s %9u %9u %12lu %12lu %9u %-11s %6lds\n",
               (int)pid, slot, own->id, k->protocol, k->local, k->peer, k->recv_q,
               k->send_q, (unsigned long)own->bytes_in, (unsigned long)own->bytes_out,
               own->requests, tcp_states[state].name, idle_s);
    else
        printf("%7d %2u %4u tcp%d %-19s %5s %5s %5s %5s %4u %-5s %3lds\n", (int)pid, slot,
               own->id, k->protocol, k->peer, brief(k->recv_q, recv_q),
               brief(k->send_q, send_q), brief(own->bytes_in, in),
               brief(own->bytes_out, out), own->requests, tcp_states[state].brief,
               idle_s);
}

static void print_conns_head(bool wide)
{
    if (wide)
        printf("%7s %3s %6s %-5s %-28s %-28s %9s %9s %12s %12s %9s %-11s %7s\n", "pid",
               "#", "id", "proto", "local", "peer", "Recv-Q", "Send-Q", "read", "written",
               "requests", "state", "idle");
    else
        printf("%7s %2s %4s %-4s %-19s %5s %5s %5s %5s %4s %-5s %4s\n", "pid", "#", "id",
               "prot", "peer", "RecvQ", "SendQ", "read", "wrote", "reqs", "state",
               "idle");
}

/* The sockets of a worker: the links in /proc/PID/fd that read "socket:[INODE]". */
static void print_worker_conns(const struct options *opt, uint32_t slot,
                               const struct stats *cell, bool *first)
{
    pid_t pid = (pid_t)stats_get(&cell->pid);
    char name[64 + 256], link[64];
    struct dirent *entry;
    DIR *dir;

    snprintf(name, sizeof(name), "/proc/%d/fd", (int)pid);
    dir = opendir(name);
    if (dir == NULL) {
        fprintf(stderr, "%s: cannot look into %s; only its user and root may\n",
                opt->name, name);
        return;
    }
    while ((entry = readdir(dir))) {
        struct kernel_conn key = { 0 };
        const struct kernel_conn *k;
        long fd = strtol(entry->d_name, NULL, 10);
        ssize_t n;

        snprintf(name, sizeof(name), "/proc/%d/fd/%s", (int)pid, entry->d_name);
        n = readlink(name, link, sizeof(link) - 1);
        link[n > 0 ? n : 0] = '\0';
        if (!isdigit((unsigned char)*entry->d_name) || fd >= (long)board->fds ||
            strncmp(link, "socket:[", 8) != 0)
            continue;
        key.inode = strtoul(link + 8, NULL, 10);
        k = bsearch(&key, kernel_conns, kernel_conns_len, sizeof(*k), by_inode);
        if (k == NULL || k->state == TCP_LISTENING)
            continue;
        if (opt->json)
            print_conn_json(slot, pid, k, &stats_conns(cell)[fd], *first ? "\n" : ",\n");
        else
            print_conn(slot, pid, k, &stats_conns(cell)[fd], columns() >= WIDE);
        *first = false;
    }
    closedir(dir);
}

void connections_print(const struct options *opt)
{
    bool first = true;

    kernel_conns_len = 0;
    read_kernel_conns("/proc/net/tcp", 4);
    read_kernel_conns("/proc/net/tcp6", 6);
    qsort(kernel_conns, kernel_conns_len, sizeof(*kernel_conns), by_inode);
    if (opt->json)
        fputs("{\"connections\":[", stdout);
    else
        print_conns_head(columns() >= WIDE);
    for (uint32_t i = 0; i < SIDES * board->slots; i++)
        if (stats_get(&board->cells[i].pid) != 0)
            print_worker_conns(opt, i / SIDES, &board->cells[i], &first);
    if (opt->json)
        puts("]}");
}
/* NOLINTEND(cert-err34-c) */
