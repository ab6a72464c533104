/* test_control_daemon.c - what is around a server: background, log, user, systemd.
 * Does not: need systemd to run; its protocols are two variables and a datagram. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness/harness_control.h"

static struct outcome o;
static struct response r;

/* Where a link in /proc/PID points to. Static memory. */
static const char *proc_link(pid_t pid, const char *name)
{
    static char target[PATH_MAX];
    char path[64];
    ssize_t n;

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    n = readlink(path, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    return target;
}

static void expect_no_children(void)
{
    pid_t pids[PIDS];

    eventually(children_of(getpid(), pids, PIDS) == 0, PATIENCE_MS);
}

/* ---- in the background ---- */

START_TEST(listens_when_the_command_returns)
{
    struct server s;

    for (int i = 0; i < 5; i++) {
        daemon_run(&s, "");
        fetch(&s, "GET", "/", &r, 200);
        daemon_stop(&s);
    }
}
END_TEST

static void check_surroundings(pid_t pid)
{
    ck_assert_str_eq(proc_link(pid, "cwd"), "/");
    ck_assert_int_eq(proc_number(pid, "Umask", 0), 27);
    ck_assert_str_eq(proc_link(pid, "fd/0"), "/dev/null");
    ck_assert_str_eq(proc_link(pid, "fd/1"), "/dev/null");
    ck_assert_str_eq(proc_link(pid, "fd/2"), "/dev/null");
    ck_assert_int_ne(getsid(pid), getsid(0));
    ck_assert_int_ne(getsid(pid), pid); /* who leads no session gets no terminal */
}

START_TEST(surroundings_of_a_daemon)
{
    pid_t workers[PIDS];
    struct server s;

    daemon_run(&s, "");
    check_surroundings(s.pid);
    if (mode->workers > 0) {
        expect_workers(s.pid, 2, NULL, 0, workers);
        check_surroundings(workers[0]);
        expect_reload(&s);
        check_surroundings(s.pid);
    }
    daemon_stop(&s);
}
END_TEST

/* Run by a shell, with the program's name in place of $0. */
static void run_in_shell(const char *format, ...)
{
    char words[512], program[PATH_MAX + 64];
    const char *argv[] = { "sh", "-c", words, program, NULL };
    va_list args;

    snprintf(program, sizeof program, "%s/%s", built_in(), mode->stage);
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    program_run(&o, argv);
}

/* The next file that is opened would be stdin, stdout or stderr. */
START_TEST(closed_standard_descriptors)
{
    static const char *const closed[] = { "<&-", ">&-", "2>&-", "<&- >&- 2>&-" };
    struct server s = { .port = free_port() };
    bool in_background = _i % 2;
    char how[64];

    snprintf(how, sizeof how, in_background ? "-d %s" : "</dev/null >/dev/null 2>&1 %s &",
             closed[_i / 2]);
    run_in_shell("\"$0\" %s -p %d %s", mode->args, s.port, how);
    ck_assert_msg(o.status == 0, "%s: status %d, '%s'", closed[_i / 2], o.status, o.err);
    eventually(port_taken(s.port) && pid_in(pid_path(s.port)) > 0, PATIENCE_MS);
    fetch(&s, "GET", "/", &r, 200);
    s.pid = pid_in(pid_path(s.port));
    ck_assert_int_ne(process_state(s.pid), 0);
    for (int fd = 0; fd <= 2; fd++) {
        char name[16];

        snprintf(name, sizeof name, "fd/%d", fd);
        if (in_background || _i / 2 == 3 || _i / 2 == fd)
            ck_assert_str_eq(proc_link(s.pid, name), "/dev/null");
    }
    if (mode->workers > 0)
        expect_reload(&s);
    daemon_stop(&s);
}
END_TEST

START_TEST(busy_port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port;

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    getsockname(fd, (struct sockaddr *)&address, &len);
    port = ntohs(address.sin_port);
    expect_command(1, "in use", "start -d -p %d", port);
    expect_no_children();
    ck_assert_int_eq(access(pid_path(port), F_OK), -1);
    close(fd);
}
END_TEST

START_TEST(log_that_cannot_be_opened)
{
    int port = free_port();

    for (int i = 0; i < 2; i++) {
        command(&o, "start %s -p %d --log /nowhere/x.log", i ? "-d" : "", port);
        ck_assert_msg(o.status == 1 && strstr(o.err, "/nowhere/x.log") &&
                          strstr(o.err, "No such file"),
                      "status %d, '%s'", o.status, o.err);
        ck_assert_str_eq(o.out, ""); /* it did not listen */
        ck_assert_int_eq(access(pid_path(port), F_OK), -1);
        expect_no_children();
        ck_assert(!port_taken(port));
    }
}
END_TEST

/* ---- the log file ---- */

/* Serve until this log has a line of each of these processes. */
static void expect_lines_of(const struct server *s, const char *log, const pid_t pids[],
                            int n)
{
    int64_t end = clock_ms() + scaled_ms(PATIENCE_MS);

    for (int i = 0; i < n; i++) {
        char mark[32];

        snprintf(mark, sizeof mark, "[%d]:", pids[i]);
        while (strstr(read_file(log), mark) == NULL) {
            ck_assert_msg(clock_ms() < end, "no line of pid %d in %s: '%.300s'", pids[i],
                          log, read_file(log));
            fetch(s, "GET", "/", &r, 200);
        }
    }
}

/* As logrotate does it; relative, although a daemon leaves its directory. */
static void check_log(const char *more)
{
    char words[128], log[256], old[256];
    pid_t workers[PIDS], newer[PIDS];
    struct server s;
    struct stat st;

    ck_assert_int_eq(chdir(folder), 0);
    snprintf(log, sizeof log, "%s", in_folder("a.log"));
    snprintf(old, sizeof old, "%s", in_folder("a.log.1"));
    write_file(log, "before\n");
    snprintf(words, sizeof words, "-v --log a.log %s", more);
    daemon_run(&s, words);
    expect_workers(s.pid, 2, NULL, 0, workers);
    expect_lines_of(&s, log, workers, 2);
    ck_assert_msg(strncmp(read_file(log), "before\n", 7) == 0, "the log was cut");
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(rename(log, old), 0);
        ck_assert_int_eq(kill(s.pid, SIGUSR2), 0);
        eventually(access(log, F_OK) == 0, PATIENCE_MS);
        expect_lines_of(&s, log, workers, 2);
        ck_assert_int_eq(stat(old, &st), 0);
        expect_reload(&s);
        expect_workers(s.pid, 2, workers, 2, newer);
        memcpy(workers, newer, sizeof workers);
        expect_lines_of(&s, log, workers, 2);
    }
    daemon_stop(&s);
}

START_TEST(log_appends_and_is_opened_anew)
{
    check_log("");
}
END_TEST

START_TEST(log_of_another_user)
{
    if (geteuid() != 0) {
        skip("needs root, to serve as somebody else");
        return;
    }
    check_log("--user nobody");
}
END_TEST

START_TEST(full_disk)
{
    struct server s;

    daemon_run(&s, "-v --log /dev/full");
    for (int i = 0; i < 10; i++)
        fetch(&s, "GET", "/", &r, 200);
    ck_assert_int_eq(kill(s.pid, SIGUSR2), 0);
    expect_reload(&s);
    for (int i = 0; i < 10; i++)
        fetch(&s, "GET", "/", &r, 200);
    daemon_stop(&s);
}
END_TEST

/* Nobody reads what stderr or the log leads to. The pipe is as small as can be. */
START_TEST(log_that_nobody_reads)
{
    struct server s = { .port = free_port() };
    char path[128], text[8192] = "";
    long long lost;
    ssize_t n;
    int fifo;

    snprintf(path, sizeof path, "%s", in_folder("fifo"));
    ck_assert_int_eq(mkfifo(path, 0644), 0);
    fifo = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    ck_assert_int_eq(fcntl(fifo, F_SETPIPE_SZ, 4096), 4096);
    run_in_shell(_i ? "\"$0\" -v -d -p %d --log %s" : "\"$0\" -v -p %d 2>%s >/dev/null &",
                 s.port, path);
    eventually(port_taken(s.port), PATIENCE_MS);
    for (int i = 0; i < 200; i++)
        fetch(&s, "GET", "/", &r, 200);
    while (read(fifo, text, sizeof text - 1) > 0)
        continue;
    for (int i = 0; i < 10; i++)
        fetch(&s, "GET", "/", &r, 200);
    n = read(fifo, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    ck_assert_msg(strstr(text, " lines could not be written here\n") != NULL, "%s", text);
    lost = atoll(strstr(text, "]: ") + 3);
    ck_assert_msg(lost > 100 / (mode->workers + 1), "%lld lost: %s", lost, text);
    s.pid = pid_in(pid_path(s.port));
    daemon_stop(&s);
    close(fifo);
}
END_TEST

/* ---- --user ---- */

/* A worker that was just forked is not yet who it will be; the user id is its last step. */
static void check_ids(pid_t pid, long uid, long gid)
{
    eventually(proc_number(pid, "Uid", 0) == uid, PATIENCE_MS);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(proc_number(pid, "Uid", i), uid);
        ck_assert_int_eq(proc_number(pid, "Gid", i), gid);
    }
    ck_assert_int_eq(proc_number(pid, "Groups", 0), gid);
    ck_assert_int_eq(proc_number(pid, "Groups", 1), -1);
    ck_assert_int_eq(proc_number(pid, "CapEff", 0), 0);
}

START_TEST(serves_as_another_user)
{
    const struct passwd *nobody = getpwnam("nobody");
    const struct group *daemons = getgrnam("daemon");
    pid_t workers[PIDS], old[PIDS];
    struct server s;

    if (geteuid() != 0 || nobody == NULL || daemons == NULL) {
        skip("needs root, a user 'nobody' and a group 'daemon'");
        return;
    }
    daemon_run(&s, "--user nobody:daemon");
    for (int i = 0; i < 2; i++) {
        fetch(&s, "GET", "/", &r, 200);
        if (mode->workers == 0) {
            check_ids(s.pid, nobody->pw_uid, daemons->gr_gid);
            break;
        }
        expect_workers(s.pid, 2, old, i ? 2 : 0, workers);
        check_ids(workers[0], nobody->pw_uid, daemons->gr_gid);
        check_ids(workers[1], nobody->pw_uid, daemons->gr_gid);
        memcpy(old, workers, sizeof old);
        expect_reload(&s);
    }
    daemon_stop(&s); /* its files are gone, although nobody may write there */
}
END_TEST

/* However it ends: with a client that keeps it until the time is over, or killed. */
START_TEST(files_go_with_the_server)
{
    static struct client a;
    struct server s;

    if (_i > 0 && (geteuid() != 0 || getpwnam("nobody") == NULL)) {
        skip("needs root, and a user 'nobody'");
        return;
    }
    daemon_run(&s, _i > 0 ? "--user nobody --stop-timeout 0" : "--stop-timeout 0");
    client_open(&a, &s);
    client_say(&a, "GET /sleep?ms=30000 HTTP/1.1\r\nHost: x\r\n\r\n");
    client_settle(&a);
    ck_assert_int_eq(kill(s.pid, _i == 2 ? SIGKILL : SIGTERM), 0);
    expect_gone(s.pid);
    eventually(access(pid_path(s.port), F_OK) == -1, PATIENCE_MS);
    expect_no_children();
    client_close(&a);
}
END_TEST

START_TEST(user_that_does_not_exist)
{
    int port = free_port();

    expect_command(2, "no user 'nosuchuser'", "start -d -p %d --user nosuchuser", port);
    if (getpwnam("nobody"))
        expect_command(2, "no group 'nosuchgroup'",
                       "start -p %d --user nobody:nosuchgroup", port);
    expect_no_children();
    ck_assert(!port_taken(port));
}
END_TEST

START_TEST(only_root_may_change_the_user)
{
    const char *argv[] = { "setpriv",
                           "--reuid=65534",
                           "--regid=65534",
                           "--clear-groups",
                           NULL,
                           "start",
                           "-p",
                           "0",
                           "--user",
                           "daemon",
                           "--pid-file",
                           NULL,
                           NULL };

    if (geteuid() != 0 || getpwnam("daemon") == NULL) {
        skip("needs root, to be somebody else, and a user 'daemon'");
        return;
    }
    program_copy();
    ck_assert_int_eq(chmod(folder, 0777), 0);
    argv[4] = program_path();
    argv[11] = in_folder("x.pid");
    program_run(&o, argv);
    ck_assert_msg(o.status == 1 && strstr(o.err, "only root may"),
                  "status %d, '%s', '%s'", o.status, o.out, o.err);
}
END_TEST

/* ---- systemd: sockets ---- */

/* As systemd does: a listening socket at 3, and two variables. */
static _Noreturn void become_activated(int socket_fd, int out, const char *pid_word,
                                       int port)
{
    char program[PATH_MAX], number[16], pid[16];
    const char *argv[] = { program, "start", "-q", "-p", number, NULL };

    snprintf(program, sizeof program, "%s/%s", built_in(), mode->stage);
    snprintf(number, sizeof number, "%d", port);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(out, STDOUT_FILENO);
    dup2(socket_fd, 9);
    dup2(9, 3);
    syscall(SYS_close_range, 4U, ~0U, 0U);
    setenv("LISTEN_FDS", "1", 1);
    setenv("LISTEN_PID", pid_word ? pid_word : pid, 1);
    execv(program, (char *const *)argv);
    _exit(127);
}

static int listening_socket(int *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(fd, 128), 0);
    getsockname(fd, (struct sockaddr *)&address, &len);
    *port = ntohs(address.sin_port);
    return fd;
}

/* Returns the port of the first line. */
static int start_activated(struct server *s, int socket_fd, const char *pid_word,
                           int port)
{
    char line[256] = "";
    const char *at;
    int ends[2];

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    memset(s, 0, sizeof *s);
    s->pid = fork();
    ck_assert_int_ge(s->pid, 0);
    if (s->pid == 0)
        become_activated(socket_fd, ends[1], pid_word, port);
    close(ends[1]);
    for (size_t n = 0; n < sizeof line - 1 && strchr(line, '\n') == NULL; n++) {
        struct pollfd p = { ends[0], POLLIN, 0 };

        ck_assert_msg(poll(&p, 1, scaled_ms(PATIENCE_MS)) == 1 &&
                          read(ends[0], line + n, 1) == 1,
                      "the activated server says only '%s'", line);
    }
    close(ends[0]);
    at = strstr(line, ".0.0.1:");
    ck_assert_ptr_nonnull(at);
    s->port = atoi(at + strlen(".0.0.1:"));
    return s->port;
}

static void end_activated(const struct server *s)
{
    int status;

    expect_command(0, "stopped", "stop -p %d", s->port);
    ck_assert_int_eq(waitpid(s->pid, &status, 0), s->pid);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(access(pid_path(s->port), F_OK), -1);
}

START_TEST(takes_the_passed_socket)
{
    int port, fd = listening_socket(&port);
    struct server s;

    /* Any --port: that of the socket counts. */
    ck_assert_int_eq(start_activated(&s, fd, NULL, _i ? free_port() : 0), port);
    fetch(&s, "GET", "/", &r, 200);
    expect_command(0, "listening", "status -p %d", port);
    if (mode->workers > 0) {
        struct load l;

        load_begin(&l, &s, "short", 2, NULL);
        expect_reload(&s);
        expect_reload(&s);
        load_end_clean(&l);
    }
    end_activated(&s);
    ck_assert(port_taken(port)); /* it is still systemd's */
    close(fd);
}
END_TEST

START_TEST(socket_for_another_process_is_not_taken)
{
    int port, fd = listening_socket(&port);
    struct server s;

    ck_assert_int_ne(start_activated(&s, fd, "1", 0), port);
    fetch(&s, "GET", "/", &r, 200);
    end_activated(&s);
    close(fd);
}
END_TEST

/* ---- systemd: messages ---- */

static int notified; /* systemd's end */

static void notify_socket(bool abstract)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    char name[sizeof address.sun_path];
    size_t len;

    snprintf(name, sizeof name, "%s%s/n", abstract ? "@" : "", folder);
    len = strlen(name);
    memcpy(address.sun_path, name, len);
    if (abstract)
        address.sun_path[0] = '\0';
    setenv("NOTIFY_SOCKET", name, 1);
    notified = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(notified, (struct sockaddr *)&address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
                     0);
}

/* The next message has this line. */
static void expect_message(const struct server *s, const char *line)
{
    struct pollfd p = { notified, POLLIN, 0 };
    char text[512] = "\n", wanted[64];
    const char *usec;
    struct timespec now;

    ck_assert_msg(poll(&p, 1, scaled_ms(PATIENCE_MS)) == 1, "%s does not come", line);
    ck_assert_int_gt(recv(notified, text + 1, sizeof text - 3, 0), 0);
    strcat(text, "\n");
    snprintf(wanted, sizeof wanted, "\n%s\n", line);
    ck_assert_msg(strstr(text, wanted) != NULL, "%s expected, got %s", line, text);
    snprintf(wanted, sizeof wanted, "\nMAINPID=%d\n", (int)s->pid);
    ck_assert_msg(strstr(text, wanted) != NULL, "no %s in %s", wanted, text);
    if (strcmp(line, "RELOADING=1") != 0)
        return;
    usec = strstr(text, "\nMONOTONIC_USEC=");
    ck_assert_msg(usec != NULL, "no MONOTONIC_USEC in %s", text);
    clock_gettime(CLOCK_MONOTONIC, &now);
    ck_assert_int_le(llabs(atoll(usec + strlen("\nMONOTONIC_USEC=")) -
                           (now.tv_sec * 1000000LL + now.tv_nsec / 1000)),
                     1000LL * scaled_ms(PATIENCE_MS));
}

START_TEST(tells_systemd)
{
    struct server s;
    struct pollfd p;
    int status;

    program_copy();
    notify_socket(_i == 1);
    server_start(&s, "");
    expect_message(&s, "READY=1");
    expect_reload(&s);
    expect_message(&s, "RELOADING=1");
    expect_message(&s, "READY=1");
    program_write("broken", 0755);
    ck_assert_int_eq(kill(s.pid, SIGHUP), 0);
    expect_message(&s, "RELOADING=1");
    expect_message(&s, "READY=1"); /* the old one goes on */
    ck_assert_int_eq(kill(s.pid, SIGTERM), 0);
    expect_message(&s, "STOPPING=1");
    status = server_wait(&s, PATIENCE_MS);
    ck_assert_int_eq(status, 0);
    p = (struct pollfd){ notified, POLLIN, 0 };
    ck_assert_int_eq(poll(&p, 1, 0), 0); /* nothing of workers, nothing twice */
    server_gone(&s);
    close(notified);
}
END_TEST

/* The template, with its @BINDIR@ filled in, as `make install` does it. */
static void install_unit(const char *from, const char *to)
{
    const char *rest = read_file(from), *at;
    FILE *file = fopen(to, "we");

    ck_assert_ptr_nonnull(file);
    for (; (at = strstr(rest, "@BINDIR@")) != NULL; rest = at + strlen("@BINDIR@"))
        fprintf(file, "%.*s%s", (int)(at - rest), rest, built_in());
    fputs(rest, file);
    fclose(file);
}

START_TEST(units_are_right)
{
    char unit[256], service[256], listener[256];
    const char *argv[] = { "systemd-analyze", "verify", "--man=no",
                           service,           listener, NULL };
    const char *const there[] = { "systemd-analyze", "--version", NULL };

    snprintf(unit, sizeof unit, "%s/%s.service.in", mode->stage, mode->stage);
    program_run(&o, there);
    if (o.status != 0 || access(unit, F_OK) == -1) {
        skip("no systemd-analyze, or not run in the source folder");
        return;
    }
    snprintf(service, sizeof service, "%s/%s.service", folder, mode->stage);
    install_unit(unit, service);
    snprintf(unit, sizeof unit, "%s/%s.socket", mode->stage, mode->stage);
    snprintf(listener, sizeof listener, "%s/%s.socket", folder, mode->stage);
    install_unit(unit, listener);
    program_run(&o, argv);
    ck_assert_msg(o.status == 0 && strstr(o.err, mode->stage) == NULL, "status %d: %s%s",
                  o.status, o.out, o.err);
}
END_TEST

static void add_of_any(TCase *tc)
{
    tcase_add_loop_test(tc, closed_standard_descriptors, 0, 8);
    tcase_add_loop_test(tc, log_that_nobody_reads, 0, 2);
    tcase_add_test(tc, surroundings_of_a_daemon);
    tcase_add_test(tc, busy_port);
    tcase_add_test(tc, serves_as_another_user);
    tcase_add_loop_test(tc, takes_the_passed_socket, 0, 2);
}

static void add_without_master(TCase *tc)
{
    add_of_any(tc);
    tcase_add_loop_test(tc, files_go_with_the_server, 0, 3);
}

static void add_all(TCase *tc)
{
    add_of_any(tc);
    tcase_add_test(tc, listens_when_the_command_returns);
    tcase_add_test(tc, log_that_cannot_be_opened);
    tcase_add_test(tc, log_appends_and_is_opened_anew);
    tcase_add_test(tc, log_of_another_user);
    tcase_add_test(tc, full_disk);
    tcase_add_test(tc, user_that_does_not_exist);
    tcase_add_test(tc, only_root_may_change_the_user);
    tcase_add_test(tc, socket_for_another_process_is_not_taken);
    tcase_add_loop_test(tc, tells_systemd, 0, 2);
    tcase_add_test(tc, units_are_right);
}

int main(void)
{
    static const struct control_case cases[] = {
        { "stage4-reuseport", add_all },  { "stage4-shared", add_of_any },
        { "stage1", add_without_master }, { "stage2", add_of_any },
        { "stage3", add_without_master }, { "stage7-own", add_of_any },
    };

    return control_run("daemon", cases, sizeof cases / sizeof cases[0], 60);
}
