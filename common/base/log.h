/* log.h - one line to stderr per event, and the two ways to die at start-up.
 * Does not: write files, rotate, know who calls, wait for a reader. */
#ifndef LOG_H
#define LOG_H

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* exit(3) statuses: the command line was wrong; the system said no. */
enum { EXIT_SYSTEM = 1, EXIT_USAGE = 2 };

/* Lines above this level are dropped. -q: LOG_ERROR, default: LOG_INFO, -v: LOG_DEBUG. */
extern enum log_level log_level;

/* Before anything else is opened: put /dev/null on those of stdin, stdout and stderr that
 * are closed, or the next file that is opened would be one of them. If stderr is a pipe
 * or a terminal, open it anew without blocking, for this process and its children alone:
 * O_NONBLOCK on what was given would be seen by all who share it, open(2). */
void log_setup(void);

/* Write "PROGRAM[PID]: message\n" to stderr in one write(2), so that lines of several
 * workers do not mix. Cut after 500 bytes. Keeps errno. Does not wait: a line that nobody
 * takes is dropped, and how many were is said before the next one that is written. */
void log_line(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Start-up failed: say "PROGRAM: message" on one line and exit(status). The message names
 * the cause and what to do about it. */
void die(int status, const char *format, ...)
    __attribute__((noreturn, format(printf, 2, 3)));

#endif
