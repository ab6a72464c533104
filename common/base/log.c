/* log.c - see log.h.
 * Does not: allocate, so that it works when memory is short. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_LEN = 500 };

enum log_level log_level = LOG_INFO;
/* Threads share them; at worst one counts a line of the moment in which another owns up. */
static _Atomic unsigned long dropped; /* lines, since the last that was written */
static _Atomic pid_t dropped_by;      /* a forked child does not count its parent's */

static void fill_standard_fds(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", O_RDWR) != fd)
            die(EXIT_SYSTEM,
                "cannot open /dev/null: %s; leave stdin, stdout and stderr "
                "open",
                strerror(errno));
}

void log_setup(void)
{
    struct stat st;
    int fd;

    fill_standard_fds();
    if (fstat(STDERR_FILENO, &st) == -1 ||
        !(S_ISFIFO(st.st_mode) || isatty(STDERR_FILENO)))
        return;
    fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd == -1)
        return; /* another user's: the look before each write(2) must do */
    dup2(fd, STDERR_FILENO);
    close(fd);
}

/* The look is for sockets, and for pipes that could not be opened anew. */
static bool put(const char *line, size_t len)
{
    struct pollfd room = { .fd = STDERR_FILENO, .events = POLLOUT };

    return poll(&room, 1, 0) == 1 && write(STDERR_FILENO, line, len) != -1;
}

/* True: there is nothing (more) to say about lines that were dropped. */
static bool own_up(void)
{
    unsigned long lines = dropped;
    char line[128];
    int len;

    if (lines == 0 || dropped_by != getpid())
        return true;
    len = snprintf(line, sizeof(line), "%s[%d]: %lu lines could not be written here\n",
                   program_invocation_short_name, (int)getpid(), lines);
    if (!put(line, (size_t)len < sizeof(line) ? (size_t)len : sizeof(line) - 1))
        return false;
    dropped -= lines;
    return true;
}

static void note_drop(void)
{
    if (dropped_by != getpid())
        dropped = 0;
    dropped_by = getpid();
    dropped++;
}

void log_line(enum log_level level, const char *format, ...)
{
    char line[LINE_MAX_LEN];
    int saved = errno;
    va_list args;
    int len;

    if (level > log_level)
        return;
    len = snprintf(line, sizeof(line), "%s[%d]: ", program_invocation_short_name,
                   (int)getpid());
    va_start(args, format);
    len += vsnprintf(line + len, sizeof(line) - (size_t)len, format, args);
    va_end(args);
    if (len > LINE_MAX_LEN - 1)
        len = LINE_MAX_LEN - 1;
    line[len] = '\n';
    if (!own_up() || !put(line, (size_t)len + 1))
        note_drop(); /* nobody reads the log: serving goes on */
    errno = saved;
}

void die(int status, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "%s: ", program_invocation_short_name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(status);
}
