/* takeover.c - see takeover.h.
 * Does not: keep anything in files; an environment variable names the descriptors. */
#include "process/takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"
#include "board/stats.h"
#include "net/net.h"
#include "process/pidfile.h"

/* "PID LAYOUT FEATURES ACCEPT PIDFILE BOARD LISTENER ...": the pid keeps it from being
 * taken for a child's; for --check it is negative. */
#define VARIABLE "SERVER_TAKEOVER"

enum { PID, LAYOUT, FEATURES, ACCEPT, PIDFILE, BOARD, LISTENERS };
enum { WORDS_MAX = LISTENERS + MAX_WORKERS, TEXT_MAX = 16 * WORDS_MAX };

static char program[PATH_MAX];
static struct stat checked; /* the file that was given to --check */

/* AT_EXECFN is the name that execve(2) was called with, getauxval(3): the search in PATH
 * is done, and symbolic links are not resolved. A deploy that flips a link means that.
 * Before main(), which may change the directory. */
__attribute__((constructor)) static void remember_program(void)
{
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): getauxval(3) has one type for all */
    const char *name = (const char *)getauxval(AT_EXECFN);
    char *dir = get_current_dir_name(); /* $PWD if that is right: with its links, too */
    ssize_t n;

    if (name && *name == '/')
        snprintf(program, sizeof(program), "%s", name);
    else if (name && dir)
        snprintf(program, sizeof(program), "%s/%s", dir, name);
    free(dir);
    if (strncmp(program, "/dev/fd/", 8) != 0 && access(program, X_OK) == 0)
        return;
    n = readlink("/proc/self/exe", program, sizeof(program) - 1); /* by fexecve(3), say */
    program[n > 0 ? n : 0] = '\0';
}

const char *takeover_program(void)
{
    return program;
}

bool takeover_program_changed(struct stat *seen)
{
    struct stat now;
    bool changed;

    if (stat(program, &now) == -1)
        return false;
    changed = now.st_dev != seen->st_dev || now.st_ino != seen->st_ino ||
              now.st_size != seen->st_size ||
              now.st_ctim.tv_sec != seen->st_ctim.tv_sec ||
              now.st_ctim.tv_nsec != seen->st_ctim.tv_nsec;
    *seen = now;
    return changed;
}

bool takeover_unchecked(void)
{
    return takeover_program_changed(&checked);
}

static void keep_over_exec(const int fds[], int n, bool keep)
{
    for (int i = 0; i < n; i++)
        if (fds[i] != -1)
            fcntl(fds[i], F_SETFD, keep ? 0 : FD_CLOEXEC);
}

/* Set the variable. Returns how many words it has; -1: no memory. */
static int describe(int words[], const struct options *opt, pid_t pid)
{
    const int *listeners;
    int n = net_listeners(&listeners);
    char text[TEXT_MAX];
    int len = 0;

    words[PID] = (int)pid;
    words[LAYOUT] = BOARD_LAYOUT;
    words[FEATURES] = (int)opt->features;
    words[ACCEPT] = (int)opt->accept;
    words[PIDFILE] = pidfile_fd();
    words[BOARD] = stats_fd();
    memcpy(words + LISTENERS, listeners, sizeof(*listeners) * (size_t)n);
    n += LISTENERS;
    for (int i = 0; i < n; i++)
        len += snprintf(text + len, sizeof(text) - (size_t)len, " %d", words[i]);
    return setenv(VARIABLE, text, 1) == 0 ? n : -1;
}

/* In the child. It leads a group of its own, so that it can be killed with its children,
 * and it dies with the master. */
_Noreturn static void become_checker(const struct options *opt, char **argv, int to,
                                     pid_t master)
{
    int words[WORDS_MAX];
    sigset_t none;

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != master) /* it died before prctl(2) */
        _exit(EXIT_SYSTEM);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(to, STDOUT_FILENO);
    dup2(to, STDERR_FILENO);
    if (describe(words, opt, -getpid()) != -1) {
        keep_over_exec(&words[BOARD], 1, true);
        execv(program, argv);
    }
    dprintf(STDERR_FILENO, "%s: %s\n", program, strerror(errno));
    free(argv); /* or valgrind complains */
    _exit(EXIT_SYSTEM);
}

pid_t takeover_check(const struct options *opt, int *complaint)
{
    pid_t pid, master = getpid();
    int ends[2], argc = 0;
    char **argv;

    while (opt->argv[argc])
        argc++;
    argv = calloc((size_t)argc + 2, sizeof(*argv));
    if (argv == NULL || pipe2(ends, O_CLOEXEC | O_NONBLOCK) == -1) {
        free(argv);
        return -1;
    }
    memcpy(argv, opt->argv, sizeof(*argv) * (size_t)argc);
    argv[argc] = "--check";
    takeover_program_changed(&checked);
    pid = fork();
    if (pid == 0)
        become_checker(opt, argv, ends[1], master);
    if (pid > 0)
        setpgid(pid, pid); /* whoever is first; EACCES: it was */
    free(argv);
    close(ends[1]);
    *complaint = ends[0];
    if (pid == -1)
        close(ends[0]);
    return pid;
}

void takeover_exec(const struct options *opt)
{
    int words[WORDS_MAX];
    int n = describe(words, opt, getpid());

    if (n == -1)
        return;
    keep_over_exec(words + PIDFILE, n - PIDFILE, true);
    execv(program, opt->argv);
    unsetenv(VARIABLE);
    keep_over_exec(words + PIDFILE, n - PIDFILE, false);
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

bool takeover_begun(struct options *opt)
{
    int words[WORDS_MAX];
    int n = read_words(words);

    if (n <= LISTENERS || words[PID] != (int)getpid())
        return false;
    unsetenv(VARIABLE);
    keep_over_exec(words + PIDFILE, n - PIDFILE, false);
    pidfile_inherit(opt, words[PIDFILE]);
    stats_inherit(words[BOARD]);
    net_inherit(words + LISTENERS, n - LISTENERS);
    opt->workers = (int)board->slots; /* the default may have changed with the cpus */
    return true;
}

bool takeover_fits(const struct options *opt)
{
    int words[WORDS_MAX];
    int n = read_words(words);

    if (n < 2 || words[PID] > 0)
        return false;
    if (words[LAYOUT] != BOARD_LAYOUT || n <= LISTENERS)
        die(EXIT_SYSTEM,
            "the scoreboard has another layout now; use restart, not reload");
    if (words[FEATURES] != (int)opt->features || words[ACCEPT] != (int)opt->accept)
        die(EXIT_SYSTEM,
            "this is another stage's program, or it shares its listeners out otherwise; "
            "stop the server and start this one, or put the right program back");
    if (words[PID] != -(int)getpid())
        die(EXIT_SYSTEM, "the program must keep the pid; a script must end with 'exec'");
    if (!stats_fits(words[BOARD]))
        die(EXIT_SYSTEM, "the scoreboard does not fit; use restart, not reload");
    return true;
}
