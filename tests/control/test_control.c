/* test_control.c - start, stop, restart: who holds a port, who is signalled, how it ends.
 * Does not: reload (test_control_reload.c), or go to the background and look around there
 * (test_control_daemon.c). */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/harness_control.h"

static struct outcome o;
static struct response r;
static struct client a, b;

/* ---- who holds the port ---- */

START_TEST(second_start_names_the_holder)
{
    struct server s;
    char pid[32];

    server_start(&s, "");
    command(&o, "start -p %d", s.port);
    snprintf(pid, sizeof pid, "pid %d ", s.pid);
    ck_assert_int_eq(o.status, 1);
    ck_assert_msg(strstr(o.err, pid) && strstr(o.err, pid_path(s.port)),
                  "neither '%s' nor %s in '%s'", pid, pid_path(s.port), o.err);
    ck_assert_str_eq(o.out, "");
    fetch(&s, "GET", "/", &r, 200);
    expect_command(0, "", "status -p %d",
                   s.port); /* the first one's files are untouched */
    server_stop(&s);
}
END_TEST

/* Start in a process of its own. Its exit status is the command's. */
static pid_t start_aside(int port)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        command(&o, "start -d -p %d", port);
        if (o.status == 1 &&
            (strstr(o.err, "running already") == NULL || strstr(o.err, "pid 0 ") != NULL))
            _exit(99);
        _exit(o.status);
    }
    return pid;
}

START_TEST(two_starts_at_once)
{
    for (int round = 0; round < 10; round++) {
        struct server s = { .port = free_port() };
        pid_t pids[2] = { start_aside(s.port), start_aside(s.port) };
        int won = 0, lost = 0;

        for (int i = 0; i < 2; i++) {
            int status;

            ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
            won += status == 0;
            lost += WIFEXITED(status) && WEXITSTATUS(status) == 1;
        }
        ck_assert_msg(won == 1 && lost == 1, "round %d: %d of 2 won, %d lost properly",
                      round, won, lost);
        s.pid = pid_in(pid_path(s.port));
        fetch(&s, "GET", "/", &r, 200);
        daemon_stop(&s);
        ck_assert(!port_taken(s.port));
    }
}
END_TEST

START_TEST(a_look_does_not_hinder_a_start)
{
    for (int round = 0; round < 10; round++) {
        struct server s = { .port = free_port() };
        pid_t pid = start_aside(s.port);
        int status;

        while (waitpid(pid, &status, WNOHANG) == 0)
            command(&o, "status -p %d", s.port);
        ck_assert_msg(status == 0, "round %d: start failed with %x beside a status",
                      round, (unsigned)status);
        s.pid = pid_in(pid_path(s.port));
        daemon_stop(&s);
    }
}
END_TEST

START_TEST(stop_stops)
{
    struct server s;

    server_start(&s, "");
    ck_assert_int_eq(pid_in(pid_path(s.port)), s.pid);
    expect_command(0, "stopped", "stop -p %d", s.port);
    ck_assert_int_eq(server_wait(&s, 0), 0);
    server_gone(&s);
    ck_assert(!port_taken(s.port));
    ck_assert_int_eq(access(pid_path(s.port), F_OK), -1);
    command(&o, "stop -p %d", s.port);
    ck_assert_int_eq(o.status, 1);
    ck_assert_msg(strstr(o.err, "not running") && strstr(o.err, pid_path(s.port)), "'%s'",
                  o.err);
    ck_assert_ptr_eq(strchr(o.err, '\n'), o.err + strlen(o.err) - 1); /* one line */
}
END_TEST

START_TEST(verbs_need_a_server)
{
    static const char *const verbs[] = { "stop",         "stop -g", "reload",
                                         "reload -g",    "status",  "connections",
                                         "status --json" };
    int port = free_port();

    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        expect_command(1, "not running", "%s -p %d", verbs[i], port);
    expect_command(2, "frobnicate", "frobnicate");
}
END_TEST

START_TEST(verbs_need_a_master)
{
    static const char *const verbs[] = { "reload", "restart", "connections" };

    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        expect_command(2, "master", "%s", verbs[i]);
}
END_TEST

START_TEST(stale_pid_file_is_no_obstacle)
{
    struct server s, next;
    pid_t workers[PIDS];
    int n;

    daemon_run(&s, "");
    n = children_of(s.pid, workers, PIDS);
    ck_assert_int_eq(kill(s.pid, SIGKILL), 0);
    expect_gone(s.pid);
    for (int i = 0; i < n; i++)
        expect_gone(workers[i]);
    ck_assert_int_eq(pid_in(pid_path(s.port)), s.pid);
    expect_command(1, "not running", "stop -p %d", s.port);
    expect_command(1, "not running", "status -p %d", s.port);
    expect_command(0, "listening", "start -d -p %d", s.port);
    next = s;
    next.pid = pid_in(pid_path(s.port));
    ck_assert_int_ne(next.pid, s.pid);
    fetch(&next, "GET", "/", &r, 200);
    daemon_stop(&next);
}
END_TEST

START_TEST(pid_file_in_an_unwritable_place)
{
    int port = free_port();
    char link[PATH_MAX];
    const char *const places[] = { "/nowhere/at/all.pid", "/proc/x.pid",
                                   "/dev/null/x.pid", folder, link };

    snprintf(link, sizeof link, "%s/link",
             folder); /* of somebody else, to /etc/passwd, say */
    ck_assert_int_eq(symlink("/dev/null", link), 0);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        command(&o, "start -p %d --pid-file %s", port, places[i]);
        ck_assert_msg(o.status == 1 && strstr(o.err, "pid file") &&
                          strstr(o.err, places[i]),
                      "%s: status %d, '%s'", places[i], o.status, o.err);
        ck_assert_str_eq(o.out, "");
        ck_assert(!port_taken(port));
    }
}
END_TEST

/* Nobody writes to it: open(2) must not wait for that. */
START_TEST(fifo_in_the_place_of_a_file)
{
    int port = free_port();

    ck_assert_int_eq(mkfifo(pid_path(port), 0644), 0);
    expect_command(1, "not running", "status -p %d", port);
    expect_command(1, "not running", "stop -p %d", port);
    expect_command(1, "no regular file", "start -p %d", port);
}
END_TEST

/* Whoever may read a file may lock it; only a server's lock counts. */
START_TEST(onlookers_lock_is_no_obstacle)
{
    struct server s;
    int port, onlooker;

    daemon_run(&s, "");
    port = s.port;
    ck_assert_int_eq(kill(s.pid, SIGKILL), 0);
    expect_gone(s.pid);
    onlooker = open(pid_path(port), O_RDONLY | O_CLOEXEC);
    /* A worker that had just been forked may have the lock, too, until it has died. */
    eventually(flock(onlooker, LOCK_SH | LOCK_NB) == 0, PATIENCE_MS);
    eventually(!port_taken(port), PATIENCE_MS);
    expect_command(0, "listening", "start -d -p %d", port);
    expect_command(0, "listening", "status -p %d", port);
    expect_command(1, "running already, as pid", "start -d -p %d", port);
    s.pid = pid_in(pid_path(port));
    daemon_stop(&s);
    close(onlooker);
}
END_TEST

/* The first one's files were taken away, say by who cleans /tmp. */
START_TEST(files_of_another_server_stay)
{
    struct server first, second;
    char words[64 + sizeof folder];

    snprintf(words, sizeof words, "--pid-file %s/x.pid", folder);
    server_start(&first, words);
    ck_assert_int_eq(unlink(in_folder("x.pid")), 0);
    server_start(&second, words);
    server_stop(&first);
    ck_assert_int_eq(pid_in(in_folder("x.pid")), second.pid);
    expect_command(0, "listening", "status %s", words);
    expect_command(0, "stopped", "stop %s", words);
    ck_assert_int_eq(server_wait(&second, PATIENCE_MS), 0);
    ck_assert_int_eq(access(in_folder("x.pid"), F_OK), -1);
    server_gone(&second);
}
END_TEST

START_TEST(one_port_of_two_addresses)
{
    int port = free_port();

    expect_command(0, "listening", "start -d -p %d", port);
    expect_command(0, "127.0.0.2:", "start -d -p %d -a 127.0.0.2", port);
    expect_command(0, "127.0.0.2:", "status -p %d -a 127.0.0.2", port);
    expect_command(0, "127.0.0.1:", "status -p %d", port);
    expect_command(0, "stopped", "stop -p %d", port);
    expect_command(1, "not running", "stop -p %d", port);
    expect_command(0, "stopped", "stop -p %d -a 127.0.0.2", port);
}
END_TEST

START_TEST(pid_file_of_somebody_who_may_not)
{
    const char *argv[] = { "setpriv",
                           "--reuid=65534",
                           "--regid=65534",
                           "--clear-groups",
                           program_path(),
                           "start",
                           "-p",
                           "0",
                           NULL };

    if (geteuid() != 0) {
        skip("needs root, to be somebody else");
        return;
    }
    program_copy();
    argv[4] = program_path();
    program_run(&o, argv);
    ck_assert_msg(o.status == 1 && strstr(o.err, "pid file") &&
                      strstr(o.err, "ermission"),
                  "status %d, '%s', '%s'", o.status, o.out, o.err);
}
END_TEST

/* ---- restart ---- */

START_TEST(restart_with_other_workers)
{
    struct server s, next;

    daemon_run(&s, "");
    expect_workers(s.pid, 2, NULL, 0, NULL);
    expect_command(0, "listening", "restart -d -p %d -w 3", s.port);
    expect_gone(s.pid);
    next = s;
    next.pid = pid_in(pid_path(s.port));
    ck_assert_int_ne(next.pid, s.pid);
    expect_workers(next.pid, 3, NULL, 0, NULL);
    fetch(&next, "GET", "/", &r, 200);
    expect_reload(&next); /* the word "restart" is among its arguments */
    expect_workers(next.pid, 3, NULL, 0, NULL);
    daemon_stop(&next);
}
END_TEST

START_TEST(restart_that_cannot_start_stops_nothing)
{
    struct server s;

    daemon_run(&s, "");
    expect_command(1, "/nowhere/x.log", "restart -d -p %d --log /nowhere/x.log", s.port);
    expect_command(2, "nosuchuser", "restart -d -p %d --user nosuchuser", s.port);
    fetch(&s, "GET", "/", &r, 200);
    daemon_stop(&s);
}
END_TEST

START_TEST(restart_when_not_running_starts)
{
    struct server s = { .port = free_port() };

    expect_command(0, "listening", "restart -d -p %d", s.port);
    s.pid = pid_in(pid_path(s.port));
    fetch(&s, "GET", "/", &r, 200);
    daemon_stop(&s);
}
END_TEST

/* ---- who is signalled ---- */

static pid_t bystander;

/* A process that any signal would end. */
static void bystander_start(void)
{
    bystander = fork();
    ck_assert_int_ge(bystander, 0);
    if (bystander == 0)
        for (;;)
            pause();
}

static void bystander_end(void)
{
    ck_assert_msg(waitpid(bystander, NULL, WNOHANG) == 0, "the bystander was signalled");
    kill(bystander, SIGKILL);
    waitpid(bystander, NULL, 0);
}

static unsigned long long start_ticks(pid_t pid)
{
    unsigned long long ticks = 0;
    char path[64], *c;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    c = strrchr(read_file(path), ')');
    ck_assert_ptr_nonnull(c);
    ck_assert_int_eq(
        sscanf(c,
               ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d "
               "%*d %*d %*d %*d %llu",
               &ticks),
        1);
    return ticks;
}

static void expect_nobody_signalled(int port)
{
    static const char *const verbs[] = { "stop", "stop -g", "reload" };

    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        expect_command(1, "not running", "%s -p %d", verbs[i], port);
    bystander_end();
}

START_TEST(pid_without_a_lock_is_not_signalled)
{
    int port = free_port();

    bystander_start();
    write_file(pid_path(port), "%d\n%llu\n", bystander, start_ticks(bystander));
    expect_nobody_signalled(port);
}
END_TEST

/* A lock held by the wrong one: still, no process that started at another time. */
START_TEST(reused_pid_is_not_signalled)
{
    int port = free_port(), fd;

    bystander_start();
    write_file(pid_path(port), "%d\n%llu\n", bystander, start_ticks(bystander) - 1);
    fd = open(pid_path(port), O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
    expect_command(1, "running already", "start -p %d", port);
    ck_assert(!port_taken(port));
    expect_nobody_signalled(port);
    close(fd);
}
END_TEST

START_TEST(pid_file_of_another_user_is_not_believed)
{
    int port = free_port(), fd;

    if (geteuid() != 0) {
        skip("needs root, to give a file away");
        return;
    }
    bystander_start();
    write_file(pid_path(port), "%d\n%llu\n", bystander, start_ticks(bystander));
    ck_assert_int_eq(chown(pid_path(port), 65534, 65534), 0);
    fd = open(pid_path(port), O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
    expect_nobody_signalled(port);
    close(fd);
}
END_TEST

/* ---- how it ends ---- */

static void ask(struct client *c, const char *target)
{
    client_say(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);
}

static long long pid_behind(struct client *c)
{
    ask(c, "/whoami");
    client_expect(c, &r, 200);
    return json_number(r.body, "pid");
}

/* Two clients of two workers. */
static void open_two(const struct server *s)
{
    client_open(&a, s);
    client_open(&b, s);
    while (pid_behind(&b) == pid_behind(&a)) {
        client_close(&b);
        client_open(&b, s);
    }
}

/* Who has read that the server listens may signal it: no handler may be late. */
START_TEST(signals_right_after_the_first_line)
{
    struct server s;

    for (int round = 0; round < 20; round++) {
        server_start(&s, "");
        ck_assert_int_eq(kill(s.pid, SIGTERM), 0);
        ck_assert_msg(server_wait(&s, PATIENCE_MS) == 0, "round %d: not a proper end",
                      round);
        ck_assert_int_eq(access(pid_path(s.port), F_OK), -1);
        server_gone(&s);
    }
}
END_TEST

/* QUIT has no bound: not even that of --stop-timeout 0. */
START_TEST(quit_waits_for_requests_not_for_idle_clients)
{
    struct server s;

    server_start(&s, "--stop-timeout 0");
    open_two(&s);
    ask(&a, "/sleep?ms=1500");
    client_settle(&a);
    ck_assert_int_eq(kill(s.pid, SIGQUIT), 0);
    client_expect_close(&b, 1000);
    client_expect_silence(&a, 0);
    client_expect(&a, &r, 200);
    ck_assert(!r.keep_alive);
    ck_assert_int_eq(server_wait(&s, PATIENCE_MS), 0);
    server_gone(&s);
    client_close(&a);
    client_close(&b);
}
END_TEST

START_TEST(stop_graceful_waits)
{
    struct server s;

    server_start(&s, "--stop-timeout 0");
    open_two(&s);
    ask(&a, "/sleep?ms=500");
    client_settle(&a);
    expect_command(0, "stopped", "stop -g -p %d", s.port);
    client_expect(&a, &r, 200);
    client_expect_close(&b, 1000);
    ck_assert_int_eq(server_wait(&s, PATIENCE_MS), 0);
    server_gone(&s);
    client_close(&a);
    client_close(&b);
}
END_TEST

/* A reload is begun with a check of the program, which here takes longer. */
START_TEST(term_ends_a_reload)
{
    char script[PATH_MAX + 256];
    struct server s;

    program_copy();
    server_start(&s, "");
    client_open(&a, &s);
    ask(&a, "/sleep?ms=1000"); /* stopping takes longer than the check */
    client_settle(&a);
    snprintf(script, sizeof script,
             "#!/bin/sh\ncase $* in *--check*) echo >%s; sleep 0.3;; esac\nexec %s/%s "
             "\"$@\"\n",
             in_folder("checking"), built_in(), mode->stage);
    program_write(script, 0755);
    ck_assert_int_eq(kill(s.pid, SIGUSR1), 0);
    eventually(access(in_folder("checking"), F_OK) == 0, PATIENCE_MS);
    ck_assert_int_eq(kill(s.pid, SIGTERM), 0);
    client_expect(&a, &r, 200);
    client_close(&a);
    ck_assert_int_eq(server_wait(&s, PATIENCE_MS), 0);
    server_gone(&s);
}
END_TEST

/* The check of a program hangs, in a child of its own. */
START_TEST(stop_ends_a_hung_check)
{
    char script[PATH_MAX];
    struct server s;
    pid_t checker, its_child;

    program_copy();
    server_start(&s, "");
    snprintf(script, sizeof script,
             "#!/bin/sh\nsleep 1000 &\necho $! $$ >%s/pids.new\n"
             "mv %s/pids.new %s/pids\nwait\n",
             folder, folder, folder);
    program_write(script, 0755);
    ck_assert_int_eq(kill(s.pid, SIGUSR1), 0);
    eventually(access(in_folder("pids"), F_OK) == 0, PATIENCE_MS);
    ck_assert_int_eq(sscanf(read_file(in_folder("pids")), "%d %d", &its_child, &checker),
                     2);
    if (_i == 0) {
        ck_assert_int_eq(kill(s.pid, SIGTERM), 0);
        ck_assert_int_eq(server_wait(&s, PATIENCE_MS), 0);
        expect_gone(its_child);
    } else { /* nobody is left who could kill the child, too */
        ck_assert_int_eq(kill(s.pid, SIGKILL), 0);
        server_wait(&s, PATIENCE_MS);
        expect_gone(checker);
        kill(its_child, SIGKILL);
    }
    expect_gone(checker);
    server_gone(&s);
}
END_TEST

START_TEST(second_term_is_at_once)
{
    struct server s;
    int64_t start;

    server_start(&s, "--stop-timeout 60");
    open_two(&s);
    ask(&a, "/sleep?ms=30000");
    client_settle(&a);
    ck_assert_int_eq(kill(s.pid, SIGTERM), 0);
    client_expect_close(&b, PATIENCE_MS); /* the first was understood */
    start = clock_ms();
    ck_assert_int_eq(kill(s.pid, SIGTERM), 0);
    ck_assert_int_eq(server_wait(&s, 1500), 0);
    ck_assert_int_lt(clock_ms() - start, scaled_ms(1500));
    server_gone(&s);
    client_close(&a);
    client_close(&b);
}
END_TEST

START_TEST(term_bounds_a_quit)
{
    struct server s;

    server_start(&s, "--stop-timeout 0");
    open_two(&s);
    ask(&a, "/sleep?ms=30000");
    client_settle(&a);
    ck_assert_int_eq(kill(s.pid, SIGQUIT), 0);
    client_expect_close(&b, PATIENCE_MS);
    ck_assert_int_eq(server_wait(&s, 0), -1);
    ck_assert_int_eq(kill(s.pid, SIGTERM), 0);
    ck_assert_int_eq(server_wait(&s, 1500), 0);
    server_gone(&s);
    client_close(&a);
    client_close(&b);
}
END_TEST

START_TEST(stop_timeout_is_the_bound)
{
    enum { TIMEOUT_MS = 1000, TICK_MS = 60 };
    struct server s;
    int64_t start, took;

    server_start(&s, "--stop-timeout 1");
    client_open(&a, &s);
    client_say(&a, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
    client_settle(&a);
    start = clock_ms();
    expect_command(0, "stopped", "stop -p %d --stop-timeout 1", s.port);
    took = clock_ms() - start;
    ck_assert_msg(took >= TIMEOUT_MS - TICK_MS && took <= TIMEOUT_MS + scaled_ms(1500),
                  "it took %d ms", (int)took);
    client_expect_close(&a, 1000);
    ck_assert_int_eq(server_wait(&s, 0), 0);
    server_gone(&s);
    client_close(&a);
}
END_TEST

/* Workers that do not hear: a stopped process answers no signal but KILL. */
START_TEST(stopped_workers_are_killed_in_the_end)
{
    pid_t workers[PIDS];
    struct server s;
    int n;

    daemon_run(&s, "--stop-timeout 0");
    expect_workers(s.pid, 2, NULL, 0, workers);
    n = 2;
    for (int i = 0; i < n; i++)
        ck_assert_int_eq(kill(workers[i], SIGSTOP), 0);
    daemon_stop(&s);
}
END_TEST

static void add_all(TCase *tc)
{
    tcase_add_test(tc, second_start_names_the_holder);
    tcase_add_test(tc, two_starts_at_once);
    tcase_add_test(tc, a_look_does_not_hinder_a_start);
    tcase_add_test(tc, stop_stops);
    tcase_add_test(tc, verbs_need_a_server);
    tcase_add_test(tc, stale_pid_file_is_no_obstacle);
    tcase_add_test(tc, pid_file_in_an_unwritable_place);
    tcase_add_test(tc, pid_file_of_somebody_who_may_not);
    tcase_add_test(tc, fifo_in_the_place_of_a_file);
    tcase_add_test(tc, onlookers_lock_is_no_obstacle);
    tcase_add_test(tc, files_of_another_server_stay);
    tcase_add_test(tc, one_port_of_two_addresses);
    tcase_add_test(tc, restart_with_other_workers);
    tcase_add_test(tc, restart_that_cannot_start_stops_nothing);
    tcase_add_test(tc, restart_when_not_running_starts);
    tcase_add_test(tc, pid_without_a_lock_is_not_signalled);
    tcase_add_test(tc, reused_pid_is_not_signalled);
    tcase_add_test(tc, pid_file_of_another_user_is_not_believed);
    tcase_add_test(tc, signals_right_after_the_first_line);
    tcase_add_test(tc, quit_waits_for_requests_not_for_idle_clients);
    tcase_add_test(tc, stop_graceful_waits);
    tcase_add_test(tc, term_ends_a_reload);
    tcase_add_loop_test(tc, stop_ends_a_hung_check, 0, 2);
    tcase_add_test(tc, second_term_is_at_once);
    tcase_add_test(tc, term_bounds_a_quit);
    tcase_add_test(tc, stop_timeout_is_the_bound);
    tcase_add_test(tc, stopped_workers_are_killed_in_the_end);
}

static void add_of_stage2(TCase *tc)
{
    tcase_add_test(tc, second_start_names_the_holder);
    tcase_add_test(tc, stop_stops);
    tcase_add_test(tc, restart_with_other_workers);
    tcase_add_test(tc, quit_waits_for_requests_not_for_idle_clients);
}

static void add_without_master(TCase *tc)
{
    tcase_add_test(tc, second_start_names_the_holder);
    tcase_add_test(tc, stop_stops);
    tcase_add_test(tc, verbs_need_a_master);
}

int main(void)
{
    static const struct control_case cases[] = {
        { "stage4-reuseport", add_all },  { "stage2", add_of_stage2 },
        { "stage5", add_of_stage2 },      { "stage7-own", add_of_stage2 },
        { "stage1", add_without_master }, { "stage3", add_without_master },
    };

    return control_run("control", cases, sizeof cases / sizeof cases[0], 60);
}
