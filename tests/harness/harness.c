/* harness.c - run the suite once per mode; start, watch and stop servers.
 * Does not: speak HTTP; that is harness_client.c's. */
#include "harness/harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/stop.h"

enum { MAX_CASES = MODES_MAX, MAX_ARGS = 64 };

const struct mode *mode;
static bool complained;

/* ---- the runner ---- */

int scaled_ms(int ms)
{
    const char *scale = getenv("TIME_SCALE");
    double factor = scale ? strtod(scale, NULL) : 1;

    return (int)(ms * (factor >= 1 ? factor : 1));
}

bool harness_wrapped(void)
{
    const char *wrapper = getenv("SERVER_WRAPPER");

    return wrapper && *wrapper;
}

bool harness_foreign(void)
{
    const char *command = getenv("SERVER_COMMAND");

    return command && *command;
}

/* The mode of SERVER_COMMAND, named after its last word, without the folder. */
static const struct mode *foreign_mode(const char *command)
{
    static struct mode foreign = { "command", NULL, "", 0, "loop", INT_MAX };

    foreign.stage = command + strlen(command);
    while (foreign.stage > command && foreign.stage[-1] != '/' &&
           foreign.stage[-1] != ' ')
        foreign.stage--;
    return &foreign;
}

void harness_complain(const char *what)
{
    dprintf(STDOUT_FILENO, "%s: outside of the tests: %s\n", mode->name, what);
    complained = true;
}

void skip(const char *why)
{
    dprintf(STDOUT_FILENO, "note: skipped in %s: %s\n", mode->name, why);
}

void pause_ms(int ms)
{
    poll(NULL, 0, ms);
}

/* Thousands of clients need as many descriptors. */
static void raise_nofile(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* In a process of its own: the case of `mode`, with its output going to `out`. */
static _Noreturn void run_case(const char *name, void (*add_tests)(TCase *tc),
                               int timeout_s, int out)
{
    Suite *suite = suite_create(name);
    TCase *tc = tcase_create(mode->name);
    SRunner *runner = srunner_create(suite);
    int failed;

    dup2(out, STDOUT_FILENO);
    tcase_set_timeout(tc, scaled_ms(timeout_s));
    add_tests(tc);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    exit(failed > 0 || complained);
}

static void show(int file)
{
    char text[4096];
    ssize_t n;

    lseek(file, 0, SEEK_SET);
    while ((n = read(file, text, sizeof text)) > 0)
        fwrite(text, 1, (size_t)n, stdout);
    fflush(stdout);
    close(file);
}

/* Wait for any case to end and print what it said. False: it failed. */
static bool reap_case(pid_t pids[], const int outs[], int n)
{
    int status;
    pid_t pid = wait(&status);

    for (int i = 0; i < n; i++) {
        if (pid > 0 && pids[i] == pid) {
            pids[i] = 0;
            show(outs[i]);
        }
    }
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    remove(path);
    return 0;
}

int harness_run(const char *suite, void (*add_tests)(TCase *tc), int timeout_s)
{
    const char *only = getenv("CK_RUN_CASE");
    const char *command = getenv("SERVER_COMMAND");
    const char *jobs_text = getenv("TEST_JOBS");
    int jobs = jobs_text && atoi(jobs_text) > 0 ? atoi(jobs_text) : MAX_CASES;
    int running = 0, failed = 0, ran = 0, n = 1;
    int outs[MAX_CASES];
    pid_t pids[MAX_CASES] = { 0 };
    /* For pid files: two may get the same port, on ::1. */
    char dirs[MAX_CASES][32] = { "" };
    const struct mode *modes =
        command && *command ? foreign_mode(command) : harness_modes(&n);

    raise_nofile();
    for (int i = 0; i < n; i++) {
        if (only && strcmp(only, modes[i].name) != 0)
            continue;
        if (running >= jobs) {
            failed += !reap_case(pids, outs, n);
            running--;
        }
        mode = &modes[i];
        snprintf(dirs[i], sizeof dirs[i], "/tmp/stages.XXXXXX");
        if (mkdtemp(dirs[i]) == NULL || setenv("XDG_RUNTIME_DIR", dirs[i], 1) == -1)
            return EXIT_FAILURE;
        outs[i] = memfd_create(mode->name, MFD_CLOEXEC);
        pids[i] = fork();
        if (pids[i] == 0)
            run_case(suite, add_tests, timeout_s, outs[i]);
        running++;
        ran++;
    }
    while (running-- > 0)
        failed += !reap_case(pids, outs, n);
    for (int i = 0; i < n; i++)
        if (*dirs[i])
            nftw(dirs[i], remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    if (ran == 0)
        fprintf(stderr, "CK_RUN_CASE: there is no case named %s\n", only);
    return failed > 0 || ran == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- starting ---- */

/* Words of a command line. */
struct words {
    char room[4096];
    size_t used;
    const char *argv[MAX_ARGS + 1]; /* borrowed from room; ends with NULL */
    int argc;
};

/* Split text at spaces and append the words. */
static void words_add(struct words *w, const char *text)
{
    while (text && *(text += strspn(text, " "))) {
        size_t n = strcspn(text, " ");

        ck_assert_int_lt(w->argc, MAX_ARGS);
        ck_assert_uint_lt(w->used + n + 1, sizeof w->room);
        w->argv[w->argc++] = memcpy(w->room + w->used, text, n);
        w->used += n;
        w->room[w->used++] = '\0';
        text += n;
    }
}

/* Folder of the servers: the one above the folder of this program. */
static void build_dir(char *path, size_t cap)
{
    const char *given = getenv("BUILD_DIR");
    ssize_t n;

    if (given) {
        snprintf(path, cap, "%s", given);
        return;
    }
    n = readlink("/proc/self/exe", path, cap - 1);
    ck_assert_int_gt(n, 0);
    path[n] = '\0';
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(path, '/');

        ck_assert_ptr_nonnull(slash);
        *slash = '\0';
    }
}

void server_path(char path[SERVER_PATH_MAX])
{
    build_dir(path, PATH_MAX);
    snprintf(path + strlen(path), NAME_MAX + 2, "/%s", mode->stage);
}

static void server_words(struct words *w, const char *args)
{
    char program[SERVER_PATH_MAX];

    memset(w, 0, sizeof *w);
    if (harness_foreign()) {
        words_add(w, getenv("SERVER_COMMAND"));
    } else {
        server_path(program);
        if (harness_wrapped())
            words_add(w, getenv("SERVER_WRAPPER"));
        words_add(w, program);
    }
    words_add(w, "--port 0");
    words_add(w, mode->args);
    words_add(w, args);
}

/* The new process: a group of its own, dead when its parent is. */
static _Noreturn void become(const char *const argv[], int out, int err, unsigned nofile,
                             pid_t parent)
{
    struct rlimit limit = { nofile, nofile };
    sigset_t none;
    int null = open("/dev/null", O_RDONLY);

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(null, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    /* A server counts its descriptors; it must find the same number every time. */
    syscall(SYS_close_range, 3U, ~0U, 0U);
    if (nofile)
        setrlimit(RLIMIT_NOFILE, &limit);
    if (getppid() == parent)
        execvp(argv[0], (char *const *)argv);
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

/* Start argv. *out: the end of a pipe, its stdout; *err: a memory file, its stderr. */
static pid_t launch(const char *const argv[], int *out, int *err, unsigned nofile)
{
    pid_t parent = getpid(), pid;
    int ends[2];

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    *err = memfd_create("stderr", MFD_CLOEXEC);
    ck_assert_int_ge(*err, 0);
    fcntl(*err, F_SETFL, O_APPEND);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        become(argv, ends[1], *err, nofile, parent);
    setpgid(pid, pid);
    close(ends[1]);
    *out = ends[0];
    return pid;
}

const char *server_log(const struct server *s)
{
    static char text[65536];
    ssize_t n = pread(s->err, text, sizeof text - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

/* Kill what is left of the server, and forget it. */
static void server_destroy(struct server *s)
{
    if (s->pid > 0) {
        kill(-s->pid, SIGKILL);
        waitpid(s->pid, NULL, 0);
    }
    close(s->out);
    close(s->err);
    s->pid = 0;
}

/* The first line of stdout, without its end. False: the end of stdout, or of our
 * patience. */
static bool read_banner(struct server *s)
{
    int64_t end = clock_ms() + scaled_ms(PATIENCE_MS);
    size_t n = 0;

    while (n < sizeof s->banner - 1) {
        struct pollfd p = { s->out, POLLIN, 0 };
        int64_t left = end - clock_ms();

        if (left <= 0 || poll(&p, 1, (int)left) != 1 ||
            read(s->out, s->banner + n, 1) != 1)
            return false;
        if (s->banner[n] == '\n') {
            s->banner[n] = '\0';
            return true;
        }
        n++;
    }
    return false;
}

void server_start_limited(struct server *s, const char *args, unsigned nofile)
{
    struct words w;
    const char *port;

    server_words(&w, args);
    memset(s, 0, sizeof *s);
    s->pid = launch(w.argv, &s->out, &s->err, nofile);
    if (!read_banner(s)) {
        char log[1024];

        snprintf(log, sizeof log, "%s", server_log(s));
        server_destroy(s);
        ck_abort_msg("%s %s %s did not start: %s", mode->stage, mode->args, args, log);
    }
    port = strstr(s->banner, " on [::1]:");
    s->ipv6 = port != NULL;
    port = s->ipv6 ? port + strlen(" on [::1]:") : strstr(s->banner, ".0.0.1:");
    s->port = port ? atoi(port + (s->ipv6 ? 0 : strlen(".0.0.1:"))) : 0;
    ck_assert_msg(s->port > 0, "no port in the first line: %s", s->banner);
}

void server_start(struct server *s, const char *args)
{
    server_start_limited(s, args, 0);
}

/* ---- stopping ---- */

int server_wait(struct server *s, int ms)
{
    struct pollfd p = { (int)syscall(SYS_pidfd_open, s->pid, 0), POLLIN, 0 };
    int ended, status;

    ck_assert_int_ge(p.fd, 0);
    ended = poll(&p, 1, scaled_ms(ms));
    close(p.fd);
    if (ended != 1)
        return -1;
    ck_assert_int_eq(waitpid(s->pid, &status, 0), s->pid);
    return status;
}

/* Words of sanitizers and of valgrind in what a server wrote. */
static bool log_is_bad(const char *log)
{
    static const char *const words[] = { "Sanitizer", "runtime error:", "Assertion",
                                         "\n==", "definitely lost" };

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strstr(log, words[i]))
            return true;
    }
    return strncmp(log, "==", 2) == 0;
}

static bool group_ends(struct server *s, int ms)
{
    int64_t end = clock_ms() + scaled_ms(ms);
    pid_t pids[1];

    while (server_processes(s, pids, 1) > 0) {
        if (clock_ms() >= end)
            return false;
        pause_ms(5);
    }
    return true;
}

const char *server_end(struct server *s)
{
    static char problem[9000];
    int status;

    problem[0] = '\0';
    kill(s->pid, SIGTERM);
    status = server_wait(s, STOP_TIMEOUT_MS + 1500);
    if (status == -1) {
        snprintf(problem, sizeof problem, "still runs %d ms after SIGTERM",
                 STOP_TIMEOUT_MS + 1500);
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        snprintf(problem, sizeof problem, "ended with %s %d: %.8000s",
                 WIFEXITED(status) ? "status" : "signal",
                 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
                 server_log(s));
    } else if (!group_ends(s, 1000)) {
        snprintf(problem, sizeof problem, "left a process behind");
    } else if (log_is_bad(server_log(s))) {
        snprintf(problem, sizeof problem, "complained: %.8000s", server_log(s));
    }
    if (status != -1) {
        if (!group_ends(s, 0))
            kill(-s->pid, SIGKILL);
        s->pid = 0; /* reaped: the number may be somebody else's by now */
    }
    server_destroy(s);
    return problem[0] ? problem : NULL;
}

void server_stop(struct server *s)
{
    const char *problem = server_end(s);

    ck_assert_msg(problem == NULL, "%s %.3500s", mode->stage, problem);
}

void server_gone(struct server *s)
{
    bool gone = group_ends(s, 1000);

    if (!gone)
        kill(-s->pid, SIGKILL);
    s->pid = 0;
    server_destroy(s);
    ck_assert_msg(gone, "%s left a process behind", mode->stage);
}

/* ---- watching ---- */

struct process {
    pid_t parent, group;
    char state;
};

static bool process_read(pid_t pid, struct process *p)
{
    char path[32], text[512];
    const char *behind;
    ssize_t n;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    behind = strrchr(text, ')'); /* the name before it may hold anything */
    return behind && sscanf(behind, ") %c %d %d", &p->state, &p->parent, &p->group) == 3;
}

char process_state(pid_t pid)
{
    struct process p;

    return process_read(pid, &p) ? p.state : 0;
}

/* All processes of the group, or all children of its leader, dead (zombies) or alive. */
static int find_processes(pid_t group, bool dead, pid_t pids[], int cap)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    int n = 0;

    ck_assert_ptr_nonnull(proc);
    while (n < cap && (entry = readdir(proc)) != NULL) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        struct process p;

        if (pid <= 0 || !process_read(pid, &p) || (strchr("ZX", p.state) != NULL) != dead)
            continue;
        if (dead ? p.parent == group : p.group == group)
            pids[n++] = pid;
    }
    closedir(proc);
    return n;
}

static int compare_pids(const void *a, const void *b)
{
    return *(const pid_t *)a - *(const pid_t *)b;
}

int server_processes(const struct server *s, pid_t pids[], int cap)
{
    int n = find_processes(s->pid, false, pids, cap);

    qsort(pids, (size_t)n, sizeof pids[0], compare_pids);
    return n;
}

int server_workers(const struct server *s, pid_t pids[], int cap)
{
    int n = server_processes(s, pids, cap), kept = 0;

    for (int i = 0; i < n; i++) {
        if (pids[i] != s->pid)
            pids[kept++] = pids[i];
    }
    return kept;
}

int server_zombies(const struct server *s)
{
    pid_t pids[64];

    return find_processes(s->pid, true, pids, 64);
}

int64_t server_cpu_ms(const struct server *s)
{
    pid_t pids[80];
    int n = server_processes(s, pids, 80);
    int64_t sum = 0;

    for (int i = 0; i < n; i++) {
        struct timespec used;
        clockid_t clock;

        if (clock_getcpuclockid(pids[i], &clock) == 0 && clock_gettime(clock, &used) == 0)
            sum += used.tv_sec * INT64_C(1000) + used.tv_nsec / 1000000;
    }
    return sum;
}

long server_peak_kib(const struct server *s)
{
    pid_t pids[80];
    int n = server_processes(s, pids, 80);
    long sum = 0;

    for (int i = 0; i < n; i++) {
        char path[32], line[256];
        long peak;
        FILE *file;

        snprintf(path, sizeof path, "/proc/%d/status", (int)pids[i]);
        file = fopen(path, "re");
        while (file && fgets(line, sizeof line, file)) {
            if (sscanf(line, "VmHWM: %ld", &peak) == 1)
                sum += peak;
        }
        if (file)
            fclose(file);
    }
    return sum;
}

/* ---- programs that run to their end ---- */

/* Read stdout to its end into o->out. False: the deadline came first. */
static bool read_out(struct outcome *o, int fd)
{
    int64_t end = clock_ms() + scaled_ms(30000);
    size_t n = 0;

    for (;;) {
        struct pollfd p = { fd, POLLIN, 0 };
        int64_t left = end - clock_ms();
        char rest[4096];
        ssize_t got;

        if (left <= 0 || poll(&p, 1, (int)left) != 1)
            return false;
        got = read(fd, rest, sizeof rest);
        if (got <= 0)
            return true;
        if ((size_t)got > sizeof o->out - 1 - n)
            got = (ssize_t)(sizeof o->out - 1 - n);
        memcpy(o->out + n, rest, (size_t)got);
        n += (size_t)got;
    }
}

void program_run(struct outcome *o, const char *const argv[])
{
    int out, err, status;
    pid_t pid = launch(argv, &out, &err, 0);
    bool ended;

    memset(o, 0, sizeof *o);
    ended = read_out(o, out);
    if (!ended)
        kill(-pid, SIGKILL);
    waitpid(pid, &status, 0);
    if (pread(err, o->err, sizeof o->err - 1, 0) < 0)
        o->err[0] = '\0';
    close(out);
    close(err);
    ck_assert_msg(ended, "%s did not end; stdout: %s; stderr: %s", argv[0], o->out,
                  o->err);
    o->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void server_run(struct outcome *o, const char *args)
{
    struct words w;

    server_words(&w, args);
    program_run(o, w.argv);
}
