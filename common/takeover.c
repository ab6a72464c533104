/* takeover.c - see takeover.h.
 * Does not: keep anything in files; an environment variable names the descriptors. */
#include "takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "net.h"
#include "pidfile.h"
#include "stats.h"

/* "PID LAYOUT PIDFILE BOARD LISTENER ...": the pid keeps it from being taken for a
 * child's. */
#define VARIABLE "SERVER_TAKEOVER"

enum { WORDS_MAX = 4 + MAX_WORKERS, TEXT_MAX = 16 * WORDS_MAX };

static char program[PATH_MAX];

/* Before main(): later the link would read "... (deleted)" once the file is replaced. */
__attribute__((constructor)) static void remember_program(void)
{
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);

    program[n > 0 ? n : 0] = '\0';
}

const char *takeover_program(void)
{
    return program;
}

static void say_complaint(int from, int to)
{
    dup2(to, STDOUT_FILENO);
    dup2(to, STDERR_FILENO);
    close(from);
    close(to);
}

pid_t takeover_check(const struct options *opt, int *complaint)
{
    int ends[2], argc = 0;
    char **argv, layout[32];
    pid_t pid;

    while (opt->argv[argc])
        argc++;
    argv = calloc((size_t)argc + 2, sizeof(*argv));
    if (argv == NULL || pipe2(ends, O_CLOEXEC | O_NONBLOCK) == -1) {
        free(argv);
        return -1;
    }
    memcpy(argv, opt->argv, sizeof(*argv) * (size_t)argc);
    argv[argc] = "--check";
    snprintf(layout, sizeof(layout), "0 %d", BOARD_LAYOUT);
    pid = fork();
    if (pid == 0) {
        sigset_t none;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        say_complaint(ends[0], ends[1]);
        setenv(VARIABLE, layout, 1);
        execv(program, argv);
        dprintf(STDERR_FILENO, "%s: %s\n", program, strerror(errno));
        free(argv); /* or valgrind complains */
        _exit(EXIT_SYSTEM);
    }
    free(argv);
    close(ends[1]);
    *complaint = ends[0];
    if (pid == -1)
        close(ends[0]);
    return pid;
}

static void keep_over_exec(const int fds[], int n, bool keep)
{
    for (int i = 0; i < n; i++)
        if (fds[i] != -1)
            fcntl(fds[i], F_SETFD, keep ? 0 : FD_CLOEXEC);
}

void takeover_exec(const struct options *opt)
{
    int fds[2 + MAX_WORKERS];
    const int *listeners;
    int n = net_listeners(&listeners);
    char text[TEXT_MAX];
    int len;

    fds[0] = pidfile_fd();
    fds[1] = stats_fd();
    memcpy(fds + 2, listeners, sizeof(*listeners) * (size_t)n);
    n += 2;
    len = snprintf(text, sizeof(text), "%d %d", (int)getpid(), BOARD_LAYOUT);
    for (int i = 0; i < n; i++)
        len += snprintf(text + len, sizeof(text) - (size_t)len, " %d", fds[i]);
    keep_over_exec(fds, n, true);
    setenv(VARIABLE, text, 1);
    execv(program, opt->argv);
    unsetenv(VARIABLE);
    keep_over_exec(fds, n, false);
}

/* Read the variable into words. Returns how many. */
static int read_words(int words[])
{
    const char *c = getenv(VARIABLE);
    int n = 0;

    while (c && *c && n < WORDS_MAX) {
        char *end;

        words[n++] = (int)strtol(c, &end, 10);
        if (end == c)
            return 0;
        c = end;
    }
    return n;
}

bool takeover_begun(const struct options *opt)
{
    int words[WORDS_MAX];
    int n = read_words(words);

    if (n < 4 || words[0] != (int)getpid())
        return false;
    unsetenv(VARIABLE);
    keep_over_exec(words + 2, n - 2, false);
    pidfile_inherit(opt, words[2]);
    stats_inherit(words[3]);
    net_inherit(words + 4, n - 4);
    return true;
}

void takeover_check_layout(void)
{
    int words[WORDS_MAX];

    if (read_words(words) >= 2 && words[1] != BOARD_LAYOUT)
        die(EXIT_SYSTEM,
            "the scoreboard has another layout now; use restart, not reload");
}
