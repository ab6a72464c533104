/* log.c - see log.h.
 * Does not: allocate, so that it works when memory is short. */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LINE_MAX_LEN = 500 };

enum log_level log_level = LOG_INFO;

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
    if (write(STDERR_FILENO, line, (size_t)len + 1) == -1) {
        /* Nobody reads the log: serving goes on. */
    }
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
