/* daemon.c - see daemon.h.
 * Does not: link libsystemd; the two protocols are a variable and a datagram. */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
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

#include "log.h"

enum { FIRST_LISTEN_FD = 3, MAX_PASSED = 1024 };

static int caller = -1; /* pipe to the process that waits for the daemon to be ready */
static pid_t daemon_pid;
static char log_path[PATH_MAX];
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

static struct passwd *find_user(const char *user, gid_t *gid)
{
    const char *colon = strchr(user, ':');
    char name[64];
    struct passwd *pw;
    struct group *gr;

    snprintf(name, sizeof(name), "%.*s", colon ? (int)(colon - user) : (int)strlen(user),
             user);
    pw = getpwnam(name);
    if (pw == NULL)
        die(EXIT_USAGE, "--user: there is no user '%s'", name);
    *gid = pw->pw_gid;
    if (colon) {
        gr = getgrnam(colon + 1);
        if (gr == NULL)
            die(EXIT_USAGE, "--user: there is no group '%s'", colon + 1);
        *gid = gr->gr_gid;
    }
    return pw;
}

static void redirect(const char *path, int flags, int fd)
{
    int file = open(path, flags | O_CLOEXEC, 0640);

    if (file == -1)
        die(EXIT_SYSTEM, "cannot open %s: %s", path, strerror(errno));
    dup2(file, fd);
    close(file);
}

void daemon_ready(const char *log, const char *user)
{
    if (log) {
        log_uid = user ? find_user(user, &log_gid)->pw_uid : (uid_t)-1;
        snprintf(log_path, sizeof(log_path), "%s", log);
        redirect(log, O_WRONLY | O_CREAT | O_APPEND, STDERR_FILENO);
        redirect(log, O_WRONLY | O_CREAT | O_APPEND, STDOUT_FILENO);
        if (fchown(STDERR_FILENO, log_uid, log_gid) == -1)
            log_line(LOG_WARNING, "%s: %s; it cannot be opened anew", log,
                     strerror(errno));
    }
    if (caller == -1)
        return;
    redirect("/dev/null", O_RDONLY, STDIN_FILENO);
    if (log == NULL) {
        redirect("/dev/null", O_WRONLY, STDOUT_FILENO);
        redirect("/dev/null", O_WRONLY, STDERR_FILENO);
    }
    tell_status(EXIT_SUCCESS, NULL);
    close(caller);
    caller = -1;
}

void daemon_reopen_log(void)
{
    int saved = errno;
    int file;

    if (*log_path == '\0')
        return;
    file = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (file != -1) {
        if (fchown(file, log_uid, log_gid) == -1)
            errno = 0; /* only the master can; it makes the file for the workers */
        dup2(file, STDERR_FILENO);
        dup2(file, STDOUT_FILENO);
        close(file);
    }
    errno = saved;
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
    uid_t real, effective, saved;
    gid_t gid, rgid, egid, sgid;
    struct passwd *pw;

    if (user == NULL)
        return;
    pw = find_user(user, &gid);
    if (geteuid() != 0 && pw->pw_uid != geteuid())
        die(EXIT_SYSTEM, "--user: cannot become %s; only root may", user);
    if (check_only)
        return;
    if (setgroups(1, &gid) == -1 || setresgid(gid, gid, gid) == -1 ||
        setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) == -1)
        die(EXIT_SYSTEM, "--user: cannot become %s: %s; only root may", user,
            strerror(errno));
    if (getresuid(&real, &effective, &saved) == -1 ||
        getresgid(&rgid, &egid, &sgid) == -1 || real != pw->pw_uid ||
        effective != pw->pw_uid || saved != pw->pw_uid || rgid != gid || egid != gid ||
        sgid != gid || (pw->pw_uid != 0 && setuid(0) == 0))
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
