/* test_control_reload.c - reload, recycling, killed workers: under load, nobody fails.
 * Does not: look at what status prints (test_control_status.c). */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/harness_control.h"

static const char *const both_answers[] = { "--expect", "hello world!", "--expect",
                                            "hello again!", NULL };
static const char *const loads[] = { "short", "keep-alive", "pipelined" };
enum { LOADS = 3, CLIENTS = 8 };

static struct outcome o;
static struct response r;
static struct client a, b;

static void ask(struct client *c, const char *target)
{
    client_say(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);
}

static pid_t pid_behind(struct client *c)
{
    ask(c, "/whoami");
    client_expect(c, &r, 200);
    return (pid_t)json_number(r.body, "pid");
}

/* A client whose worker is not this one. */
static void open_elsewhere(struct client *c, const struct server *s, pid_t worker)
{
    client_open(c, s);
    while (pid_behind(c) == worker) {
        client_close(c);
        client_open(c, s);
    }
}

static void expect_greeting(const struct server *s, const char *greeting)
{
    for (int i = 0; i < 10; i++) {
        fetch(s, "GET", "/", &r, 200);
        ck_assert_str_eq(r.body, greeting);
    }
}

/* Run a command in a process of its own; its exit status is the command's. */
static pid_t command_aside(const char *words, int port)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        command(&o, "%s -p %d", words, port);
        if (o.status != 0)
            dprintf(STDOUT_FILENO, "%s: %s\n", words, o.err);
        _exit(o.status == -1 ? 100 : o.status);
    }
    return pid;
}

static bool ended(pid_t pid, int *status)
{
    return waitpid(pid, status, WNOHANG) == pid;
}

static void expect_end(pid_t aside, int status)
{
    int got;

    eventually(ended(aside, &got), 3 * PATIENCE_MS);
    ck_assert_msg(WIFEXITED(got) && WEXITSTATUS(got) == status, "it ended with %x", got);
}

/* ---- reload ---- */

/* Of stage 2 a client needs a whole worker. */
static const char *room(void)
{
    return mode->at_once == INT_MAX ? "" : "-w 8";
}

static int workers(void)
{
    return mode->at_once == INT_MAX ? 2 : CLIENTS;
}

START_TEST(reload_under_load)
{
    pid_t old[PIDS], new[PIDS];
    struct server s;
    struct load l;

    server_start(&s, room());
    expect_workers(s.pid, workers(), NULL, 0, old);
    load_begin(&l, &s, loads[_i], CLIENTS, NULL);
    for (int i = 0; i < 4; i++) {
        expect_reload(&s);
        expect_workers(s.pid, workers(), old, workers(), new);
        memcpy(old, new, sizeof old);
    }
    load_end_clean(&l);
    eventually(server_zombies(&s) == 0, PATIENCE_MS);
    server_stop(&s);
    ck_assert_int_eq(access(pid_path(s.port), F_OK), -1);
}
END_TEST

/* wrk has its own idea of what a failed connection is. */
START_TEST(reload_under_wrk)
{
    char url[64];
    const char *seconds = harness_wrapped() ? "-d20s" : "-d1s";
    const char *argv[] = { "wrk", "-t1", "-c6", seconds, url, NULL };
    struct server s;
    pid_t pid;

    server_start(&s, room());
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", s.port);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        program_run(&o, argv);
        write_file(in_folder("wrk"), "%d\n%s%s", o.status, o.out, o.err);
        _exit(o.status);
    }
    do
        fetch(&s, "GET", "/stats", &r, 200);
    while (json_number(r.body, "requests") < 1000);
    for (int i = 0; i < 3; i++)
        expect_reload(&s);
    ck_assert_msg(waitpid(pid, NULL, WNOHANG) == 0, "wrk has ended before the reloads");
    expect_end(pid, 0);
    ck_assert_msg(strstr(read_file(in_folder("wrk")), "Requests/sec") &&
                      !strstr(read_file(in_folder("wrk")), "Socket errors") &&
                      !strstr(read_file(in_folder("wrk")), "Non-2xx"),
                  "%s", read_file(in_folder("wrk")));
    server_stop(&s);
}
END_TEST

START_TEST(reload_swaps_the_program)
{
    struct server s;
    struct load l;
    const char *account;
    long long old_answers, new_answers;

    program_copy();
    server_start(&s, room());
    load_begin(&l, &s, loads[_i], CLIENTS, both_answers);
    program_greet("hello again!");
    expect_greeting(&s, "hello world!"); /* a file alone changes nothing */
    expect_reload(&s);
    expect_greeting(&s, "hello again!");
    account = load_end(&l);
    ck_assert_msg(json_number(account, "failed") == 0, "%.900s", account);
    ck_assert_int_eq(sscanf(strstr(account, "\"answers\":["), "\"answers\":[%lld,%lld]",
                            &old_answers, &new_answers),
                     2);
    ck_assert_msg(old_answers > 0 && new_answers > 0, "answers: %lld old, %lld new",
                  old_answers, new_answers);
    server_stop(&s);
}
END_TEST

static const struct {
    const char *bytes; /* NULL: no file */
    unsigned mode_bits;
    const char *reason;
} broken[] = {
    { "\177ELF and then nothing of sense", 0755, "Exec format error" },
    { "", 0755, "Exec format error" },
    { NULL, 0, "No such file" },
    { "#!/bin/sh\nexit 0\n", 0644, "ermission denied" },
    { "#!/bin/sh\necho 'the licence has ended' >&2\nexit 3\n", 0755,
      "the licence has ended" },
    { "#!/bin/sh\nexit 3\n", 0755, "status 3" },
    { "#!/bin/sh\nkill -SEGV $$\n", 0755, "signal 11" },
    { "#!/bin/sh\nexit 0\n", 0755, "" }, /* it starts, but is no server at all */
};
enum { BROKEN = sizeof broken / sizeof broken[0] };

START_TEST(reload_to_a_broken_program)
{
    pid_t before[PIDS], after[PIDS];
    struct server s;
    struct load l;

    program_copy();
    server_start(&s, "");
    expect_workers(s.pid, 2, NULL, 0, before);
    load_begin(&l, &s, "short", CLIENTS, both_answers);
    if (broken[_i].bytes)
        program_write(broken[_i].bytes, broken[_i].mode_bits);
    else
        ck_assert_int_eq(unlink(program_path()), 0);
    /* The command itself is the program's other, whole copy. */
    setenv("BUILD_DIR", built_in(), 1);
    expect_command(1, broken[_i].reason, "reload -p %d", s.port);
    expect_command(1, "the old program goes on", "reload -p %d", s.port);
    expect_workers(s.pid, 2, NULL, 0, after);
    ck_assert_int_eq(memcmp(before, after, 2 * sizeof before[0]), 0);
    expect_greeting(&s, "hello world!");
    program_greet("hello again!");
    expect_reload(&s);
    expect_greeting(&s, "hello again!");
    load_end_clean(&l);
    server_stop(&s);
}
END_TEST

START_TEST(reloads_at_the_same_time)
{
    struct server s;
    struct load l;
    pid_t first, second;

    server_start(&s, "");
    load_begin(&l, &s, "keep-alive", CLIENTS, NULL);
    first = command_aside("reload", s.port);
    second = command_aside("reload", s.port);
    expect_end(first, 0);
    expect_end(second, 0);
    expect_workers(s.pid, 2, NULL, 0, NULL);
    load_end_clean(&l);
    server_stop(&s);
}
END_TEST

static bool is_leaving(const struct server *s, pid_t worker)
{
    char words[64];

    command(&o, "status --json -p %d", s->port);
    ck_assert_int_eq(o.status, 0);
    snprintf(words, sizeof words, "\"pid\":%d,\"state\":\"leaving", (int)worker);
    return strstr(o.out, words) != NULL;
}

/* ---- which reload a command tells of ---- */

/* A program whose --check waits for a file "go"; then it does `then`. */
static void write_slow_check(const char *then)
{
    char script[2 * PATH_MAX];

    snprintf(script, sizeof script,
             "#!/bin/sh\ncase $* in *--check*) echo >%s/checking\n"
             "while ! test -e %s/go; do sleep 0.02; done\n%s;; esac\n"
             "exec %s/%s \"$@\"\n",
             folder, folder, then, built_in(), mode->stage);
    program_write(script, 0755);
}

static const char failing[] = "#!/bin/sh\necho 'the licence has ended' >&2\nexit 3\n";

static void expect_reloads(const struct server *s, int done, int failed)
{
    char text[64];

    snprintf(text, sizeof text, "\"reloads\":%d,\"reloads_failed\":%d,", done, failed);
    expect_command(0, text, "status --json -p %d", s->port);
}

/* Those who ask while a check is under way mean the file that is there now. */
START_TEST(queued_behind_a_failing_reload)
{
    struct server s;
    pid_t first, second, third;

    program_copy();
    server_start(&s, "");
    setenv("BUILD_DIR", built_in(), 1);
    write_slow_check("echo 'the licence has ended' >&2; exit 3");
    first = command_aside("reload", s.port);
    eventually(access(in_folder("checking"), F_OK) == 0, PATIENCE_MS);
    program_greet("hello again!");
    second = command_aside("reload", s.port);
    third = command_aside("reload", s.port);
    eventually(has_looked(second) && has_looked(third), PATIENCE_MS);
    write_file(in_folder("go"), "now\n");
    expect_end(first, 1);
    expect_end(second, 0);
    expect_end(third, 0);
    expect_greeting(&s, "hello again!");
    server_stop(&s);
}
END_TEST

START_TEST(queued_behind_a_good_reload)
{
    struct server s;
    pid_t worker, first, second;

    program_copy();
    server_start(&s, "--stop-timeout 0");
    setenv("BUILD_DIR", built_in(), 1);
    client_open(&a, &s);
    worker = pid_behind(&a);
    first = command_aside("reload -g", s.port);
    eventually(is_leaving(&s, worker), PATIENCE_MS);
    program_write(failing, 0755);
    second = command_aside("reload", s.port);
    eventually(has_looked(second), PATIENCE_MS);
    client_expect_silence(&a, 600); /* the second one's bound is not the first one's */
    pid_behind(&a);                 /* the last request */
    expect_end(first, 0);
    expect_end(second, 1);
    expect_reloads(&s, 1, 1);
    client_close(&a);
    server_stop(&s);
}
END_TEST

/* The program that has heard the request becomes another one. */
START_TEST(request_outlives_the_program)
{
    struct server s;
    pid_t first, second;

    program_copy();
    server_start(&s, "");
    setenv("BUILD_DIR", built_in(), 1);
    write_slow_check("");
    first = command_aside("reload", s.port);
    eventually(access(in_folder("checking"), F_OK) == 0, PATIENCE_MS);
    second = command_aside("reload", s.port);
    eventually(has_looked(second), PATIENCE_MS);
    write_file(in_folder("go"), "now\n");
    expect_end(first, 0);
    expect_end(second, 0);
    expect_reloads(&s, 2, 0);
    server_stop(&s);
}
END_TEST

/* What was checked is not what is there now: that would end the server. */
START_TEST(program_replaced_during_its_check)
{
    struct server s;
    pid_t aside;

    program_copy();
    server_start(&s, "");
    setenv("BUILD_DIR", built_in(), 1);
    write_slow_check("");
    aside = command_aside("reload", s.port);
    eventually(access(in_folder("checking"), F_OK) == 0, PATIENCE_MS);
    program_write(failing, 0755);
    write_file(in_folder("go"), "now\n");
    expect_end(aside, 1);
    expect_greeting(&s, "hello world!");
    expect_reloads(&s, 0, 1);
    server_stop(&s);
}
END_TEST

/* Wrappers through which a server cannot be taken over. */
START_TEST(wrapper_in_the_way)
{
    static const struct {
        const char *words, *reason;
    } wrappers[] = {
        { "", "must end with 'exec'" },
        { "exec env -i", "does not see that it is to take over" },
        { "exec 2>&1; for fd in 3 4 5 6 7 8 9; do eval \"exec $fd>&-\"; done; exec",
          "scoreboard" },
    };
    char script[PATH_MAX + 256];
    struct server s;

    program_copy();
    server_start(&s, "");
    setenv("BUILD_DIR", built_in(), 1);
    snprintf(script, sizeof script, "#!/bin/sh\n%s %s/%s \"$@\"\n", wrappers[_i].words,
             built_in(), mode->stage);
    program_write(script, 0755);
    expect_command(1, wrappers[_i].reason, "reload -p %d", s.port);
    expect_greeting(&s, "hello world!");
    expect_reloads(&s, 0, 1);
    server_stop(&s);
}
END_TEST

/* ---- what the new program finds ---- */

START_TEST(log_folder_that_is_gone)
{
    char words[64 + sizeof folder], script[2 * PATH_MAX], old[128];
    pid_t workers[PIDS];
    struct server s;

    program_copy();
    ck_assert_int_eq(mkdir(in_folder("logs"), 0755), 0);
    snprintf(words, sizeof words, "--log %s/logs/log", folder);
    snprintf(old, sizeof old, "%s", in_folder("logs.old"));
    server_start(&s, words);
    setenv("BUILD_DIR", built_in(), 1);
    expect_workers(s.pid, 2, NULL, 0, workers);
    ck_assert_int_eq(rename(in_folder("logs"), old), 0);
    expect_command(1, "/logs/log: No such file", "reload -p %d", s.port);
    expect_greeting(&s, "hello world!");
    /* Now it goes when --check has already seen it. */
    ck_assert_int_eq(rename(old, in_folder("logs")), 0);
    snprintf(script, sizeof script,
             "#!/bin/sh\ncase $* in *--check*) ;; *) mv %s/logs %s/logs.old;; esac\n"
             "exec %s/%s \"$@\"\n",
             folder, folder, built_in(), mode->stage);
    program_write(script, 0755);
    expect_reload(&s);
    expect_workers(s.pid, 2, workers, 2, NULL);
    expect_greeting(&s, "hello world!");
    ck_assert_msg(strstr(read_file(in_folder("logs.old/log")), "goes on where it was"),
                  "'%s'", read_file(in_folder("logs.old/log")));
    server_stop(&s);
}
END_TEST

/* All that a start needs and a running server does not. */
START_TEST(surroundings_that_are_gone)
{
    static const char *const dirs[] = { "here", "run" };
    pid_t workers[PIDS];
    struct server s;
    char run[128];

    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(mkdir(in_folder(dirs[i]), 0755), 0);
    ck_assert_int_eq(chdir(in_folder("here")), 0);
    snprintf(run, sizeof run, "%s", in_folder("run"));
    setenv("XDG_RUNTIME_DIR", run, 1);
    server_start(&s, "");
    expect_workers(s.pid, 2, NULL, 0, workers);
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(rename(run, in_folder("run.old")), 0);
    ck_assert_int_eq(rmdir(in_folder("here")), 0);
    ck_assert_int_eq(kill(s.pid, SIGHUP), 0);
    expect_workers(s.pid, 2, workers, 2, NULL);
    expect_greeting(&s, "hello world!");
    server_stop(&s);
}
END_TEST

/* The default of --workers is the number of cpus, which may have changed. The listeners
 * and the scoreboard are those that there are. */
START_TEST(other_number_of_workers)
{
    char script[PATH_MAX + 128];
    pid_t old[PIDS];
    struct server s;

    program_copy();
    server_start(&s, "");
    setenv("BUILD_DIR", built_in(), 1);
    expect_workers(s.pid, 2, NULL, 0, old);
    snprintf(script, sizeof script, "#!/bin/sh\nexec %s/%s \"$@\" -w %d\n", built_in(),
             mode->stage, _i ? 1 : 3);
    program_write(script, 0755);
    expect_reload(&s);
    expect_workers(s.pid, 2, old, 2, NULL);
    for (int i = 0; i < 40; i++)
        fetch(&s, "GET", "/", &r, 200);
    server_stop(&s);
}
END_TEST

/* ---- another stage ---- */

/* Put a link to another program into the copy's place. */
static void link_program(const char *stage)
{
    char target[PATH_MAX + 64], fresh[PATH_MAX];

    snprintf(target, sizeof target, "%s/%s", built_in(), stage);
    snprintf(fresh, sizeof fresh, "%s.new", program_path());
    ck_assert_int_eq(symlink(target, fresh), 0);
    ck_assert_int_eq(rename(fresh, program_path()), 0);
}

/* It would wait for clients in another way, and on other listeners. */
START_TEST(reload_to_another_stage)
{
    const struct mode *modes;
    int n_modes;
    pid_t before[PIDS], after[PIDS];
    char script[PATH_MAX + 128];
    struct server s;

    program_copy();
    server_start(&s, "");
    setenv("BUILD_DIR", built_in(), 1);
    expect_workers(s.pid, 2, NULL, 0, before);
    modes = harness_modes(&n_modes);
    for (int i = 0; i < n_modes; i++) {
        if (strcmp(modes[i].stage, mode->stage) == 0 ||
            (i > 0 && strcmp(modes[i].stage, modes[i - 1].stage) == 0))
            continue;
        link_program(modes[i].stage);
        /* A stage without workers does not even know the option -w. */
        expect_command(1, modes[i].workers ? "another stage" : "unknown", "reload -p %d",
                       s.port);
    }
    if (strcmp(mode->name, "stage4-reuseport") == 0) {
        snprintf(script, sizeof script, "#!/bin/sh\nexec %s/%s \"$@\" --accept=shared\n",
                 built_in(), mode->stage);
        program_write(script, 0755);
        expect_command(1, "shares its listeners out otherwise", "reload -p %d", s.port);
    }
    expect_workers(s.pid, 2, NULL, 0, after);
    ck_assert_int_eq(memcmp(before, after, 2 * sizeof before[0]), 0);
    for (int i = 0; i < 40; i++)
        fetch(&s, "GET", "/", &r, 200);
    server_stop(&s);
}
END_TEST

/* ---- the name that was typed ---- */

/* folder/NAME/STAGE says this. */
static void put_release(const char *name, const char *greeting)
{
    char path[PATH_MAX + 64];

    program_greet(greeting);
    ck_assert_int_eq(mkdir(in_folder(name), 0755), 0);
    snprintf(path, sizeof path, "%s/%s/%s", folder, name, mode->stage);
    ck_assert_int_eq(rename(program_path(), path), 0);
}

/* folder/current leads to folder/NAME. */
static void flip_to(const char *name)
{
    char fresh[128];

    snprintf(fresh, sizeof fresh, "%s", in_folder("current.new"));
    ck_assert_int_eq(symlink(name, fresh), 0);
    ck_assert_int_eq(rename(fresh, in_folder("current")), 0);
}

static const char *const typed[] = {
    "$FOLDER/current/$STAGE",
    "cd $FOLDER; current/$STAGE",
    "cd $FOLDER/current; export PWD; ./$STAGE",
    "cd /; PATH=$FOLDER/current:$PATH; $STAGE",
};
enum { TYPED = sizeof typed / sizeof typed[0] };

START_TEST(reload_follows_a_flipped_link)
{
    char words[256];
    const char *argv[] = { "sh", "-c", words, NULL };
    struct server s = { .port = free_port() };

    program_copy();
    put_release("v1", "hello world!");
    put_release("v2", "hello again!");
    setenv("BUILD_DIR", built_in(), 1);
    setenv("FOLDER", folder, 1);
    setenv("STAGE", mode->stage, 1);
    flip_to("v1");
    snprintf(words, sizeof words, "%s -d -p %d %s", typed[_i], s.port, mode->args);
    program_run(&o, argv);
    ck_assert_msg(o.status == 0, "%s: status %d, '%s'", words, o.status, o.err);
    s.pid = pid_in(pid_path(s.port));
    expect_greeting(&s, "hello world!");
    flip_to("v2");
    expect_reload(&s);
    expect_greeting(&s, "hello again!");
    flip_to("v1"); /* the name is handed on */
    expect_reload(&s);
    expect_greeting(&s, "hello world!");
    daemon_stop(&s);
}
END_TEST

/* Without a bound: -g lets an idle client live, and its next request is the last. */
START_TEST(reload_graceful_waits)
{
    struct server s;
    pid_t worker, aside;
    int status;

    server_start(&s, "--stop-timeout 0");
    client_open(&a, &s);
    worker = pid_behind(&a);
    aside = command_aside("reload -g", s.port);
    eventually(is_leaving(&s, worker), PATIENCE_MS);
    client_expect_silence(&a, 600); /* time enough for a bounded one to give up */
    ck_assert(!ended(aside, &status));
    ck_assert_int_eq(pid_behind(&a), worker);
    ck_assert(!r.keep_alive);
    client_expect_close(&a, 1000);
    expect_end(aside, 0);
    client_close(&a);
    server_stop(&s);
}
END_TEST

/* Without a bound, but not for ever: who is silent is closed when its own time is up. */
START_TEST(reload_graceful_keeps_time_outs)
{
    struct server s;
    pid_t aside;

    server_start(&s, "-k 1");
    client_open(&a, &s);
    pid_behind(&a);
    aside = command_aside("reload -g", s.port);
    client_expect_close(&a, PATIENCE_MS);
    expect_end(aside, 0);
    client_close(&a);
    server_stop(&s);
}
END_TEST

/* Again and again, as early as can be: no worker is forgotten that has just been forked. */
START_TEST(reload_by_hangup)
{
    pid_t old[PIDS];
    struct server s;

    for (int round = 0; round < 10; round++) {
        server_start(&s, "");
        expect_workers(s.pid, 2, NULL, 0, old);
        ck_assert_int_eq(kill(s.pid, SIGHUP), 0);
        expect_workers(s.pid, 2, old, 2, NULL);
        fetch(&s, "GET", "/", &r, 200);
        server_stop(&s);
    }
}
END_TEST

START_TEST(stopped_worker_at_reload)
{
    pid_t old[PIDS], stopped, aside;
    struct server s;
    int64_t start;

    server_start(&s, "--stop-timeout 1");
    expect_workers(s.pid, 2, NULL, 0, old);
    client_open(&a, &s);
    stopped = pid_behind(&a);
    open_elsewhere(&b, &s, stopped);
    ck_assert_int_eq(kill(stopped, SIGSTOP), 0);
    ask(&a, "/");
    start = clock_ms();
    aside = command_aside("reload", s.port);
    pid_behind(&b); /* served, by the old worker or as the last request to it */
    for (int i = 0; i < 20; i++)
        fetch(&s, "GET", "/", &r, 200);
    expect_end(aside, 0);
    ck_assert_int_ge(clock_ms() - start, 1000);
    ck_assert_int_lt(clock_ms() - start, scaled_ms(4500));
    expect_workers(s.pid, 2, old, 2, NULL);
    ck_assert_int_eq(process_state(stopped), 0);
    client_expect_close(&a, 1000);
    client_close(&a);
    client_close(&b);
    server_stop(&s);
}
END_TEST

START_TEST(descriptors_after_reloads)
{
    pid_t pids[PIDS], old[PIDS];
    struct server s;
    int master, worker;

    server_start(&s, "--watch");
    expect_reload(&s); /* the first may open what stays open */
    expect_workers(s.pid, 2, NULL, 0, pids);
    master = fds_of(s.pid);
    worker = fds_of(pids[0]);
    ck_assert_int_eq(fds_of(pids[1]), worker);
    for (int i = 0; i < 10; i++) {
        memcpy(old, pids, sizeof old);
        expect_reload(&s);
        expect_workers(s.pid, 2, old, 2, pids);
    }
    ck_assert_int_eq(fds_of(s.pid), master);
    ck_assert_int_eq(fds_of(pids[0]), worker);
    ck_assert_int_eq(fds_of(pids[1]), worker);
    server_stop(&s);
}
END_TEST

START_TEST(many_workers)
{
    pid_t old[PIDS];
    struct server s;
    struct load l;

    if (harness_wrapped()) {
        skip("64 workers are too many for valgrind");
        return;
    }
    server_start(&s, "-w 64");
    expect_workers(s.pid, 64, NULL, 0, old);
    load_begin(&l, &s, "short", CLIENTS, NULL);
    expect_reload(&s);
    expect_workers(s.pid, 64, old, 64, NULL);
    load_end_clean(&l);
    server_stop(&s);
}
END_TEST

START_TEST(orphans_after_a_reload)
{
    struct server s;
    int status;

    for (int round = 0; round < 6; round++) {
        server_start(&s, "");
        if (round < 3) {
            expect_reload(&s);
        } else { /* in the middle of it */
            ck_assert_int_eq(kill(s.pid, SIGUSR1), 0);
            eventually(server_workers(&s, (pid_t[PIDS]){ 0 }, PIDS) != 2, PATIENCE_MS);
        }
        ck_assert_int_eq(kill(s.pid, SIGKILL), 0);
        status = server_wait(&s, PATIENCE_MS);
        ck_assert(WIFSIGNALED(status));
        server_gone(&s); /* asserts that no worker is left */
    }
}
END_TEST

/* ---- --watch ---- */

START_TEST(watch_reloads_by_itself)
{
    pid_t old[PIDS];
    struct server s;
    struct load l;

    program_copy();
    server_start(&s, "--watch");
    expect_workers(s.pid, 2, NULL, 0, old);
    load_begin(&l, &s, "keep-alive", CLIENTS, both_answers);
    program_greet("hello again!");
    expect_workers(s.pid, 2, old, 2, old);
    expect_greeting(&s, "hello again!");
    program_write("broken", 0755);
    eventually(strstr(server_log(&s), "reload failed") != NULL, PATIENCE_MS);
    expect_greeting(&s, "hello again!");
    program_greet("hello world!"); /* it still watches */
    expect_workers(s.pid, 2, old, 2, NULL);
    expect_greeting(&s, "hello world!");
    load_end_clean(&l);
    server_stop(&s);
}
END_TEST

START_TEST(watch_follows_a_flipped_link)
{
    pid_t old[PIDS];
    struct server s;
    char current[128];

    program_copy();
    put_release("v1", "hello world!");
    put_release("v2", "hello again!");
    flip_to("v1");
    snprintf(current, sizeof current, "%s", in_folder("current"));
    setenv("BUILD_DIR", current, 1);
    server_start(&s, "--watch");
    expect_workers(s.pid, 2, NULL, 0, old);
    flip_to("v2");
    expect_workers(s.pid, 2, old, 2, NULL);
    expect_greeting(&s, "hello again!");
    server_stop(&s);
}
END_TEST

/* ---- workers that end otherwise ---- */

START_TEST(max_requests_recycles)
{
    pid_t old[PIDS], new[PIDS];
    struct server s;
    struct load l;

    server_start(&s, "--max-requests 50");
    expect_workers(s.pid, 2, NULL, 0, old);
    load_begin(&l, &s, loads[_i], CLIENTS, NULL);
    for (int i = 0; i < 3; i++) { /* now and then there are three or four */
        eventually(children_of(s.pid, new, PIDS) >= 2 && new[0] > old[1], PATIENCE_MS);
        memcpy(old, new, sizeof old);
        if (old[1] < old[0])
            old[1] = old[0];
    }
    load_end_clean(&l);
    expect_workers(s.pid, 2, NULL, 0, NULL);
    eventually(server_zombies(&s) == 0, PATIENCE_MS);
    server_stop(&s);
}
END_TEST

/* Connections that a worker has open, as the kernel says: one may have been accepted and not
 * yet have come to the scoreboard. */
static long long open_in(const struct server *s, pid_t worker)
{
    long long n = 0;
    char pid[32];

    command(&o, "connections --json -p %d", s->port);
    ck_assert_int_eq(o.status, 0);
    snprintf(pid, sizeof pid, "\"pid\":%d,", worker);
    for (const char *c = o.out; (c = strstr(c, pid)) != NULL; c++)
        n++;
    return n;
}

START_TEST(killed_workers)
{
    pid_t found[PIDS];
    struct server s;
    struct load l;
    const char *account;
    long long open = 0;

    server_start(&s, "");
    load_begin(&l, &s, loads[_i], CLIENTS, NULL);
    for (int i = 0; i < 5; i++) {
        expect_workers(s.pid, 2, NULL, 0, found);
        /* Stopped first, it accepts no more clients while its clients are counted. */
        ck_assert_int_eq(kill(found[i % 2], SIGSTOP), 0);
        eventually(process_state(found[i % 2]) == 'T', PATIENCE_MS);
        open += open_in(&s, found[i % 2]);
        ck_assert_int_eq(kill(found[i % 2], SIGKILL), 0);
        eventually(process_state(found[i % 2]) == 0, PATIENCE_MS); /* reaped */
    }
    expect_workers(s.pid, 2, NULL, 0, NULL);
    account = load_end(&l);
    ck_assert_msg(json_number(account, "failed") <= open &&
                      json_number(account, "refused") == 0 &&
                      json_number(account, "connect_failed") == 0,
                  "%lld connections were open in killed workers: %.900s", open, account);
    ck_assert_msg(json_number(account, "served") > 0, "%.900s", account);
    eventually(server_zombies(&s) == 0, PATIENCE_MS);
    server_stop(&s);
}
END_TEST

/* Those in the listener's queue belong to the successor. */
START_TEST(queue_survives_its_worker)
{
    enum { QUEUED = 20 };
    struct client *c = calloc(QUEUED, sizeof *c);
    pid_t worker;
    struct server s;

    ck_assert_ptr_nonnull(c);
    server_start(&s, "-w 1");
    expect_workers(s.pid, 1, NULL, 0, &worker);
    ck_assert_int_eq(kill(worker, SIGSTOP), 0);
    eventually(process_state(worker) == 'T', PATIENCE_MS);
    for (int i = 0; i < QUEUED; i++) {
        client_open(&c[i], &s);
        ask(&c[i], "/");
    }
    ck_assert_int_eq(kill(worker, SIGKILL), 0);
    for (int i = 0; i < QUEUED; i++) {
        client_expect(&c[i], &r, 200);
        client_close(&c[i]);
    }
    server_stop(&s);
    free(c);
}
END_TEST

/* All at once: reloads, deaths, recycling. In the end each slot has one worker again. */
START_TEST(storm)
{
    pid_t found[PIDS];
    struct server s;
    struct load l;

    server_start(&s, "-w 4 --max-requests 200");
    load_begin(&l, &s, "short", CLIENTS, NULL);
    for (int i = 0; i < 15; i++) {
        pid_t aside = command_aside("reload", s.port);
        int n = children_of(s.pid, found, PIDS);

        /* A worker, old or new. The check of the program leads a group of its own; without
         * it a reload has to fail. */
        if (n > 0 && getpgid(found[i % n]) != found[i % n])
            kill(found[i % n], SIGKILL);
        expect_end(aside, 0);
    }
    load_end(&l);
    expect_workers(s.pid, 4, NULL, 0, NULL);
    eventually(server_zombies(&s) == 0, PATIENCE_MS);
    server_stop(&s);
}
END_TEST

/* ---- where a handler that waits holds up nobody ---- */

/* Answers are awaited from another server while the workers are replaced, again and again;
 * the upstream is the program itself, which takes its time. */
START_TEST(reload_while_answers_are_awaited)
{
    static const char *const words[] = { "--path", "/upstream?ms=300", "--any-body",
                                         NULL };
    static const struct mode slow = { "slow", "bench/slow_upstream", "", 0, "loop",
                                      INT_MAX };
    const struct mode *stage = mode;
    struct server s, upstream;
    char args[64];
    struct load l;
    long long served;

    mode = &slow;
    server_start(&upstream, "");
    mode = stage;
    snprintf(args, sizeof args, "--upstream 127.0.0.1:%d", upstream.port);
    server_start(&s, args);
    load_begin(&l, &s, _i ? "keep-alive" : "short", CLIENTS, words);
    for (int i = 0; i < 3; i++)
        expect_reload(&s);
    served = load_end_clean(&l);
    ck_assert_int_ge(served, CLIENTS);
    server_stop(&s);
    server_stop(&upstream);
}
END_TEST

/* The worker that goes answers what it waits for, and says that it is the last answer. */
START_TEST(awaited_answer_outlives_its_worker)
{
    struct server s;

    server_start(&s, "");
    client_open(&a, &s);
    ask(&a,
        "/sleep?ms=1500"); /* longer than until the worker is told, on a busy machine */
    client_settle(&a);
    expect_reload(&s);
    client_expect(&a, &r, 200);
    ck_assert(!r.keep_alive);
    client_expect_close(&a, PATIENCE_MS);
    server_stop(&s);
}
END_TEST

/* ---- stage 5 ---- */

/* Handlers sleep, all of them in one worker perhaps, which has as many threads. The old workers
 * go when they have answered. */
START_TEST(handlers_sleep_during_reloads)
{
    enum { SLEEPERS = 4 };
    static struct client sleepers[SLEEPERS];
    struct server s;
    char target[32];

    server_start(&s, "--stop-timeout 20 --threads 4");
    snprintf(target, sizeof target, "/sleep?ms=%d", scaled_ms(2000));
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < SLEEPERS; i++) {
            client_open(&sleepers[i], &s);
            client_say(&sleepers[i], "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);
            client_settle(&sleepers[i]);
        }
        expect_command(0, "", "reload -p %d", s.port);
        for (int i = 0; i < SLEEPERS; i++) {
            client_expect(&sleepers[i], &r, 200);
            ck_assert(!r.keep_alive);
            client_close(&sleepers[i]);
        }
    }
    expect_reloads(&s, 2, 0);
    server_stop(&s);
}
END_TEST

static void add_while_waiting(TCase *tc)
{
    tcase_add_loop_test(tc, reload_under_load, 0, LOADS);
    tcase_add_loop_test(tc, reload_while_answers_are_awaited, 0, 2);
    tcase_add_test(tc, awaited_answer_outlives_its_worker);
}

static void add_under_load(TCase *tc)
{
    tcase_add_loop_test(tc, reload_under_load, 0, LOADS);
    tcase_add_test(tc, reload_under_wrk);
}

static void add_all(TCase *tc)
{
    add_under_load(tc);
    tcase_add_loop_test(tc, reload_swaps_the_program, 0, LOADS);
    tcase_add_loop_test(tc, reload_to_a_broken_program, 0, BROKEN);
    tcase_add_test(tc, reloads_at_the_same_time);
    tcase_add_test(tc, queued_behind_a_failing_reload);
    tcase_add_test(tc, queued_behind_a_good_reload);
    tcase_add_test(tc, request_outlives_the_program);
    tcase_add_test(tc, program_replaced_during_its_check);
    tcase_add_loop_test(tc, wrapper_in_the_way, 0, 3);
    tcase_add_test(tc, log_folder_that_is_gone);
    tcase_add_test(tc, surroundings_that_are_gone);
    tcase_add_loop_test(tc, other_number_of_workers, 0, 2);
    tcase_add_test(tc, reload_to_another_stage);
    tcase_add_loop_test(tc, reload_follows_a_flipped_link, 0, TYPED);
    tcase_add_test(tc, reload_graceful_waits);
    tcase_add_test(tc, reload_graceful_keeps_time_outs);
    tcase_add_test(tc, reload_by_hangup);
    tcase_add_test(tc, stopped_worker_at_reload);
    tcase_add_test(tc, descriptors_after_reloads);
    tcase_add_test(tc, many_workers);
    tcase_add_test(tc, orphans_after_a_reload);
    tcase_add_test(tc, watch_reloads_by_itself);
    tcase_add_test(tc, watch_follows_a_flipped_link);
    tcase_add_loop_test(tc, max_requests_recycles, 0, LOADS);
    tcase_add_loop_test(tc, killed_workers, 0, 2);
    tcase_add_test(tc, queue_survives_its_worker);
    tcase_add_test(tc, storm);
}

static void add_of_stage2(TCase *tc)
{
    add_under_load(tc);
    tcase_add_test(tc, reload_graceful_keeps_time_outs);
    tcase_add_test(tc, reload_by_hangup);
    tcase_add_test(tc, reload_to_another_stage);
}

static void add_of_threads(TCase *tc)
{
    add_of_stage2(tc);
    tcase_add_test(tc, reload_graceful_waits);
    tcase_add_loop_test(tc, max_requests_recycles, 0, LOADS);
    tcase_add_loop_test(tc, killed_workers, 0, 2);
    tcase_add_test(tc, handlers_sleep_during_reloads);
}

int main(void)
{
    struct control_case cases[MODES_MAX] = {
        { "stage4-reuseport", add_all },
        { "stage4-shared", add_under_load },
        { "stage4-exclusive", add_under_load },
        { "stage4-edge", add_under_load },
        { "stage2", add_of_stage2 },
        { "stage7-own", add_of_stage2 },
        { "stage7-shared", add_under_load },
        { "stage5", add_of_threads },
    };
    int n = 0, modes;
    const struct mode *all = harness_modes(&modes);

    while (cases[n].add)
        n++;
    for (int i = 0; i < modes; i++)
        if (mode_waits_aside(&all[i]) && all[i].workers)
            cases[n++] = (struct control_case){ all[i].name, add_while_waiting };
    return control_run("reload", cases, n, 60);
}
