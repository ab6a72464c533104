/* test_share.c - connections that threads share: they change hands by name, and the one that
 * waits looks after their deadlines, whoever has them.
 * Does not: start a stage. */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "conn/conn.h"
#include "conn/turn.h"

enum { IDLE_MS = 40, MESSAGE_MS = 60, N = 3 };

static struct options opt = { .name = "test",
                              .keepalive_ms = IDLE_MS,
                              .request_timeout_ms = MESSAGE_MS,
                              .reply_timeout_ms = 1000,
                              .max_body = 1000 };
static struct deadlines deadlines;
static struct conn *conns[N];
static int peers[N];

/* This thread is the one that waits. */
static void set_up(void)
{
    conn_setup(&opt, false);
    deadline_share(&deadlines);
    for (int i = 0; i < N; i++) {
        int fds[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
        conns[i] = conn_open(fds[0]);
        peers[i] = fds[1];
    }
}

static void tear_down(void)
{
    for (int i = 0; i < N; i++) {
        if (conns[i])
            conn_close(conns[i]);
        close(peers[i]);
    }
    ck_assert_int_eq(conn_count, 0);
    for (int clock = 0; clock < CLOCKS; clock++)
        ck_assert_ptr_null(deadlines.lists[clock].first);
}

static void let_pass(int ms)
{
    int64_t end = clock_ms() + ms;

    while (clock_ms() <= end)
        usleep(1000);
}

static void lend(struct conn *c)
{
    conn_pass(c, OWNER_LOOP, OWNER_QUEUE);
    conn_pass(c, OWNER_QUEUE, OWNER_THREAD);
}

/* As a stage's thread does it. */
static bool give_back(struct conn *c)
{
    bool early;

    pthread_mutex_lock(&deadlines.lock);
    early = deadline_resume(c);
    conn_pass(c, OWNER_THREAD, OWNER_LOOP);
    pthread_mutex_unlock(&deadlines.lock);
    return early;
}

/* Run by another thread. */
static void *fill(void *c)
{
    deadline_share(&deadlines);
    conn_fill(c);
    return NULL;
}

static void fill_elsewhere(struct conn *c)
{
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, fill, c), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

static void say(int i, const char *text)
{
    ck_assert_int_eq(send(peers[i], text, strlen(text), 0), (ssize_t)strlen(text));
}

static const char *heard(int i)
{
    static char text[4096];
    ssize_t n = recv(peers[i], text, sizeof text - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

START_TEST(it_passes_from_where_it_is)
{
    conn_pass(conns[0], OWNER_LOOP, OWNER_QUEUE);
    conn_pass(conns[0], OWNER_LOOP, OWNER_QUEUE); /* told of twice */
}
END_TEST

/* Nobody is named who is in other hands; back again, each is, the first first. */
START_TEST(only_the_loops_are_named)
{
    lend(conns[0]);
    lend(conns[1]);
    let_pass(IDLE_MS);
    ck_assert_ptr_eq(conn_expired(), conns[2]);
    give_back(conns[0]);
    ck_assert_ptr_eq(conn_expired(), conns[0]);
    conn_close(conns[0]);
    conn_close(conns[2]);
    conns[0] = conns[2] = NULL;
    ck_assert_ptr_null(conn_expired());
    give_back(conns[1]);
    ck_assert_ptr_eq(conn_expired(), conns[1]);
}
END_TEST

/* Time that was up while a thread had it, and the thread starts it anew. */
START_TEST(a_thread_starts_its_time_anew)
{
    for (int i = 0; i < N; i++)
        lend(conns[i]);
    let_pass(IDLE_MS);
    ck_assert_ptr_null(conn_expired());
    say(1, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    fill_elsewhere(conns[1]);
    ck_assert_msg(strncmp(heard(1), "HTTP/1.1 200", 12) == 0, "not answered");
    for (int i = 0; i < N; i++)
        give_back(conns[i]);
    ck_assert_ptr_ne(conn_expired(), conns[1]);
    ck_assert_int_gt(conns[1]->deadline, clock_ms());
    let_pass(IDLE_MS);
    for (int i = 0; i < N; i++) {
        struct conn *c = conn_expired();

        ck_assert_ptr_nonnull(c);
        for (int k = 0; k < N; k++)
            if (conns[k] == c)
                conns[k] = NULL;
        conn_close(c);
    }
    ck_assert_ptr_null(conn_expired());
}
END_TEST

/* Who waits has planned to sleep until the first deadline. One that is sooner rings, once. */
START_TEST(a_sooner_deadline_rings)
{
    opt.keepalive_ms = 60000;
    conn_setup(&opt, false);
    for (int i = 0; i < N; i++)
        deadline_start(conns[i], CLOCK_IDLE);
    ck_assert_int_gt(conn_timeout_ms(), 50000);
    for (int i = 0; i < N; i++)
        lend(conns[i]);
    deadline_start(conns[0], CLOCK_IDLE);
    ck_assert(!give_back(conns[0]));
    say(1, "GET / HT");
    say(2, "GET / HT");
    fill_elsewhere(conns[1]);
    fill_elsewhere(conns[2]);
    ck_assert(give_back(conns[1]));
    ck_assert(!give_back(conns[2]));
    ck_assert_int_lt(conn_timeout_ms(), 10000);
    opt.keepalive_ms = IDLE_MS;
}
END_TEST

/* A deadline that another thread started a moment ago, and entered late. */
START_TEST(the_lists_are_in_order_of_time)
{
    deadline_start(conns[1], CLOCK_SEND);
    turn.now += 20;
    deadline_start(conns[2], CLOCK_SEND);
    turn.now -= 10;
    deadline_start(conns[0], CLOCK_SEND);
    ck_assert_ptr_eq(deadlines.lists[CLOCK_SEND].first, conns[1]);
    ck_assert_ptr_eq(conns[1]->next, conns[0]);
    ck_assert_ptr_eq(conns[0]->next, conns[2]);
    ck_assert_ptr_eq(deadlines.lists[CLOCK_SEND].last, conns[2]);
    turn.now -= 20;
    deadline_start(conns[2], CLOCK_SEND);
    ck_assert_ptr_eq(deadlines.lists[CLOCK_SEND].first, conns[2]);
    ck_assert_ptr_eq(deadlines.lists[CLOCK_SEND].last, conns[0]);
}
END_TEST

/* The loop ends whose time is up, and runs no handler for what has come. */
START_TEST(the_loop_ends_who_said_nothing)
{
    struct conn *c;

    say(0, "GET / HT");
    conn_fill(conns[0]);
    say(1, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let_pass(MESSAGE_MS);
    while ((c = conn_expired())) {
        conn_expire(c);
        if (c == conns[0])
            ck_assert_int_eq(c->want, WANT_READ); /* lingers behind 408 */
        if (c != conns[2])
            continue;
        ck_assert_int_eq(c->want, WANT_CLOSE);
        conn_close(c);
        conns[2] = NULL;
    }
    ck_assert_ptr_null(conns[2]);
    ck_assert_msg(strncmp(heard(0), "HTTP/1.1 408", 12) == 0, "no 408");
    ck_assert_int_eq(conns[0]->clock, CLOCK_LINGER);
    ck_assert_int_eq(conns[1]->want, WANT_READ);
    ck_assert_str_eq(heard(1), "");
    lend(conns[1]); /* its event has come */
    fill_elsewhere(conns[1]);
    ck_assert_msg(strncmp(heard(1), "HTTP/1.1 200", 12) == 0, "not answered");
    give_back(conns[1]);
}
END_TEST

/* Idle ones are named when the process stops, but not those that a thread has. */
START_TEST(stopping_leaves_to_threads_what_they_have)
{
    lend(conns[0]);
    stopping = STOP_SOON;
    ck_assert_int_eq(conn_timeout_ms(), 0);
    for (int i = 1; i < N; i++) {
        ck_assert_ptr_eq(conn_expired(), conns[i]);
        conn_expire(conns[i]);
        ck_assert_int_eq(conns[i]->want, WANT_CLOSE);
        conn_close(conns[i]);
        conns[i] = NULL;
    }
    ck_assert_ptr_null(conn_expired());
    ck_assert_int_gt(conn_timeout_ms(), -2);
    give_back(conns[0]);
    ck_assert_ptr_eq(conn_expired(), conns[0]);
    stopping = RUNNING;
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("share");
    TCase *tc = tcase_create("share");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test_raise_signal(tc, it_passes_from_where_it_is, SIGABRT);
    tcase_add_test(tc, only_the_loops_are_named);
    tcase_add_test(tc, a_thread_starts_its_time_anew);
    tcase_add_test(tc, a_sooner_deadline_rings);
    tcase_add_test(tc, the_lists_are_in_order_of_time);
    tcase_add_test(tc, the_loop_ends_who_said_nothing);
    tcase_add_test(tc, stopping_leaves_to_threads_what_they_have);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
