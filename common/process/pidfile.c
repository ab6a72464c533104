/* pidfile.c - see pidfile.h.
 * Does not: signal anybody. */
#include "process/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

enum { LOCK_TRIES = 20, LOCK_PAUSE_MS = 5 };

static int locked = -1;
static char locked_path[PIDFILE_PATH_MAX];

static const char *runtime_dir(void)
{
    const char *dir = getenv("XDG_RUNTIME_DIR");

    if (dir && *dir == '/')
        return dir;
    return access("/run", W_OK) == 0 ? "/run" : "/tmp";
}

void pidfile_path(const struct options *opt, char *path)
{
    int len;

    if (opt->pid_file)
        len = snprintf(path, PIDFILE_PATH_MAX, "%s", opt->pid_file);
    else if (strcmp(opt->address, OPTIONS_ADDRESS) == 0)
        len = snprintf(path, PIDFILE_PATH_MAX, "%s/%s-%d.pid", runtime_dir(), opt->name,
                       opt->port);
    else
        len = snprintf(path, PIDFILE_PATH_MAX, "%s/%s-%s-%d.pid", runtime_dir(),
                       opt->name, opt->address, opt->port);
    if (len >= PIDFILE_PATH_MAX)
        die(EXIT_USAGE, "the name of the pid file is longer than %d bytes",
            PIDFILE_PATH_MAX - 1);
}

/* When did the process start? Field 22 of /proc/PID/stat, in ticks since boot: a later
 * process with the same pid has another one. 0: there is no such process. */
static unsigned long long start_ticks(pid_t pid)
{
    unsigned long long ticks = 0;
    char name[64], line[1024] = "";
    FILE *file;
    char *c;

    snprintf(name, sizeof(name), "/proc/%d/stat", (int)pid);
    file = fopen(name, "re");
    if (file == NULL)
        return 0;
    c = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
    fclose(file);
    for (int field = 2; c && field < 22; field++)
        c = strchr(c + 1, ' ');
    if (c)
        ticks = strtoull(c, NULL, 10);
    return ticks;
}

static bool held(int fd)
{
    if (flock(fd, LOCK_SH | LOCK_NB) == 0) {
        flock(fd, LOCK_UN);
        return false;
    }
    return errno == EWOULDBLOCK;
}

/* The pid in the file if it is the process that wrote it; 0 otherwise. */
static pid_t read_pid(int fd)
{
    char line[64] = "";
    unsigned long long ticks;
    char *end;
    long pid;

    if (pread(fd, line, sizeof(line) - 1, 0) <= 0)
        return 0;
    pid = strtol(line, &end, 10);
    ticks = strtoull(end, NULL, 10);
    if (pid <= 0 || pid > INT_MAX || ticks == 0)
        return 0;
    return start_ticks((pid_t)pid) == ticks ? (pid_t)pid : 0;
}

static void write_pid(const char *path)
{
    char line[64];
    int len =
        snprintf(line, sizeof(line), "%d\n%llu\n", (int)getpid(), start_ticks(getpid()));

    if (ftruncate(locked, 0) == -1 || pwrite(locked, line, (size_t)len, 0) != len)
        die(EXIT_SYSTEM, "cannot write the pid file %s: %s; choose another --pid-file",
            path, strerror(errno));
}

/* Is the file behind fd still the one of that name? Its last owner may have removed it
 * between our open(2) and our flock(2). */
static bool still_named(int fd, const char *path)
{
    struct stat open_file, named;

    return fstat(fd, &open_file) == 0 && stat(path, &named) == 0 &&
           open_file.st_ino == named.st_ino && open_file.st_dev == named.st_dev;
}

/* Another server may have made a file of the same name meanwhile. */
static void unlink_ours(void)
{
    if (still_named(locked, locked_path))
        unlink(locked_path);
}

/* -1: it is no regular file, or open(2) failed. A fifo would hang open(2), without
 * O_NONBLOCK. */
static int open_regular(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
    struct stat st;

    if (fd != -1 && (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode))) {
        close(fd);
        errno = EINVAL;
        fd = -1;
    }
    return fd;
}

_Noreturn static void refuse(const struct options *opt, pid_t holder, const char *path)
{
    if (holder)
        die(EXIT_SYSTEM,
            "%s is running already, as pid %d (%s); stop it first, or choose another "
            "--port or --pid-file",
            opt->name, (int)holder, path);
    die(EXIT_SYSTEM,
        "%s is running already, or another program holds the lock of %s; end that one, "
        "or "
        "choose another --pid-file",
        opt->name, path);
}

/* flock(2) has failed. Return if it is worth another try; die() if a server has the
 * lock. */
static void look_who_holds(const struct options *opt, const char *path, int tries)
{
    pid_t holder = read_pid(locked);

    if (flock(locked, LOCK_SH | LOCK_NB) == 0) {
        /* A server's lock is exclusive, so this one is an onlooker's, and the file is
         * stale. Anybody who may read it can hold such a lock, for as long as he likes:
         * we do without that file. */
        unlink_ours();
        return;
    }
    if (holder || tries >= LOCK_TRIES) /* no pid: a start is about to write it */
        refuse(opt, holder, path);
    poll(NULL, 0, LOCK_PAUSE_MS);
}

void pidfile_lock(const struct options *opt)
{
    char *path = locked_path;

    pidfile_path(opt, path);
    for (int tries = 0;; tries++) {
        locked = open_regular(path, O_RDWR | O_CREAT);
        if (locked == -1)
            die(EXIT_SYSTEM, "cannot make the pid file %s: %s; choose another --pid-file",
                path, errno == EINVAL ? "it is no regular file" : strerror(errno));
        if (flock(locked, LOCK_EX | LOCK_NB) == -1)
            look_who_holds(opt, path, tries);
        else if (still_named(locked, path))
            break;
        close(locked);
    }
    atexit(pidfile_remove); /* a start that fails later leaves no file behind */
    write_pid(path);
}

void pidfile_check(const struct options *opt)
{
    char path[PIDFILE_PATH_MAX];

    pidfile_path(opt, path);
    path[strrchr(path, '/') - path + 1] = '\0';
    if (access(path, W_OK | X_OK) == -1)
        die(EXIT_SYSTEM, "cannot make a pid file in %s: %s; choose another --pid-file",
            path, strerror(errno));
}

void pidfile_forget(void)
{
    if (locked != -1)
        close(locked);
    locked = -1;
}

void pidfile_remove(void)
{
    if (locked == -1)
        return;
    unlink_ours();
    pidfile_forget();
}

int pidfile_fd(void)
{
    return locked;
}

void pidfile_inherit(const struct options *opt, int fd)
{
    pidfile_path(opt, locked_path);
    locked = fd;
}

int pidfile_holder(const struct options *opt, pid_t *pid)
{
    char path[PIDFILE_PATH_MAX];
    struct stat st;
    int pidfd = -1;
    int fd;

    pidfile_path(opt, path);
    fd = open_regular(path, O_RDONLY);
    if (fd == -1)
        return -1;
    /* In a directory that all may write to, anybody could have put a pid there. */
    if (fstat(fd, &st) == 0 && (st.st_uid == geteuid() || st.st_uid == 0) && held(fd)) {
        *pid = read_pid(fd);
        if (*pid > 0)
            pidfd = pidfd_open(*pid, 0);
        if (pidfd != -1 && (!held(fd) || read_pid(fd) != *pid)) {
            close(pidfd);
            pidfd = -1;
        }
    }
    close(fd);
    return pidfd;
}
