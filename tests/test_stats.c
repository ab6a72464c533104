/* test_stats.c - stats.c: one cell a worker, shared between processes, that outlives it.
 * Does not: measure; that the cells keep apart in the caches is checked by their size. */
#include "stats.h"

#include <check.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

static void make_board(int slots)
{
    struct options opt = {
        .name = "test", .address = "127.0.0.1", .port = 1, .workers = slots
    };

    stats_setup(&opt, NULL);
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

START_TEST(all_slots)
{
    make_board(64);
    for (int i = 0; i < 64; i++)
        run_worker(i, (uint64_t)i, false);
    for (int i = 0; i < 64; i++)
        ck_assert_uint_eq(stats_get(&stats_cell(i, 0)->requests), (uint64_t)i);
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
    tcase_add_test(t, all_slots);
    suite_add_tcase(s, t);

    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
