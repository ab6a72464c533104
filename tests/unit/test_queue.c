/* test_queue.c - stage 5's bounded queue: order, its bound, who is woken.
 * Does not: start the stage. */
#include "../../stage5_reactor_threads/queue.h"

#include <check.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "board/stats.h"
#include "conn/conn.h"

enum { SIZE = 4, TAKERS = 4, MANY = 20000 };

static struct queue queue;
static struct conn conns[SIZE + 1];
static atomic_int taken[MANY];
static atomic_int held;    /* connections that takers hold on to ... */
static atomic_bool let_go; /* ... until this */

static void set_up(void)
{
    queue_open(&queue, SIZE);
}

/* n from conns[at] on. */
static void push(int at, int n)
{
    struct conn *some[SIZE];

    for (int i = 0; i < n; i++)
        some[i] = &conns[at + i];
    queue_push(&queue, some, n);
}

static void expect(int i)
{
    struct conn *c = queue_take(&queue);

    ck_assert_ptr_eq(c, &conns[i]);
    ck_assert_int_eq(c->owner, OWNER_THREAD);
    conn_pass(c, OWNER_THREAD, OWNER_LOOP);
}

START_TEST(first_in_first_out)
{
    for (int round = 0; round < 5; round++) { /* round the ring */
        push(0, 3);
        ck_assert_int_eq(queue_room(&queue, 0), 1);
        ck_assert_uint_eq(stats_get(&stats->waiting), 3);
        expect(0);
        push(3, 1);
        expect(1);
        expect(2);
        expect(3);
        ck_assert_int_eq(queue_room(&queue, 0), SIZE);
        ck_assert_uint_eq(stats_get(&stats->waiting), 0);
    }
}
END_TEST

START_TEST(what_is_there_is_taken_after_the_end)
{
    push(0, 2);
    queue_close(&queue);
    expect(0);
    expect(1);
    ck_assert_ptr_null(queue_take(&queue));
}
END_TEST

START_TEST(no_more_than_its_size)
{
    push(0, SIZE);
    push(SIZE, 1);
}
END_TEST

static void *take_two(void *unused)
{
    (void)unused;
    usleep(20000);
    for (int i = 0; i < 2; i++)
        expect(i);
    return NULL;
}

/* Who asks for room sleeps; half of it wakes. Meanwhile the scoreboard says so. */
START_TEST(full)
{
    int64_t began = clock_ms();
    pthread_t thread;

    push(0, SIZE);
    ck_assert_uint_eq(stats_get(&stats->full_since_ms), 0);
    ck_assert_int_eq(queue_room(&queue, 50), 0);
    ck_assert_int_ge(clock_ms() - began, 45);
    ck_assert_uint_ne(stats_get(&stats->full_since_ms), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, take_two, NULL), 0);
    ck_assert_int_eq(queue_room(&queue, -1), 0); /* there was none */
    ck_assert_int_eq(queue_room(&queue, -1), 2);
    ck_assert_uint_eq(stats_get(&stats->full_since_ms), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

static void *take_and_hold(void *unused)
{
    struct conn *c;

    (void)unused;
    while ((c = queue_take(&queue))) {
        held++;
        while (!let_go)
            usleep(1000);
        held--;
        conn_pass(c, OWNER_THREAD, OWNER_LOOP);
    }
    return NULL;
}

static void start(pthread_t threads[], void *(*body)(void *))
{
    for (int i = 0; i < TAKERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, body, NULL), 0);
}

static void end(pthread_t threads[])
{
    queue_close(&queue);
    for (int i = 0; i < TAKERS; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}

static void await_held(int n)
{
    for (int ms = 0; held != n; ms++) {
        ck_assert_msg(ms < 5000, "%d are held, not %d", held, n);
        usleep(1000);
    }
}

/* One push, and all threads sleep: nobody waits while a thread has nothing to do, though a
 * thread is woken by the one before it. */
START_TEST(as_many_as_there_are_threads_are_taken)
{
    pthread_t threads[TAKERS];

    start(threads, take_and_hold);
    for (int round = 0; round < 20; round++) {
        let_go = false;
        usleep((unsigned)round % 3 * 1000); /* asleep, or on the way there */
        push(0, round % SIZE + 1);
        await_held(round % SIZE + 1);
        let_go = true;
        await_held(0);
        for (int i = 0; i < SIZE; i++)
            while (conns[i].owner != OWNER_LOOP)
                usleep(1000);
    }
    end(threads);
}
END_TEST

static void *take_many(void *unused)
{
    struct conn *c;

    (void)unused;
    while ((c = queue_take(&queue))) {
        taken[c->requests]++;
        free(c);
    }
    return NULL;
}

/* Each is taken once, however the threads fall asleep and wake. */
START_TEST(each_is_taken_once)
{
    pthread_t threads[TAKERS];
    struct conn *some[SIZE];
    uint32_t next = 0;

    start(threads, take_many);
    while (next < MANY) {
        int room = queue_room(&queue, -1);
        int n = 0;

        while (n < room && next < MANY) {
            some[n] = calloc(1, sizeof *some[n]);
            some[n++]->requests = next++;
        }
        queue_push(&queue, some, n);
    }
    end(threads);
    for (int i = 0; i < MANY; i++)
        ck_assert_int_eq(taken[i], 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("queue");
    TCase *tc = tcase_create("queue");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, set_up, NULL);
    tcase_add_test(tc, first_in_first_out);
    tcase_add_test(tc, what_is_there_is_taken_after_the_end);
    tcase_add_test_raise_signal(tc, no_more_than_its_size, SIGABRT);
    tcase_add_test(tc, full);
    tcase_add_test(tc, as_many_as_there_are_threads_are_taken);
    tcase_add_test(tc, each_is_taken_once);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
