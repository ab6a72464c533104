/* test_stats.c - stats.c: one cell a worker, shared between processes, that outlives it.
 * Does not: measure; that the cells keep apart in the caches is checked by their size. */
#include "board/stats.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

static void make_board(int slots)
{
    struct options opt = {
        .name = "test", .address = "127.0.0.1", .port = 1, .workers = slots
    };

    stats_setup(&opt);
}

START_TEST(before_setup)
{
    ck_assert_ptr_nonnull(stats);
    ck_assert_int_eq(stats_slot(), 0);
    stats_add(&stats->requests, 2);
    stats_add(&stats->requests, 3);
    ck_assert_uint_eq(stats_get(&stats->requests), 5);
    stats_set(&stats->requests, 1);
    ck_assert_uint_eq(stats_get(&stats->requests), 1);
}
END_TEST

/* Two workers on two cpus must not write to one cache line, nor to two that are fetched
 * together. */
START_TEST(cells_keep_apart)
{
    ck_assert_uint_eq(sizeof(struct stats) % 128, 0);
    ck_assert_uint_eq(_Alignof(struct stats), 128);
    make_board(3);
    ck_assert_uint_eq(board->slots, 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq((uintptr_t)stats_cell(i, 0) % 128, 0);
        ck_assert_uint_eq(stats_get(&stats_cell(i, 0)->requests), 0);
        ck_assert_uint_eq(stats_get(&stats_cell(i, 0)->restarts), 0);
    }
    ck_assert_ptr_eq(stats_cell(0, 1), stats_cell(0, 0) + 1);
    ck_assert_ptr_eq(stats_cell(1, 0), stats_cell(0, 1) + 1);
}
END_TEST

static void run_worker(int slot, uint64_t requests, bool crash)
{
    pid_t pid = fork();
    int status;

    ck_assert_int_ne(pid, -1);
    if (pid == 0) {
        stats_take(slot, 0);
        stats_add(&stats->requests, requests);
        stats_add(&stats->connections, 7);
        if (stats_slot() != slot || stats != stats_cell(slot, 0))
            _exit(1);
        if (crash)
            kill(getpid(), SIGKILL);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(WIFEXITED(status) && WEXITSTATUS(status) != 0, 0);
    ck_assert_uint_eq(stats_get(&stats_cell(slot, 0)->pid), (uint64_t)pid);
}

START_TEST(counters_survive_a_crash)
{
    int64_t before = clock_ms();

    make_board(4);
    run_worker(2, 10, true);
    ck_assert_uint_eq(stats_get(&stats_cell(2, 0)->requests), 10);
    ck_assert_uint_eq(stats_get(&stats_cell(2, 0)->connections), 7);
    run_worker(2, 5, false);
    ck_assert_uint_eq(stats_get(&stats_cell(2, 0)->requests), 15);
    ck_assert_uint_eq(stats_get(&stats_cell(2, 0)->connections), 7); /* its own, not 14 */
    ck_assert_int_ge((int64_t)stats_get(&stats_cell(2, 0)->started_ms), before);
    ck_assert_int_le((int64_t)stats_get(&stats_cell(2, 0)->started_ms), clock_ms());
    for (int i = 0; i < 4; i++)
        if (i != 2)
            ck_assert_uint_eq(stats_get(&stats_cell(i, 0)->requests), 0);
}
END_TEST

/* What the parent writes between two workers stays. */
START_TEST(restarts_are_the_parents)
{
    make_board(2);
    stats_add(&stats_cell(1, 0)->restarts, 3);
    run_worker(1, 1, false);
    ck_assert_uint_eq(stats_get(&stats_cell(1, 0)->restarts), 3);
}
END_TEST

/* A file that is truncated under a mapping ends whoever touches it, by SIGBUS. */
START_TEST(cannot_be_truncated)
{
    char name[64];

    make_board(1);
    ck_assert_int_eq(ftruncate(stats_fd(), 0), -1);
    ck_assert_int_eq(errno, EPERM);
    snprintf(name, sizeof name, "/proc/%d/fd/%d", (int)getpid(), stats_fd());
    ck_assert_int_eq(truncate(name, 0), -1);
    ck_assert_int_eq(errno, EPERM);
}
END_TEST

/* A record for each descriptor that this process may have. */
START_TEST(every_descriptor)
{
    int last = options_max_fds() - 1;

    make_board(2);
    stats_take(1, 1);
    stats_conn(last)->requests = 7;
    ck_assert_uint_eq(stats_conns(stats_cell(1, 1))[last].requests, 7);
    ck_assert_uint_eq(stats_conns(stats_cell(1, 1))[last - 1].requests, 0);
    stats_conn(last + 1)->requests = 8; /* after a reload the limit may be higher */
    ck_assert_uint_eq(stats_conns(stats_cell(1, 1))[last].requests, 7);
}
END_TEST

/* A command finds the board by the pid of its server; a process without one has none. */
START_TEST(is_found_by_pid)
{
    pid_t pid;
    int status;

    ck_assert(!stats_look(getpid()));
    make_board(1);
    stats_add(&stats->requests, 42);
    pid = fork();
    if (pid == 0)
        _exit(stats_look(getppid()) ? (int)stats_get(&board->cells[0].requests) : 1);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(WEXITSTATUS(status), 42);
}
END_TEST

START_TEST(all_slots)
{
    make_board(64);
    for (int i = 0; i < 64; i++)
        run_worker(i, (uint64_t)i, false);
    for (int i = 0; i < 64; i++)
        ck_assert_uint_eq(stats_get(&stats_cell(i, 0)->requests), (uint64_t)i);
}
END_TEST

static void *count_as_thread_1(void *unused)
{
    (void)unused;
    stats_join(1);
    stats_add(&stats->requests, 3);
    stats_sub(&stats->connections, 1);
    stats_set(&stats->busy_since_ms, 400);
    stats_conn(7)->requests = 3;
    return NULL;
}

/* Threads count each in a cell of its own, and what is shown is the sum. */
START_TEST(threads_are_taken_together)
{
    struct stats total;
    pthread_t thread;

    make_board(2);
    stats_take(1, 0);
    stats_threads(2);
    stats_add(&stats->connections, 2);
    stats_add(&stats->requests, 1);
    stats_set(&stats->busy_since_ms, 500);
    ck_assert_int_eq(pthread_create(&thread, NULL, count_as_thread_1, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_eq(stats_get(&stats->requests), 1);
    stats_total(stats_cell(1, 0), &total);
    ck_assert_uint_eq(stats_get(&total.requests), 4);
    ck_assert_uint_eq(stats_get(&total.connections), 1);
    ck_assert_uint_eq(stats_get(&total.busy_since_ms), 400); /* the one that is longest */
    ck_assert_uint_eq(stats_get(&total.pid), (uint64_t)getpid());
    ck_assert_uint_eq(stats_conns(stats_cell(1, 0))[7].requests, 3);
    stats_total(stats_cell(1, 1), &total);
    ck_assert_uint_eq(stats_get(&total.requests), 0);
    stats_take(1, 0); /* a successor: only counters are left */
    stats_total(stats, &total);
    ck_assert_uint_eq(stats_get(&total.requests), 4);
    ck_assert_uint_eq(stats_get(&total.requests_before), 4);
    ck_assert_uint_eq(stats_get(&total.connections), 0);
    ck_assert_uint_eq(stats_get(&total.busy_since_ms), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("stats");
    TCase *t = tcase_create("stats");

    tcase_set_timeout(t, 30);
    tcase_add_test(t, before_setup);
    tcase_add_test(t, cells_keep_apart);
    tcase_add_test(t, counters_survive_a_crash);
    tcase_add_test(t, restarts_are_the_parents);
    tcase_add_test(t, cannot_be_truncated);
    tcase_add_test(t, every_descriptor);
    tcase_add_test(t, is_found_by_pid);
    tcase_add_test(t, all_slots);
    tcase_add_test(t, threads_are_taken_together);
    suite_add_tcase(s, t);

    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
