/* test_stages.c - what is particular to a stage: where it stops, and how it survives.
 * Does not: repeat what every stage must do; that is test_blackbox.c's. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/harness.h"
#include "process/supervisor.h"

enum { MAX_PIDS = 80 };

static struct response r;

/* Sockets of clients that say nothing unless told to. */
static int *open_crowd(const struct server *s, int n)
{
    int *fds = malloc((size_t)n * sizeof *fds);

    ck_assert_ptr_nonnull(fds);
    for (int i = 0; i < n; i++)
        fds[i] = connect_to(s);
    return fds;
}

/* With a reset, which leaves no TIME_WAIT behind: ten thousand of them are many. */
static void close_crowd(int *fds, int n)
{
    for (int i = 0; i < n; i++) {
        struct client c = { .fd = fds[i] };

        client_reset(&c);
    }
    free(fds);
}

static void ask(struct client *c, const char *target)
{
    client_say(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", target);
}

/* ---- silent clients: the failure is the lesson ---- */

/* As many silent clients as are served at once shut everybody out, until one leaves. */
START_TEST(silent_clients_block)
{
    struct client *fresh = malloc(sizeof *fresh);
    struct server s;
    int *silent;

    server_start(&s, "");
    silent = open_crowd(&s, mode->at_once);
    client_open(fresh, &s);
    ask(fresh, "/");
    client_expect_silence(fresh, 300);
    close(silent[0]);
    client_expect(fresh, &r, 200);
    client_close(fresh);
    silent[0] = connect_to(&s);
    close_crowd(silent, mode->at_once);
    server_stop(&s);
    free(fresh);
}
END_TEST

static void check_not_blocked(int silent_clients)
{
    struct server s;
    int *silent;

    server_start(&s, "");
    silent = open_crowd(&s, silent_clients);
    for (int i = 0; i < 5; i++)
        fetch(&s, "GET", "/", &r, 200);
    close_crowd(silent, silent_clients);
    server_stop(&s);
}

START_TEST(one_silent_client_less_does_not)
{
    check_not_blocked(mode->at_once - 1);
}
END_TEST

START_TEST(silent_clients_do_not_block)
{
    check_not_blocked(200);
}
END_TEST

/* Replies that nobody reads fill the socket. On a blocking one the send would sleep, and
 * its whole process with it. */
START_TEST(clients_that_never_read_do_not_block)
{
    enum { STUCK = 8, REQUESTS = 300 };
    static const char get[] = "GET /bytes?n=60000 HTTP/1.1\r\nHost: x\r\n\r\n";
    static char requests[REQUESTS * (sizeof get - 1)];
    struct client stuck[STUCK];
    struct server s;

    for (size_t i = 0; i < REQUESTS; i++)
        memcpy(requests + i * (sizeof get - 1), get, sizeof get - 1);
    server_start(&s, "");
    for (int i = 0; i < STUCK; i++) {
        stuck[i] = (struct client){ .fd = connect_small(&s) };
        client_send(&stuck[i], requests, sizeof requests);
        client_settle(&stuck[i]);
    }
    for (int i = 0; i < 20; i++)
        fetch(&s, "GET", "/", &r, 200);
    for (int i = 0; i < STUCK; i++)
        client_reset(&stuck[i]);
    server_stop(&s);
}
END_TEST

/* ---- workers ---- */

static void start_with_workers(struct server *s, pid_t pids[])
{
    server_start(s, "");
    eventually(server_workers(s, pids, MAX_PIDS) == mode->workers, PATIENCE_MS);
    fetch(s, "GET", "/", &r, 200);
}

/* All workers are there, and the dead one is not among them. */
static bool replaced(const struct server *s, pid_t dead)
{
    pid_t pids[MAX_PIDS];
    int n = server_workers(s, pids, MAX_PIDS);

    for (int i = 0; i < n; i++) {
        if (pids[i] == dead)
            return false;
    }
    return n == mode->workers && server_zombies(s) == 0;
}

START_TEST(killed_worker_is_replaced)
{
    pid_t pids[MAX_PIDS];
    struct server s;

    start_with_workers(&s, pids);
    for (int i = 0; i < 4; i++) {
        server_workers(&s, pids, MAX_PIDS);
        kill(pids[i % mode->workers], i % 2 ? SIGABRT : SIGKILL);
        eventually(replaced(&s, pids[i % mode->workers]), 1000);
        fetch(&s, "GET", "/", &r, 200);
    }
    eventually(
        (fetch(&s, "GET", "/stats", &r, 200), json_number(r.body, "restarts") == 4),
        1000);
    /* Counters outlive their worker: 5 greetings and at least one look at them. */
    ck_assert_int_ge(json_number(r.body, "requests"), 5);
    /* Ours; the last one's end may be on its way to another worker. */
    eventually(
        (fetch(&s, "GET", "/stats", &r, 200), json_number(r.body, "connections") <= 1),
        1000);
    server_stop(&s);
}
END_TEST

/* All workers at once, too. */
START_TEST(all_workers_are_replaced)
{
    pid_t pids[MAX_PIDS], none[1] = { 0 };
    struct server s;

    start_with_workers(&s, pids);
    for (int i = 0; i < mode->workers; i++)
        kill(pids[i], SIGKILL);
    for (int i = 0; i < mode->workers; i++)
        eventually(replaced(&s, pids[i]), 1000);
    ck_assert(replaced(&s, none[0]));
    fetch(&s, "GET", "/", &r, 200);
    server_stop(&s);
}
END_TEST

/* Clients that wait in the queue of a worker that dies are served by its successor. */
START_TEST(queue_of_killed_worker_is_not_lost)
{
    enum { QUEUED = 40 };
    struct client *clients = calloc(QUEUED, sizeof *clients);
    pid_t pids[MAX_PIDS];
    struct server s;

    start_with_workers(&s, pids);
    for (int i = 0; i < mode->workers; i++) {
        kill(pids[i], SIGSTOP);
        eventually(process_state(pids[i]) == 'T', PATIENCE_MS);
    }
    for (int i = 0; i < QUEUED; i++) {
        client_open(&clients[i], &s);
        ask(&clients[i], "/whoami");
    }
    kill(pids[0], SIGKILL);
    for (int i = 1; i < mode->workers; i++)
        kill(pids[i], SIGCONT);
    for (int i = 0; i < QUEUED; i++) {
        client_expect(&clients[i], &r, 200);
        ck_assert_int_ne(json_number(r.body, "pid"), pids[0]);
        client_close(&clients[i]);
    }
    free(clients);
    server_stop(&s);
}
END_TEST

/* Nobody is left to serve, or to hold the port. */
START_TEST(no_worker_outlives_a_killed_parent)
{
    pid_t pids[MAX_PIDS];
    struct client c;
    struct server s;

    start_with_workers(&s, pids);
    client_open(&c, &s); /* a worker has something to hold on to */
    client_say(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client_expect(&c, &r, 200);
    kill(s.pid, SIGKILL);
    ck_assert_int_ne(server_wait(&s, 1000), -1);
    server_gone(&s);
    client_close(&c);
}
END_TEST

/* The parent is asleep when there is nothing to do; so are its workers. */
START_TEST(idle_server_sleeps)
{
    struct client c;
    struct server s;
    int64_t cpu;

    server_start(&s, "");
    client_open(&c, &s);
    client_say(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client_expect(&c, &r, 200);
    cpu = server_cpu_ms(&s);
    client_expect_silence(&c, 300);
    cpu = server_cpu_ms(&s) - cpu;
    ck_assert_msg(cpu <= scaled_ms(30), "%d ms of CPU in 300 ms without work", (int)cpu);
    client_close(&c);
    server_stop(&s);
}
END_TEST

static int count_words(const char *text, const char *word)
{
    int n = 0;

    for (const char *at = text; (at = strstr(at, word)); at += strlen(word))
        n++;
    return n;
}

/* A worker of stages 4 and 5 needs a descriptor for its epoll. Without it it dies at start: it must
 * be replaced, but not in a loop of forks; and it serves once there is a descriptor again. */
START_TEST(worker_that_dies_at_start_backs_off)
{
    struct server s;
    struct rlimit before, none = { 3, 0 };
    pid_t worker[4];
    int deaths = 0;

    if (harness_wrapped()) {
        skip("valgrind needs descriptors of its own");
        return;
    }
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* that would need descriptors, too */
    server_start(&s, "-w 1");
    eventually(server_workers(&s, worker, 4) == 1, PATIENCE_MS);
    ck_assert_int_eq(prlimit(s.pid, RLIMIT_NOFILE, NULL, &before), 0);
    none.rlim_max = before.rlim_max;
    ck_assert_int_eq(prlimit(s.pid, RLIMIT_NOFILE, &none, NULL), 0);
    kill(worker[0], SIGKILL);
    eventually((deaths = count_words(server_log(&s), "exited with status")) >= 3, 2000);
    pause_ms(1000); /* the window in which deaths are counted, not a hope */
    deaths = count_words(server_log(&s), "exited with status") - deaths;
    ck_assert_msg(deaths <= 1000 / RESPAWN_MIN_MS / 8, "%d deaths in a second", deaths);
    ck_assert_int_le(server_zombies(&s), 1);
    ck_assert_int_eq(prlimit(s.pid, RLIMIT_NOFILE, &before, NULL), 0);
    fetch(&s, "GET", "/", &r, 200);
    server_stop(&s);
}
END_TEST

/* ---- stage 3: as many clients as its wait can hold ---- */

static struct {
    int served, refused, other;
} verdicts;

/* What has this client got within the deadline? A refused one must see the end as well. */
static void judge(int fd)
{
    struct client *c = malloc(sizeof *c);

    c->fd = fd;
    c->len = 0;
    client_read(c, &r, "GET");
    if (r.status == 200) {
        verdicts.served++;
    } else if (r.status == 503) {
        client_expect_close(c, PATIENCE_MS);
        verdicts.refused++;
    } else {
        verdicts.other++;
    }
    free(c);
}

static bool descriptors_for(int n)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= (rlim_t)n)
        return true;
    skip("RLIMIT_NOFILE is too low for so many clients");
    return false;
}

START_TEST(offered_1500_clients)
{
    enum { OFFERED = 1500 };
    static const char get[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    bool all = strstr(mode->name, "poll") != NULL;
    struct server s;
    int *fds;

    if (!descriptors_for(OFFERED + 100))
        return;
    server_start(&s, "");
    fds = open_crowd(&s, OFFERED);
    for (int i = 0; i < OFFERED; i++) /* a refused one may be closed by now */
        send(fds[i], get, sizeof get - 1, MSG_NOSIGNAL);
    for (int i = 0; i < OFFERED; i++)
        judge(fds[i]);
    ck_assert_int_eq(verdicts.other, 0);
    ck_assert_int_eq(verdicts.served + verdicts.refused, OFFERED);
    ck_assert_msg(all ? verdicts.served == OFFERED : verdicts.served >= 1000, "%d served",
                  verdicts.served);
    ck_assert_msg(all || verdicts.served < FD_SETSIZE, "%d served", verdicts.served);
    close_crowd(fds, OFFERED);
    fetch(&s, "GET", "/", &r, 200);
    server_stop(&s);
}
END_TEST

/* ---- stage 4 ---- */

START_TEST(holds_10000_idle_clients)
{
    enum { IDLE = 10000 };
    struct server s;
    int *fds;

    if (harness_wrapped()) {
        skip("10,000 clients under valgrind take too long");
        return;
    }
    if (!descriptors_for(IDLE + 100))
        return;
    server_start(&s, "-b 16384");
    fds = open_crowd(&s, IDLE);
    eventually(
        (fetch(&s, "GET", "/stats", &r, 200), json_number(r.body, "connections") >= IDLE),
        PATIENCE_MS);
    fetch(&s, "GET", "/", &r, 200);
    close_crowd(fds, IDLE);
    eventually(
        (fetch(&s, "GET", "/stats", &r, 200), json_number(r.body, "connections") < 10),
        PATIENCE_MS);
    server_stop(&s);
}
END_TEST

/* With a listener each, the kernel deals clients out by a hash of their address. */
START_TEST(workers_share_the_clients)
{
    pid_t pids[MAX_PIDS];
    int served[2] = { 0 };
    struct server s;

    start_with_workers(&s, pids);
    for (int i = 0; i < 200; i++) {
        fetch(&s, "GET", "/whoami", &r, 200);
        for (int w = 0; w < 2; w++)
            served[w] += json_number(r.body, "pid") == pids[w];
    }
    ck_assert_int_eq(served[0] + served[1], 200);
    ck_assert_int_gt(served[0], 20); /* a fair coin: 9 in 10^34 fall below */
    ck_assert_int_gt(served[1], 20);
    server_stop(&s);
}
END_TEST

/* ---- stage 5: threads ---- */

static struct client clients[16];

/* Client i asks, and a thread has its request in hand. */
static void ask_for_a_thread(const struct server *s, int i, const char *target)
{
    client_open(&clients[i], s);
    client_say(&clients[i], "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);
    client_settle(&clients[i]);
}

static void expect_and_close(int i, int status)
{
    client_expect(&clients[i], &r, status);
    client_close(&clients[i]);
}

/* A handler that sleeps for so long, times TIME_SCALE. Static memory. */
static const char *sleep_for(int ms)
{
    static char target[32];

    snprintf(target, sizeof target, "/sleep?ms=%d", scaled_ms(ms));
    return target;
}

/* What `status` says of the server's one worker, in JSON. */
static const char *status_of(const struct server *s)
{
    static struct outcome o;
    char program[SERVER_PATH_MAX], port[16];
    const char *argv[] = { program, "status", "--json", "--port", port, NULL };

    server_path(program);
    snprintf(port, sizeof port, "%d", s->port);
    program_run(&o, argv); /* not under valgrind, which does not know pidfd_open(2) */
    ck_assert_msg(o.status == 0, "%s", o.err);
    return strstr(o.out, "\"workers\"");
}

/* All threads but one may wait; with all of them at it, the next client waits, too. */
START_TEST(as_many_handlers_may_sleep_as_there_are_threads)
{
    struct server s;

    server_start(&s, "-w 1 --threads 3");
    for (int i = 0; i < 2; i++)
        ask_for_a_thread(&s, i, sleep_for(1500));
    for (int i = 0; i < 20; i++)
        fetch(&s, "GET", "/", &r, 200);
    ask_for_a_thread(&s, 2, sleep_for(1500));
    client_open(&clients[3], &s);
    ask(&clients[3], "/");
    client_expect_silence(&clients[3], 300);
    for (int i = 0; i < 4; i++)
        expect_and_close(i, 200);
    server_stop(&s);
}
END_TEST

/* Those who find no place in the queue, and those who come then, wait in the kernel. All are
 * answered in the end. */
START_TEST(full_queue_keeps_clients_out)
{
    enum { QUEUE = 4, MORE = 8 };
    struct server s;

    server_start(&s, "-w 1 --threads 1 --queue 4");
    ask_for_a_thread(&s, 0, sleep_for(1500));
    for (int i = 1; i <= QUEUE + MORE; i++) {
        client_open(&clients[i], &s);
        client_say(&clients[i], "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        if (i <= QUEUE)
            eventually(json_number(status_of(&s), "waiting") == i, PATIENCE_MS);
    }
    eventually(strstr(status_of(&s), "\"state\":\"full "), PATIENCE_MS);
    ck_assert_int_eq(json_number(status_of(&s), "waiting"), QUEUE);
    ck_assert_int_eq(json_number(status_of(&s), "connections"), 1 + QUEUE);
    client_expect_silence(&clients[QUEUE + MORE], 100);
    for (int i = 0; i <= QUEUE + MORE; i++)
        client_expect(&clients[i], &r, 200);
    eventually(strstr(status_of(&s), "\"state\":\"ready\""), PATIENCE_MS);
    ck_assert_int_eq(json_number(status_of(&s), "waiting"), 0);
    ck_assert_int_eq(json_number(status_of(&s), "connections"), 1 + QUEUE + MORE);
    for (int i = 0; i <= QUEUE + MORE; i++)
        client_close(&clients[i]);
    server_stop(&s);
}
END_TEST

/* Client i has sent a part of a request, and a thread has read it. */
static void send_half(const struct server *s, int i)
{
    client_open(&clients[i], s);
    client_say(&clients[i], "GET / HT");
    client_settle(&clients[i]);
}

/* The only thread sleeps. Whose time is up meanwhile, and who says nothing, is ended by the
 * thread that waits. */
START_TEST(time_is_up_while_all_threads_sleep)
{
    struct server s;
    int64_t began;

    server_start(&s, "-w 1 --threads 1 -t 1 -k 1");
    send_half(&s, 1);
    client_open(&clients[2], &s);
    began = clock_ms();
    ask_for_a_thread(&s, 0, sleep_for(4000));
    client_expect_close(&clients[2], 3000);
    client_expect(&clients[1], &r, 408);
    ck_assert_int_lt(clock_ms() - began, scaled_ms(3500));
    client_expect_silence(&clients[0], 100);
    expect_and_close(0, 200);
    client_close(&clients[1]);
    client_close(&clients[2]);
    server_stop(&s);
}
END_TEST

/* Of those that wait in the queue for the only thread, it judges: what came is read first. */
START_TEST(time_is_up_in_the_queue)
{
    struct server s;

    server_start(&s, "-w 1 --threads 1 -t 1");
    send_half(&s, 1);
    send_half(&s, 2);
    ask_for_a_thread(&s, 0, sleep_for(2500));
    client_say(&clients[1], "TP/1.1\r\n");
    client_say(&clients[2], "TP/1.1\r\nHost: x\r\n\r\n");
    eventually(json_number(status_of(&s), "waiting") == 2, 900);
    client_expect_silence(&clients[1], 1200);
    expect_and_close(0, 200);
    expect_and_close(1, 408);
    expect_and_close(2, 200);
    server_stop(&s);
}
END_TEST

/* Its idle time is over while a thread has it in hand, and it is answered all the same. */
START_TEST(time_is_up_in_hand)
{
    struct server s;

    server_start(&s, "-w 1 --threads 2 -k 1 -t 1");
    ask_for_a_thread(&s, 0, sleep_for(2500));
    ask_for_a_thread(&s, 1, sleep_for(2500));
    for (int i = 0; i < 2; i++) {
        client_expect(&clients[i], &r, 200);
        client_expect_close(&clients[i], 3000); /* idle from now on */
        client_close(&clients[i]);
    }
    server_stop(&s);
}
END_TEST

/* Who waits looks away from the listener, and sleeps: a thread that closes wakes it. */
START_TEST(closing_lets_the_next_in)
{
    struct server s;

    server_start(&s, "-w 1 --threads 2 -c 1");
    for (int i = 0; i < 50; i++) {
        client_open(&clients[0], &s);
        client_open(&clients[1], &s);
        ask(&clients[1], "/");
        client_say(&clients[0], "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        client_expect(&clients[0], &r, 200);
        client_close(&clients[0]);
        expect_and_close(1, 200);
    }
    server_stop(&s);
}
END_TEST

/* ---- stages 6 and 7: handlers that wait, and one that computes ---- */

/* A hundred at once, and one worker: nobody waits for another. */
START_TEST(sleeping_handlers_hold_up_nobody)
{
    enum { SLEEPERS = 100, MS = 1000 };
    struct client *sleepers = calloc(SLEEPERS, sizeof *sleepers);
    struct server s;
    int64_t began;

    server_start(&s, "-w 1");
    began = clock_ms();
    for (int i = 0; i < SLEEPERS; i++) {
        client_open(&sleepers[i], &s);
        ask(&sleepers[i], sleep_for(MS));
    }
    for (int i = 0; i < 5; i++)
        fetch(&s, "GET", "/", &r, 200);
    ck_assert_int_lt(clock_ms() - began, scaled_ms(MS));
    for (int i = 0; i < SLEEPERS; i++) {
        client_expect(&sleepers[i], &r, 200);
        client_close(&sleepers[i]);
    }
    ck_assert_int_ge(clock_ms() - began, MS);
    ck_assert_int_lt(clock_ms() - began, scaled_ms(3 * MS));
    free(sleepers);
    server_stop(&s);
}
END_TEST

/* Who computes does not come back to the loop; even a sleep is over too late. */
START_TEST(computing_handler_holds_up_all)
{
    struct client busy, sleeper, fresh;
    struct server s;
    int64_t began;

    server_start(&s, "-w 1");
    client_open(&busy, &s);
    client_open(&sleeper, &s);
    client_open(&fresh, &s);
    ask(&sleeper, "/sleep?ms=200");
    client_settle(&sleeper);
    began = clock_ms();
    ask(&busy, "/burn?ms=400");
    client_settle(&busy);
    ask(&fresh, "/");
    client_expect(&fresh, &r, 200);
    ck_assert_int_ge(clock_ms() - began, 350);
    client_expect(&sleeper, &r, 200);
    client_expect(&busy, &r, 200);
    client_close(&busy);
    client_close(&sleeper);
    client_close(&fresh);
    server_stop(&s);
}
END_TEST

static void add_tests(TCase *tc)
{
    bool threads = strcmp(mode->model, "threads") == 0;
    bool aside =
        strcmp(mode->model, "callbacks") == 0 || strcmp(mode->model, "coroutines") == 0;
    bool stage4 = strncmp(mode->name, "stage4", 6) == 0, later = threads || aside;

    if (mode->at_once < INT_MAX) {
        tcase_add_test(tc, silent_clients_block);
        tcase_add_test(tc, one_silent_client_less_does_not);
    } else {
        tcase_add_test(tc, silent_clients_do_not_block);
        tcase_add_test(tc, clients_that_never_read_do_not_block);
    }
    tcase_add_test(tc, idle_server_sleeps);
    if (mode->workers) {
        tcase_add_test(tc, killed_worker_is_replaced);
        tcase_add_test(tc, all_workers_are_replaced);
        tcase_add_test(tc, queue_of_killed_worker_is_not_lost);
        tcase_add_test(tc, no_worker_outlives_a_killed_parent);
    }
    if (threads) {
        tcase_add_test(tc, as_many_handlers_may_sleep_as_there_are_threads);
        tcase_add_test(tc, full_queue_keeps_clients_out);
        tcase_add_test(tc, time_is_up_while_all_threads_sleep);
        tcase_add_test(tc, time_is_up_in_the_queue);
        tcase_add_test(tc, time_is_up_in_hand);
        tcase_add_test(tc, closing_lets_the_next_in);
    }
    if (strncmp(mode->name, "stage3", 6) == 0)
        tcase_add_test(tc, offered_1500_clients);
    if (aside) {
        tcase_add_test(tc, sleeping_handlers_hold_up_nobody);
        tcase_add_test(tc, computing_handler_holds_up_all);
    }
    if (stage4 || later)
        tcase_add_test(tc, worker_that_dies_at_start_backs_off);
    if (strcmp(mode->name, "stage4-reuseport") == 0 ||
        strcmp(mode->name, "stage4-edge") == 0 || later)
        tcase_add_test(tc, workers_share_the_clients);
    if ((stage4 && strcmp(mode->name, "stage4-exclusive") != 0) || later)
        tcase_add_test(tc, holds_10000_idle_clients);
}

int main(void)
{
    return harness_run("stages", add_tests, 20);
}
