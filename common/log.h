/* log.h - one line to stderr per event, and the two ways to die at start-up.
 * Does not: write files, rotate, know who calls. */
#ifndef LOG_H
#define LOG_H

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* exit(3) statuses: the command line was wrong; the system said no. */
enum { EXIT_SYSTEM = 1, EXIT_USAGE = 2 };

/* Lines above this level are dropped. -q: LOG_ERROR, default: LOG_INFO, -v: LOG_DEBUG. */
extern enum log_level log_level;

/* Write "PROGRAM[PID]: message\n" to stderr in one write(2), so that lines of several
 * workers do not mix. Cut after 500 bytes. Keeps errno. */
void log_line(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Start-up failed: say "PROGRAM: message" on one line and exit(status). The message names
 * the cause and what to do about it. */
void die(int status, const char *format, ...)
    __attribute__((noreturn, format(printf, 2, 3)));

#endif
