/* harness.h - start and stop any stage, and be its client.
 * Does not: know what is tested. Every wait is for a fact and has a deadline.
 *
 * Environment: SOURCE_DIR, the folder of the stages' facts (default: the working
 * directory); BUILD_DIR, the folder of the servers (default: above the test program's
 * own); SERVER_COMMAND, the words of a server of somebody else, which takes --port and
 * says "NAME: listening on 127.0.0.1:PORT" (then it is the only mode); SERVER_WRAPPER, words to put before a server ("valgrind -q ..."); TIME_SCALE, by
 * which all deadlines are multiplied; TEST_JOBS, how many cases run side by side
 * (all: they mostly wait); CK_RUN_CASE.
 *
 * What fails in here fails the Check test that called. */
#ifndef HARNESS_H
#define HARNESS_H

#include <check.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/clock.h"

/* One way to run one stage; each is a Check case of its own. */
struct mode {
    const char *name;  /* of the case */
    const char *stage; /* the program */
    const char *args;  /* options of this mode, split at spaces */
    int workers;       /* processes that serve; 0: the program itself does */
    const char *model; /* blocking, loop, threads, callbacks, coroutines */
    int at_once;       /* clients served at the same time; INT_MAX: many */
};

extern const struct mode *mode; /* the one whose case is running */

/* All of them, from the facts in the stages' folders: *n. Static memory. Facts that are
 * wrong or not there end the program. */
const struct mode *harness_modes(int *n);
enum { MODES_MAX = 64 };

/* The one of this name, such as "stage3-poll", or the first of a stage, "stage3". */
const struct mode *harness_mode(const char *name);

/* True where a handler that waits holds up nobody else: threads, callbacks, coroutines. */
bool mode_waits_aside(const struct mode *m);

/* Run one suite with a case per mode, each in a process of its own, TEST_JOBS side by
 * side. add_tests: fills the case of the current `mode`. timeout_s: of a single test,
 * before scaling. Returns what main() returns. */
int harness_run(const char *suite, void (*add_tests)(TCase *tc), int timeout_s);

/* Something went wrong outside of a test (in an unchecked fixture): the run fails. */
void harness_complain(const char *what);

/* Say on stdout that the running test was skipped, and why. */
void skip(const char *why);

/* True when servers run under SERVER_WRAPPER. */
bool harness_wrapped(void);

/* True when SERVER_COMMAND is tested, which has none of the stages' options. */
bool harness_foreign(void);

int scaled_ms(int ms); /* times TIME_SCALE */

enum {
    PATIENCE_MS = 5000,     /* the usual deadline, before scaling */
    STOP_TIMEOUT_MS = 2000, /* default of --stop-timeout */
};

/* Wait, at most ms (before scaling), until `condition` is true; check it every 5 ms. */
#define eventually(condition, ms)                                                        \
    do {                                                                                 \
        int64_t end_ = clock_ms() + scaled_ms(ms);                                       \
        while (!(condition)) {                                                           \
            ck_assert_msg(clock_ms() < end_, "not true within %d ms: %s", ms,            \
                          #condition);                                                   \
            pause_ms(5);                                                                 \
        }                                                                                \
    } while (0)

/* Between two looks at a fact, and nothing else. */
void pause_ms(int ms);

/* ---- servers ---- */

struct server {
    pid_t pid;        /* of the program, and of its process group */
    int port;         /* TCP port it listens on */
    int out;          /* owned: its stdout, behind the first line */
    int err;          /* owned: a memory file that takes its stderr */
    bool ipv6;        /* it listens on ::1 instead of 127.0.0.1 */
    char banner[512]; /* the first line of its stdout */
};

/* Start the stage of `mode` with --port 0, the mode's options and `args` (split at
 * spaces), and wait until it says that it listens. It dies with this process. nofile: its
 * RLIMIT_NOFILE, soft and hard; 0: as this process has it. */
void server_start(struct server *s, const char *args);
void server_start_limited(struct server *s, const char *args, unsigned nofile);

/* The file of the program of `mode`. */
enum { SERVER_PATH_MAX = PATH_MAX + NAME_MAX + 2 };
void server_path(char path[SERVER_PATH_MAX]);

/* SIGTERM; then it must end with status 0 within the time that requests in flight get,
 * leave no process behind, and no complaint of a sanitizer or of valgrind on stderr. */
void server_stop(struct server *s);

/* The same for a fixture: NULL, or what went wrong. The server is gone in any case. */
const char *server_end(struct server *s);

/* Wait at most ms (scaled) for the end of the program: its wait(2) status. -1: it still
 * runs. */
int server_wait(struct server *s, int ms);

/* Assert that no process of the server's group is left, and give the descriptors back. */
void server_gone(struct server *s);

/* What it wrote to stderr so far. Static memory, overwritten by the next call. */
const char *server_log(const struct server *s);

/* Living processes (no zombies) of the server, at most cap; sorted. Returns how many. */
int server_processes(const struct server *s, pid_t pids[], int cap);
/* The same without the program itself: the workers. */
int server_workers(const struct server *s, pid_t pids[], int cap);

/* Children of the program that died and were not waited for. */
int server_zombies(const struct server *s);

/* CPU time of all its processes so far, ms. */
int64_t server_cpu_ms(const struct server *s);

/* Sum of the peaks of resident memory of its processes, KiB. */
long server_peak_kib(const struct server *s);

/* State letter of a process as in proc(5); 0: there is none. */
char process_state(pid_t pid);

/* A program run to its end. */
struct outcome {
    int status;      /* exit status; -1: killed by a signal */
    char out[32768]; /* stdout, terminated, cut */
    char err[8192];  /* stderr, terminated, cut */
};

/* Run the stage of `mode` as server_start() does, but to its end. */
void server_run(struct outcome *o, const char *args);

/* Run any program, found in PATH, to its end. argv: ends with NULL. */
void program_run(struct outcome *o, const char *const argv[]);

/* ---- clients ---- */

/* One connection. Bytes that were read and not yet looked at wait in `in`. */
struct client {
    int fd;     /* owned */
    size_t len; /* bytes in `in` */
    char in[65536];
};

enum { BODY_KEPT = 8 << 20 };

/* An answer. */
struct response {
    int status;
    bool keep_alive;  /* no "Connection: close" in it */
    char head[20000]; /* status line and fields, terminated */
    const char
        *body; /* first BODY_KEPT bytes, terminated; valid until the next response */
    uint64_t body_len; /* bytes */
};

/* Connect, and return the socket (TCP_NODELAY). connect_small(): with a receive buffer so
 * small that the server meets a full socket soon. */
int connect_to(const struct server *s);
int connect_small(const struct server *s);

void client_open(struct client *c, const struct server *s);
void client_close(struct client *c);
/* Close so that the peer gets a reset. SO_LINGER in socket(7). */
void client_reset(struct client *c);

/* Send all of it within the deadline. client_offer(): the peer may close meanwhile. */
void client_send(struct client *c, const void *bytes, size_t n);
void client_offer(struct client *c, const void *bytes, size_t n);
void client_say(struct client *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Wait until the server has received and read everything that was sent. sock_diag(7). */
void client_settle(const struct client *c);

/* Read one response to a request of this method; check that it is well formed: status
 * line, fields, one Content-Length, and a Date of now in all but 1xx and 503. */
void client_read(struct client *c, struct response *r, const char *method);

/* client_read() of a GET whose status must be this one. */
void client_expect(struct client *c, struct response *r, int status);

/* Nothing comes, and the connection stays open, for this long (not scaled). */
void client_expect_silence(const struct client *c, int ms);

/* No further byte comes, but the end of the stream (or a reset) within ms (scaled). */
void client_expect_close(struct client *c, int ms);

/* The same, and a reset is no good end: it can overtake an answer (RFC 9112 section 9.6). */
void client_expect_end(struct client *c, int ms);

/* Value of a field, or NULL. Static memory, overwritten by the next call. */
const char *response_field(const struct response *r, const char *name);

/* One request on a connection of its own: "METHOD TARGET", answered with this status. */
void fetch(const struct server *s, const char *method, const char *target,
           struct response *r, int status);

/* The first number behind "key": in a JSON text; -1: there is none. */
long long json_number(const char *json, const char *key);

#endif
