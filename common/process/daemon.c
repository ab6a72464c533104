/* daemon.c - see daemon.h.
 * Does not: link libsystemd; the two protocols are a variable and a datagram. */
#include "process/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

enum { FIRST_LISTEN_FD = 3, MAX_PASSED = 1024 };

static int caller = -1; /* pipe to the process that waits for the daemon to be ready */
static pid_t daemon_pid;
static char log_path[PATH_MAX];
static int log_fd = -1; /* open, but not yet in place of stdout and stderr */
static uid_t log_uid = (uid_t)-1;
static gid_t log_gid = (gid_t)-1;

/* The caller learns how it ended if it ends before it is ready. */
static void tell_status(int status, void *unused)
{
    char byte = (char)status;

    (void)unused;
    if (caller != -1 && getpid() == daemon_pid && write(caller, &byte, 1) == -1)
        return; /* the caller is gone: nobody to tell */
}

_Noreturn static void wait_for_daemon(int from)
{
    unsigned char status;
    ssize_t n;

    do
        n = read(from, &status, 1);
    while (n == -1 && errno == EINTR);
    _exit(n == 1 ? status : EXIT_SYSTEM); /* nothing: it was killed */
}

static void fork_away(void)
{
    pid_t pid = fork();

    if (pid == -1)
        die(EXIT_SYSTEM, "fork: %s", strerror(errno));
    if (pid > 0)
        _exit(EXIT_SUCCESS);
}

void daemon_start(void)
{
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) == -1 || (pid = fork()) == -1)
        die(EXIT_SYSTEM, "cannot go to the background: %s", strerror(errno));
    if (pid > 0) {
        close(ends[1]);
        waitpid(pid, NULL, 0); /* the one between; it ends at once */
        wait_for_daemon(ends[0]);
    }
    close(ends[0]);
    if (setsid() == -1)
        die(EXIT_SYSTEM, "setsid: %s", strerror(errno));
    fork_away(); /* not a session leader: it can never get a terminal */
    caller = ends[1];
    daemon_pid = getpid();
    on_exit(tell_status, NULL);
    umask(027);
    if (chdir("/") == -1)
        die(EXIT_SYSTEM, "chdir: %s", strerror(errno));
}

/* NULL, or what is wrong; static memory. */
static const char *find_user(const char *user, uid_t *uid, gid_t *gid)
{
    static char complaint[128];
    const char *colon = strchr(user, ':');
    const struct passwd *pw;
    const struct group *gr;
    char name[64];

    snprintf(name, sizeof(name), "%.*s", colon ? (int)(colon - user) : (int)strlen(user),
             user);
    pw = getpwnam(name);
    gr = colon ? getgrnam(colon + 1) : NULL;
    if (pw == NULL) {
        snprintf(complaint, sizeof(complaint), "there is no user '%s'", name);
        return complaint;
    }
    if (colon && gr == NULL) {
        snprintf(complaint, sizeof(complaint), "there is no group '%s'", colon + 1);
        return complaint;
    }
    *uid = pw->pw_uid;
    *gid = gr ? gr->gr_gid : pw->pw_gid;
    return NULL;
}

/* --- the log file ------------------------------------------------------------------- */

/* Never waits: a log may be a fifo. */
enum { LOG_FLAGS = O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC };

bool daemon_log_usable(const char *log)
{
    char dir[PATH_MAX];
    int fd = open(log, LOG_FLAGS);

    if (fd != -1) {
        close(fd);
        return true;
    }
    snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(log, '/') - log) + 1, log);
    return errno == ENOENT && access(dir, W_OK | X_OK) == 0;
}

bool daemon_open_log(const char *log, const char *user)
{
    snprintf(log_path, sizeof(log_path), "%s", log);
    if (user)
        find_user(user, &log_uid, &log_gid); /* it exists: daemon_become() has looked */
    log_fd = open(log, LOG_FLAGS | O_CREAT, 0640);
    if (log_fd == -1)
        return false;
    if (fchown(log_fd, log_uid, log_gid) == -1)
        log_line(LOG_WARNING, "%s: %s; it cannot be opened anew", log, strerror(errno));
    return true;
}

static void use_log(int fd)
{
    dup2(fd, STDERR_FILENO);
    dup2(fd, STDOUT_FILENO);
    close(fd);
}

void daemon_reopen_log(void)
{
    int saved = errno;
    int fd;

    if (*log_path == '\0')
        return;
    fd = open(log_path, LOG_FLAGS | O_CREAT, 0640);
    if (fd != -1) {
        if (fchown(fd, log_uid, log_gid) == -1)
            errno = 0; /* only the master can; it makes the file for the workers */
        use_log(fd);
    }
    errno = saved;
}

/* --- ready -------------------------------------------------------------------------- */

static void detach(int fd)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null == -1)
        die(EXIT_SYSTEM, "cannot open /dev/null: %s", strerror(errno));
    dup2(null, fd);
    close(null);
}

void daemon_ready(void)
{
    bool logs = log_fd != -1;

    if (logs)
        use_log(log_fd);
    log_fd = -1;
    if (caller == -1)
        return;
    detach(STDIN_FILENO);
    if (!logs) {
        detach(STDOUT_FILENO);
        detach(STDERR_FILENO);
    }
    tell_status(EXIT_SUCCESS, NULL);
    close(caller);
    caller = -1;
}

static void reopen_log(int sig)
{
    (void)sig;
    daemon_reopen_log();
}

void daemon_reopen_on_signal(void)
{
    struct sigaction action = { .sa_handler = reopen_log, .sa_flags = SA_RESTART };

    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR2, &action, NULL);
}

void daemon_become(const char *user, int check_only)
{
    uid_t uid, real, effective, saved;
    gid_t gid, rgid, egid, sgid;
    const char *complaint;

    if (user == NULL)
        return;
    complaint = find_user(user, &uid, &gid);
    if (complaint)
        die(EXIT_USAGE, "--user: %s", complaint);
    if (geteuid() != 0 && uid != geteuid())
        die(EXIT_SYSTEM, "--user: cannot become %s; only root may", user);
    if (check_only)
        return;
    if (setgroups(1, &gid) == -1 || setresgid(gid, gid, gid) == -1 ||
        setresuid(uid, uid, uid) == -1)
        die(EXIT_SYSTEM, "--user: cannot become %s: %s; only root may", user,
            strerror(errno));
    if (getresuid(&real, &effective, &saved) == -1 ||
        getresgid(&rgid, &egid, &sgid) == -1 || real != uid || effective != uid ||
        saved != uid || rgid != gid || egid != gid || sgid != gid ||
        (uid != 0 && setuid(0) == 0))
        die(EXIT_SYSTEM, "--user: still not %s after setresuid(2)", user);
}

void daemon_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timespec now;
    char message[160];
    socklen_t len;
    int fd;

    if (path == NULL || strlen(path) >= sizeof(address.sun_path))
        return;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd == -1)
        return;
    memcpy(address.sun_path, path, strlen(path));
    len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    if (*path == '@') /* the abstract namespace, unix(7) */
        address.sun_path[0] = '\0';
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(message, sizeof(message), "%s\nMAINPID=%d\nMONOTONIC_USEC=%lld", state,
             (int)getpid(), now.tv_sec * 1000000LL + now.tv_nsec / 1000);
    if (sendto(fd, message, strlen(message), MSG_NOSIGNAL, (struct sockaddr *)&address,
               len) == -1)
        log_line(LOG_WARNING, "sd_notify: %s", strerror(errno));
    close(fd);
}

int daemon_listen_fds(void)
{
    const char *pid = getenv("LISTEN_PID");
    const char *count = getenv("LISTEN_FDS");
    long n = count ? strtol(count, NULL, 10) : 0;

    if (pid == NULL || strtol(pid, NULL, 10) != (long)getpid() || n < 1 || n > MAX_PASSED)
        return 0;
    for (int i = 0; i < n; i++)
        fcntl(FIRST_LISTEN_FD + i, F_SETFD, FD_CLOEXEC);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    return (int)n;
}
