/* test_control_status.c - status and connections: right numbers, and readable.
 * Does not: know the numbers of a server under load; here they are few and known. */
#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/harness_control.h"

enum { CLIENTS = 3 };

static struct outcome o;
static struct response r;
static struct client clients[CLIENTS];
static size_t sent[CLIENTS], received[CLIENTS];

static void say(int i, const char *text)
{
    client_say(&clients[i], "%s", text);
    sent[i] += strlen(text);
}

/* n requests, one after the other. */
static void ask(int i, int n)
{
    for (; n > 0; n--) {
        say(i, "GET /bytes?n=1000 HTTP/1.1\r\nHost: x\r\n\r\n");
        client_expect(&clients[i], &r, 200);
        received[i] += strlen(r.head) + 2 + r.body_len;
    }
}

/* A server with one worker; client i has sent i + 1 requests. */
static pid_t start_busy(struct server *s, const char *args)
{
    pid_t worker;

    server_start(s, args);
    expect_workers(s->pid, 1, NULL, 0, &worker);
    for (int i = 0; i < CLIENTS; i++) {
        client_open(&clients[i], s);
        ask(i, i + 1);
    }
    return worker;
}

static void end_busy(struct server *s)
{
    for (int i = 0; i < CLIENTS; i++)
        client_close(&clients[i]);
    server_stop(s);
}

static const char *ours(int i)
{
    static char text[INET6_ADDRSTRLEN + 16];
    union {
        struct sockaddr any;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
    } address = { .six = { 0 } };
    socklen_t len = sizeof address;

    ck_assert_int_eq(getsockname(clients[i].fd, &address.any, &len), 0);
    if (address.any.sa_family == AF_INET)
        snprintf(text, sizeof text, "\"peer\":\"127.0.0.1:%d\"",
                 ntohs(address.four.sin_port));
    else
        snprintf(text, sizeof text, "\"peer\":\"[::1]:%d\"",
                 ntohs(address.six.sin6_port));
    return text;
}

/* The part of the connections' JSON that is about client i. */
static const char *about(int i)
{
    const char *at = strstr(o.out, ours(i)), *start;

    ck_assert_msg(at != NULL, "no %s in %s", ours(i), o.out);
    for (start = at; *start != '{'; start--)
        ck_assert_ptr_ne(start, o.out);
    return start;
}

static void look(const char *verb, const struct server *s)
{
    command(&o, "%s -p %d%s", verb, s->port, s->ipv6 ? " -a ::1" : "");
    ck_assert_msg(o.status == 0 && *o.err == '\0', "%s: status %d, '%s'", verb, o.status,
                  o.err);
}

static void expect_json(void)
{
    static struct outcome parsed;
    char file[256];
    const char *argv[] = { "python3", "-m", "json.tool", file, NULL };

    snprintf(file, sizeof file, "%s", in_folder("json"));
    write_file(file, "%s", o.out);
    program_run(&parsed, argv);
    ck_assert_msg(parsed.status == 0, "%s in %s", parsed.err, o.out);
}

/* ---- layout ---- */

/* Where word i of the line begins and ends. False: there is none. */
static bool word(const char *line, int i, int *from, int *to)
{
    const char *c = line;

    for (;; i--) {
        c += strspn(c, " ");
        if (*c == '\0' || *c == '\n')
            return false;
        *from = (int)(c - line);
        c += strcspn(c, " \n");
        *to = (int)(c - line);
        if (i == 0)
            return true;
    }
}

/* Words under the heading's words: they begin or end where those do. */
static void check_row(const char *head, const char *row)
{
    int from, to, head_from, head_to;

    for (int i = 0; word(head, i, &head_from, &head_to); i++) {
        ck_assert_msg(word(row, i, &from, &to), "too few words in '%.100s'", row);
        ck_assert_msg(from == head_from || to == head_to,
                      "word %d is not in its column:\n%.*s\n%.*s", i + 1,
                      (int)strcspn(head, "\n"), head, (int)strcspn(row, "\n"), row);
    }
}

/* rows: how many there must be below the line that has this word. */
static void check_layout(const char *heading, int rows, size_t columns)
{
    const char *head = NULL;

    for (const char *line = o.out; *line; line += strcspn(line, "\n") + 1) {
        ck_assert_msg(strcspn(line, "\n") <= columns, "%d columns: %.*s",
                      (int)strcspn(line, "\n"), (int)strcspn(line, "\n"), line);
        if (head) {
            check_row(head, line);
            rows--;
        } else if (strstr(line, heading) &&
                   strstr(line, heading) < line + strcspn(line, "\n")) {
            head = line;
        }
    }
    ck_assert_ptr_nonnull(head);
    ck_assert_int_eq(rows, 0);
}

/* ---- numbers ---- */

START_TEST(status_has_the_numbers)
{
    struct server s;
    pid_t worker = start_busy(&s, "-w 1");

    look("status --json", &s);
    expect_json();
    ck_assert_int_eq(json_number(o.out, "pid"), s.pid); /* the first is the master's */
    ck_assert_int_eq(json_number(o.out, "port"), s.port);
    ck_assert_int_le(json_number(o.out, "uptime_s"), scaled_ms(10));
    ck_assert_int_eq(json_number(o.out, "reloads"), 0);
    ck_assert_int_eq(json_number(strstr(o.out, "workers"), "pid"), worker);
    ck_assert_int_eq(json_number(o.out, "connections"), CLIENTS);
    ck_assert_int_eq(json_number(o.out, "accepted"), CLIENTS);
    ck_assert_int_eq(json_number(o.out, "requests"), 1 + 2 + 3);
    ck_assert_int_gt(json_number(o.out, "memory_kib"), 100);
    ck_assert_int_eq(json_number(o.out, "restarts"), 0);
    ck_assert_ptr_nonnull(strstr(o.out, "\"state\":\"ready\""));
    client_close(&clients[0]);
    do
        look("status --json", &s);
    while (json_number(o.out, "connections") != CLIENTS - 1);
    client_open(&clients[0], &s);
    end_busy(&s);
}
END_TEST

START_TEST(status_of_a_killed_worker)
{
    struct server s;
    pid_t worker = start_busy(&s, "-w 1"), next;

    ck_assert_int_eq(kill(worker, SIGKILL), 0);
    expect_workers(s.pid, 1, &worker, 1, &next);
    do
        look("status --json", &s);
    while (json_number(strstr(o.out, "workers"), "pid") != next ||
           strstr(o.out, "\"state\":\"ready\"") == NULL);
    ck_assert_int_eq(json_number(o.out, "restarts"), 1);
    ck_assert_int_eq(json_number(o.out, "last_exit_status"), 128 + SIGKILL);
    ck_assert_int_eq(json_number(o.out, "connections"), 0);
    ck_assert_int_eq(json_number(o.out, "accepted"), CLIENTS);
    /* Reloads move the slot to its other cell and back; what happened stays. */
    for (int i = 1; i <= 2; i++) {
        expect_reload(&s);
        look("status --json", &s);
        ck_assert_int_eq(json_number(o.out, "reloads"), i);
        ck_assert_int_eq(json_number(o.out, "restarts"), 1);
    }
    end_busy(&s);
}
END_TEST

/* The row of a worker tells of that worker; a reload starts it at 0, each reload. */
START_TEST(status_after_reloads)
{
    struct server s;

    start_busy(&s, "-w 1 --stop-timeout 0");
    for (int i = 0; i < CLIENTS; i++) {
        expect_reload(&s);
        client_close(&clients[i]);
        client_open(&clients[i], &s);
        ask(i, 2);
        look("status --json", &s);
        ck_assert_int_eq(json_number(o.out, "requests"), 2);
        ck_assert_int_eq(json_number(o.out, "connections"), 1);
    }
    end_busy(&s);
}
END_TEST

START_TEST(connections_have_the_numbers)
{
    struct server s;
    pid_t worker = start_busy(&s, _i ? "-w 1 -a ::1" : "-w 1");
    char local[64];
    long long ids[CLIENTS];

    do /* until all is acknowledged */
        look("connections --json", &s);
    while (json_number(about(0), "send_q") + json_number(about(1), "send_q") +
               json_number(about(2), "send_q") >
           0);
    expect_json();
    snprintf(local, sizeof local, "\"local\":\"%s:%d\"", _i ? "[::1]" : "127.0.0.1",
             s.port);
    for (int i = 0; i < CLIENTS; i++) {
        const char *json = about(i);

        ck_assert_int_eq(json_number(json, "pid"), worker);
        ck_assert_int_eq(json_number(json, "requests"), i + 1);
        ck_assert_int_eq(json_number(json, "bytes_read"), (long long)sent[i]);
        ck_assert_int_eq(json_number(json, "bytes_written"), (long long)received[i]);
        ck_assert_int_eq(json_number(json, "recv_q"), 0);
        ck_assert_int_le(json_number(json, "idle_s"), scaled_ms(10));
        ck_assert(strncmp(strstr(json, "\"local\""), local, strlen(local)) == 0);
        ck_assert(strncmp(strstr(json, "\"state\""), "\"state\":\"ESTABLISHED\"", 21) ==
                  0);
        ids[i] = json_number(json, "id");
        for (int k = 0; k < i; k++)
            ck_assert_int_ne(ids[i], ids[k]);
    }
    ck_assert_ptr_null(strstr(o.out, "LISTEN"));
    end_busy(&s);
}
END_TEST

/* All of the server stands still: it is looked at, not asked. */
START_TEST(they_answer_for_a_server_that_hangs)
{
    struct server s;
    pid_t worker = start_busy(&s, "-w 1");

    ck_assert_int_eq(kill(worker, SIGSTOP), 0);
    ck_assert_int_eq(kill(s.pid, SIGSTOP), 0);
    eventually(process_state(worker) == 'T' && process_state(s.pid) == 'T', PATIENCE_MS);
    say(1, "GET / HTTP/1.1\r\nHost: slow\r\n\r\n");
    do
        look("connections --json", &s);
    while (json_number(about(1), "recv_q") <= 0);
    ck_assert_int_eq(json_number(about(1), "recv_q"), 30);
    ck_assert_int_eq(json_number(about(0), "recv_q"), 0);
    look("status --json", &s);
    ck_assert_int_eq(json_number(o.out, "connections"), CLIENTS);
    ck_assert_int_eq(json_number(o.out, "requests"), 1 + 2 + 3);
    look("status", &s);
    look("connections", &s);
    ck_assert_int_eq(kill(worker, SIGCONT), 0);
    ck_assert_int_eq(kill(s.pid, SIGCONT), 0);
    client_expect(&clients[1], &r, 200);
    end_busy(&s);
}
END_TEST

START_TEST(a_busy_worker_is_seen)
{
    struct server s;

    start_busy(&s, "-w 1");
    say(0, "GET /sleep?ms=1500 HTTP/1.1\r\nHost: x\r\n\r\n");
    do
        look("status --json", &s);
    while (strstr(o.out, "\"state\":\"busy") == NULL &&
           json_number(o.out, "requests") < 7);
    ck_assert_msg(strstr(o.out, "\"state\":\"busy") != NULL, "%s", o.out);
    look("status", &s);
    check_layout("requests", 1, 80);
    client_expect(&clients[0], &r, 200);
    end_busy(&s);
}
END_TEST

START_TEST(status_of_a_single_process)
{
    struct client *c = &clients[0];
    struct server s;

    server_start(&s, "");
    client_open(c, &s);
    ask(0, 2);
    look("status --json", &s);
    expect_json();
    ck_assert_int_eq(json_number(o.out, "pid"), s.pid);
    ck_assert_int_eq(json_number(o.out, "requests"), 2);
    ck_assert_int_eq(json_number(o.out, "connections"), 1);
    look("status", &s);
    client_close(c);
    server_stop(&s);
}
END_TEST

/* ---- is it readable? ---- */

START_TEST(status_is_readable)
{
    struct server s;
    struct load l;

    server_start(&s, "");
    load_begin(&l, &s, "pipelined", 200, NULL);
    do /* numbers of some length */
        fetch(&s, "GET", "/stats", &r, 200);
    while (json_number(r.body, "requests") < (harness_wrapped() ? 1000 : 200000));
    look("status", &s);
    load_end_clean(&l);
    check_layout("requests", 2, 80);
    server_stop(&s);
}
END_TEST

START_TEST(connections_are_readable)
{
    struct server s;

    start_busy(&s, _i ? "-w 1 -a ::1" : "-w 1");
    ask(0, 500); /* half a megabyte */
    setenv("COLUMNS", "80", 1);
    look("connections", &s);
    check_layout("RecvQ", CLIENTS, 80);
    setenv("COLUMNS", "200", 1);
    look("connections", &s);
    check_layout("Recv-Q", CLIENTS, 200);
    ck_assert_ptr_nonnull(strstr(o.out, " local "));
    end_busy(&s);
}
END_TEST

/* ---- --watch ---- */

START_TEST(watch_ends_with_its_server)
{
    struct server s;
    pid_t watcher;
    int status = -1;

    server_start(&s, "");
    watcher = fork();
    ck_assert_int_ge(watcher, 0);
    if (watcher == 0) {
        command(&o, "status --watch -p %d", s.port);
        _exit(o.status == 0 && strstr(o.out, "listening on") ? 0 : 1);
    }
    eventually(has_looked(watcher), PATIENCE_MS);
    ck_assert_int_eq(waitpid(watcher, &status, WNOHANG), 0);
    server_stop(&s);
    eventually(waitpid(watcher, &status, WNOHANG) == watcher, PATIENCE_MS);
    ck_assert_int_eq(status, 0);
}
END_TEST

static void add_all(TCase *tc)
{
    tcase_add_test(tc, status_has_the_numbers);
    tcase_add_test(tc, status_of_a_killed_worker);
    tcase_add_test(tc, status_after_reloads);
    tcase_add_loop_test(tc, connections_have_the_numbers, 0, 2);
    tcase_add_test(tc, they_answer_for_a_server_that_hangs);
    tcase_add_test(tc, a_busy_worker_is_seen);
    tcase_add_test(tc, status_is_readable);
    tcase_add_loop_test(tc, connections_are_readable, 0, 2);
    tcase_add_test(tc, watch_ends_with_its_server);
}

static void add_single(TCase *tc)
{
    tcase_add_test(tc, status_of_a_single_process);
}

int main(void)
{
    static const struct control_case cases[] = {
        { "stage4-reuseport", add_all },
        { "stage5", add_all },
        { "stage1", add_single },
        { "stage3", add_single },
    };

    return control_run("status", cases, sizeof cases / sizeof cases[0], 30);
}
