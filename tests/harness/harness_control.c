/* harness_control.c - see harness_control.h.
 * Does not: speak HTTP; harness_client.c and the crowd client do. */
#include "harness/harness_control.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process/pidfile.h"

enum { TEXT = 1 << 20 };

char folder[64];
static char base[32];        /* of the folders */
static char built[PATH_MAX]; /* where the programs are */
static char copy[PATH_MAX];  /* program_copy()'s */

/* ---- the runner ---- */

static void set_up(void)
{
    snprintf(folder, sizeof folder, "%s/test-XXXXXX", base);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chmod(folder, 0755), 0);
    setenv("XDG_RUNTIME_DIR", folder, 1);
    setenv("BUILD_DIR", built, 1);
    /* A daemon of the test becomes its child: it can be waited for. */
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
}

/* What is left of a test has become our child. A child's children become ours in turn. */
static int kill_leftovers(void)
{
    pid_t pids[PIDS];
    int killed = 0, n;

    while ((n = children_of(getpid(), pids, PIDS)) > 0) {
        for (int i = 0; i < n; i++)
            kill(pids[i], SIGKILL);
        killed += n;
        while (waitpid(-1, NULL, 0) > 0 && --n > 0)
            continue;
    }
    while (waitpid(-1, NULL, WNOHANG) > 0)
        continue;
    return killed;
}

static void find_programs(void)
{
    const char *given = getenv("BUILD_DIR");
    ssize_t n = readlink("/proc/self/exe", built, sizeof built - 1);

    built[n > 0 ? n : 0] = '\0';
    if (given && realpath(given, built))
        return;
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(built, '/');

        if (slash)
            *slash = '\0';
    }
}

static int run_case(const char *suite_name, const struct control_case *one, int timeout_s)
{
    Suite *suite = suite_create(suite_name);
    TCase *tc = tcase_create(one->mode);
    SRunner *runner = srunner_create(suite);
    int failed, left;

    mode = harness_mode(one->mode);
    tcase_set_timeout(tc, scaled_ms(timeout_s));
    tcase_add_checked_fixture(tc, set_up, NULL);
    one->add(tc);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    left = kill_leftovers();
    if (left > 0 && failed == 0) {
        printf("%s: the tests left %d processes behind\n", mode->name, left);
        failed++;
    }
    return failed;
}

static int remove_entry(const char *path, const struct stat *st, int type,
                        struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

int control_run(const char *suite, const struct control_case cases[], int n,
                int timeout_s)
{
    const char *only = getenv("CK_RUN_CASE");
    int failed = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    find_programs();
    snprintf(base, sizeof base, "/tmp/control-XXXXXX");
    if (mkdtemp(base) == NULL || chmod(base, 0755) == -1 ||
        prctl(PR_SET_CHILD_SUBREAPER, 1) == -1) {
        perror(base);
        return EXIT_FAILURE;
    }
    for (int i = 0; i < n; i++)
        if (only == NULL || strcmp(only, cases[i].mode) == 0)
            failed += run_case(suite, &cases[i], timeout_s);
    nftw(base, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return failed > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- files ---- */

const char *in_folder(const char *name)
{
    static char path[sizeof folder + 64];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

bool has_looked(pid_t aside)
{
    char path[64];
    pid_t pid;

    if (children_of(aside, &pid, 1) == 0)
        return false;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    return strstr(read_file(path), "/memfd:scoreboard") != NULL;
}

const char *pid_path(int port)
{
    static char path[PIDFILE_PATH_MAX];

    snprintf(path, sizeof path, "%s/%s-%d.pid", folder, mode->stage, port);
    return path;
}

void write_file(const char *path, const char *format, ...)
{
    FILE *file = fopen(path, "we");
    va_list args;

    ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
    va_start(args, format);
    vfprintf(file, format, args);
    va_end(args);
    ck_assert_int_eq(fclose(file), 0);
}

static size_t read_bytes(const char *path, char *bytes, size_t cap)
{
    FILE *file = fopen(path, "re");
    size_t n = file ? fread(bytes, 1, cap, file) : 0;

    if (file)
        fclose(file);
    return n;
}

const char *read_file(const char *path)
{
    static char text[TEXT];

    text[read_bytes(path, text, sizeof text - 1)] = '\0';
    return text;
}

pid_t pid_in(const char *path)
{
    return (pid_t)atoi(read_file(path));
}

/* ---- the program ---- */

const char *built_in(void)
{
    return built;
}

const char *program_path(void)
{
    return copy;
}

static void replace_program(const char *bytes, size_t n, unsigned mode_bits)
{
    char fresh[PATH_MAX + 8];
    int fd;

    snprintf(fresh, sizeof fresh, "%s.new", copy);
    fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_msg(fd >= 0, "%s: %s", fresh, strerror(errno));
    ck_assert_int_eq(write(fd, bytes, n), (ssize_t)n);
    ck_assert_int_eq(fchmod(fd, mode_bits), 0);
    ck_assert_int_eq(close(fd), 0);
    ck_assert_int_eq(rename(fresh, copy), 0);
}

void program_write(const char *bytes, unsigned mode_bits)
{
    replace_program(bytes, strlen(bytes), mode_bits);
}

void program_greet(const char *greeting)
{
    enum { PROGRAM_MAX = 32 << 20 };
    static const char original[] = "hello world!";
    char path[PATH_MAX + 64], *bytes = malloc(PROGRAM_MAX), *at;
    size_t n;

    ck_assert_ptr_nonnull(bytes);
    snprintf(path, sizeof path, "%s/%s", built, mode->stage);
    n = read_bytes(path, bytes, PROGRAM_MAX);
    ck_assert_msg(n > 0 && n < PROGRAM_MAX, "%s: %s", path, strerror(errno));
    ck_assert_uint_eq(strlen(greeting), sizeof original - 1);
    at = memmem(bytes, n, original, sizeof original - 1);
    ck_assert_msg(at != NULL, "no '%s' in %s", original, path);
    memcpy(at, greeting, sizeof original - 1);
    replace_program(bytes, n, 0755);
    free(bytes);
}

void program_copy(void)
{
    snprintf(copy, sizeof copy, "%s/%s", folder, mode->stage);
    program_greet("hello world!");
    setenv("BUILD_DIR", folder, 1);
}

/* ---- commands ---- */

static void run_words(struct outcome *o, const char *format, va_list args)
{
    char words[1024], wrapper[1024];

    snprintf(wrapper, sizeof wrapper, "%s",
             getenv("SERVER_WRAPPER") ? getenv("SERVER_WRAPPER") : "");
    ck_assert_int_lt(vsnprintf(words, sizeof words, format, args), (int)sizeof words);
    if (strncmp(words, "start", 5) != 0)
        unsetenv("SERVER_WRAPPER"); /* valgrind 3.19 knows no pidfd_open(2) */
    server_run(o, words);
    if (*wrapper)
        setenv("SERVER_WRAPPER", wrapper, 1);
}

void command(struct outcome *o, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    run_words(o, format, args);
    va_end(args);
}

void expect_command(int status, const char *text, const char *format, ...)
{
    static struct outcome o;
    va_list args;

    va_start(args, format);
    run_words(&o, format, args);
    va_end(args);
    ck_assert_msg(o.status == status && (strstr(o.out, text) || strstr(o.err, text)),
                  "%s ... %s: expected status %d and '%s', got status %d, '%s', '%s'",
                  mode->stage, format, status, text, o.status, o.out, o.err);
}

void expect_reload(const struct server *s)
{
    expect_command(0, "reloaded", "reload -p %d", s->port);
    ck_assert_int_ne(process_state(s->pid), 0);
    ck_assert_int_eq(pid_in(pid_path(s->port)), s->pid);
}

void daemon_run(struct server *s, const char *args)
{
    static struct outcome o;
    const char *port;

    memset(s, 0, sizeof *s);
    s->out = s->err = -1;
    command(&o, "start -d %s", args);
    port = strstr(o.out, ".0.0.1:");
    ck_assert_msg(o.status == 0 && port, "start -d %s: status %d, '%s', '%s'", args,
                  o.status, o.out, o.err);
    s->port = atoi(port + strlen(".0.0.1:"));
    s->pid = pid_in(pid_path(s->port));
    ck_assert_msg(s->pid > 0 && process_state(s->pid) != 0,
                  "no daemon has the pid %d of %s", s->pid, pid_path(s->port));
}

void daemon_stop(const struct server *s)
{
    pid_t workers[PIDS];
    int n = children_of(s->pid, workers, PIDS);

    expect_command(0, "stopped", "stop -p %d", s->port);
    expect_gone(s->pid);
    for (int i = 0; i < n; i++)
        expect_gone(workers[i]);
    ck_assert_int_eq(access(pid_path(s->port), F_OK), -1);
}

/* ---- processes ---- */

static int compare_pids(const void *a, const void *b)
{
    return *(const pid_t *)a - *(const pid_t *)b;
}

int children_of(pid_t parent, pid_t pids[], int cap)
{
    DIR *proc = opendir("/proc");
    const struct dirent *entry;
    int n = 0;

    while (proc && n < cap && (entry = readdir(proc)) != NULL) {
        pid_t pid = (pid_t)atoi(entry->d_name);

        if (pid > 0 && proc_number(pid, "PPid", 0) == parent &&
            strchr("ZX", process_state(pid)) == NULL)
            pids[n++] = pid;
    }
    if (proc)
        closedir(proc);
    qsort(pids, (size_t)n, sizeof pids[0], compare_pids);
    return n;
}

static bool has_new_workers(pid_t master, int n, const pid_t old[], int n_old,
                            pid_t new[])
{
    pid_t found[PIDS];

    if (children_of(master, found, PIDS) != n)
        return false;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n_old; k++)
            if (found[i] == old[k])
                return false;
    if (new)
        memcpy(new, found, sizeof found[0] * (size_t)n);
    return true;
}

void expect_workers(pid_t master, int n, const pid_t old[], int n_old, pid_t new[])
{
    int64_t end = clock_ms() + scaled_ms(PATIENCE_MS);
    pid_t found[PIDS];

    while (!has_new_workers(master, n, old, n_old, new)) {
        ck_assert_msg(clock_ms() < end,
                      "%d children of pid %d, first %d; expected %d, all of them new",
                      children_of(master, found, PIDS), master, found[0], n);
        pause_ms(5);
    }
}

void expect_gone(pid_t pid)
{
    eventually(strchr("ZX", process_state(pid)) != NULL, PATIENCE_MS);
}

int fds_of(pid_t pid)
{
    char path[64];
    DIR *dir;
    int n = 0;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    dir = opendir(path);
    ck_assert_msg(dir != NULL, "%s: %s", path, strerror(errno));
    while (readdir(dir))
        n++;
    closedir(dir);
    return n - 2; /* "." and ".." */
}

long proc_number(pid_t pid, const char *field, int nth)
{
    char path[64], line[512];
    size_t len = strlen(field);
    long number = -1;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        char *c = line + len + 1;

        if (strncmp(line, field, len) != 0 || line[len] != ':')
            continue;
        for (int i = 0; i <= nth; i++) {
            char *end;

            number = strtol(c, &end, 10);
            if (end == c)
                number = -1;
            c = end;
        }
    }
    if (file)
        fclose(file);
    return number;
}

/* ---- ports ---- */

static int bound_socket(int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;

    ck_assert_int_ge(fd, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    ck_assert_int_eq(errno, EADDRINUSE);
    close(fd);
    return -1;
}

int free_port(void)
{
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    int fd = bound_socket(0);

    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

bool port_taken(int port)
{
    int fd = bound_socket(port);

    if (fd != -1)
        close(fd);
    return fd == -1;
}

/* ---- load ---- */

static _Noreturn void become_crowd(const char *const argv[], int in, int out,
                                   pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    if (getppid() == parent)
        execv(argv[0], (char *const *)argv);
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

/* A line of the account, without its end. Static memory. */
static const char *read_line(struct load *l)
{
    static char line[8192];
    int64_t end = clock_ms() + scaled_ms(3 * PATIENCE_MS);
    size_t n = 0;

    for (;;) {
        struct pollfd p = { l->out, POLLIN, 0 };
        int64_t left = end - clock_ms();

        ck_assert_msg(left > 0 && poll(&p, 1, (int)left) == 1 && n < sizeof line - 1,
                      "the load client (%s) says nothing", l->behaviour);
        ck_assert_msg(read(l->out, line + n, 1) == 1,
                      "the load client (%s) has ended; is %s/bench/crowd there?",
                      l->behaviour, built);
        if (line[n] == '\n')
            break;
        n++;
    }
    line[n] = '\0';
    return line;
}

void load_begin(struct load *l, const struct server *s, const char *behaviour,
                int clients, const char *const *words)
{
    char program[PATH_MAX + 64], port[16], number[16];
    const char *argv[32] = { program, "--until-eof", "--seconds", "120", "--port",
                             port,    "-n",          number,      "-b",  behaviour };
    int in[2], out[2], argc = 10;
    pid_t parent = getpid();

    snprintf(program, sizeof program, "%s/bench/crowd", built);
    snprintf(port, sizeof port, "%d", s->port);
    snprintf(number, sizeof number, "%d", clients);
    while (words && *words)
        argv[argc++] = *words++;
    ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    l->behaviour = behaviour;
    l->pid = fork();
    ck_assert_int_ge(l->pid, 0);
    if (l->pid == 0)
        become_crowd(argv, in[0], out[1], parent);
    close(in[0]);
    close(out[1]);
    l->in = in[1];
    l->out = out[0];
    ck_assert_ptr_nonnull(strstr(read_line(l), "ready"));
}

const char *load_end(struct load *l)
{
    const char *account;

    close(l->in);
    account = read_line(l);
    close(l->out);
    ck_assert_int_eq(waitpid(l->pid, NULL, 0), l->pid);
    return account;
}

long long load_end_clean(struct load *l)
{
    static const char *const bad[] = { "failed",  "refused",      "connect_failed",
                                       "surplus", "answered_503", "answered_408" };
    const char *account = load_end(l);

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(json_number(account, bad[i]) == 0, "%s: %s: %.900s", l->behaviour,
                      bad[i], account);
    ck_assert_msg(json_number(account, "served") > 0, "nothing served: %.900s", account);
    return json_number(account, "served");
}
