/* test_supervisor.c - supervise() in a child, with workers that die on demand.
 * Does not: start a stage; every wait is for a fact and has a deadline. */
#include "process/supervisor.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/stop.h"
#include "board/stats.h"

enum { SLOTS = 3, FORKS = 32, PATIENCE_MS = 20000, STOP_TIMEOUT_MS = 2000 };

/* What a worker does after worker_begin(). */
enum behaviour {
    LIVES, /* until it is told to stop */
    DIES,  /* at once */
    STUCK, /* hears the signal and goes on */
    DEAF,  /* does not even hear it */
};

/* Seen by the test, by the supervisor and by the workers. */
static struct shared {
    _Atomic int behaviour;
    _Atomic int unable; /* so many times fork(2) fails */
    struct {
        _Atomic int forks; /* workers that have begun */
        _Atomic int64_t at_ms[FORKS];
        _Atomic int pid;
        _Atomic int slot, urg_blocked, others_blocked, sigint_ignored;
    } slots[SLOTS];
} * shared;

static pid_t supervisor;
static const struct options opt = { .name = "test",
                                    .address = "127.0.0.1",
                                    .port = 1,
                                    .workers = SLOTS,
                                    .stop_timeout_ms = STOP_TIMEOUT_MS };

/* ---- The supervisor's side ---- */

static void look_around(int slot)
{
    struct sigaction on_int;
    sigset_t mask;

    sigprocmask(SIG_BLOCK, NULL, &mask);
    sigaction(SIGINT, NULL, &on_int);
    shared->slots[slot].slot = stats_slot();
    shared->slots[slot].urg_blocked = sigismember(&mask, SIGURG);
    shared->slots[slot].others_blocked = sigismember(&mask, SIGTERM) +
                                         sigismember(&mask, SIGINT) +
                                         sigismember(&mask, SIGCHLD);
    shared->slots[slot].sigint_ignored = on_int.sa_handler == SIG_IGN;
}

static _Noreturn void work(int slot)
{
    int n;

    worker_begin(slot);
    look_around(slot);
    n = shared->slots[slot].forks;
    if (n < FORKS)
        shared->slots[slot].at_ms[n] = clock_ms();
    if (shared->behaviour == DEAF)
        signal(SIGTERM, SIG_IGN);
    shared->slots[slot].pid = getpid();
    shared->slots[slot].forks = n + 1; /* last: the test waits for it */
    if (shared->behaviour == DIES)
        _exit(3);
    while (!stopping || shared->behaviour == STUCK)
        poll(NULL, 0, 100000);
    _exit(EXIT_SUCCESS);
}

static pid_t spawn(int slot)
{
    pid_t pid;

    if (shared->unable > 0) {
        shared->unable--;
        errno = EAGAIN;
        return -1;
    }
    pid = fork();
    if (pid == 0)
        work(slot);
    return pid;
}

/* ---- The test's side ---- */

static void set_up(void)
{
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
    stats_setup(&opt);
    /* Orphaned workers become children of this process: it can tell whether there are any. */
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
}

static void start_supervisor(enum behaviour behaviour)
{
    shared->behaviour = behaviour;
    supervisor = fork();
    ck_assert_int_ne(supervisor, -1);
    if (supervisor == 0) {
        sigset_t mask;

        sigemptyset(&mask);
        sigaddset(&mask, SIGURG); /* stands for whatever was blocked before */
        sigprocmask(SIG_SETMASK, &mask, NULL);
        log_level = LOG_ERROR;
        _exit(supervise(&opt, spawn));
    }
}

/* Wait until `condition`; fail after PATIENCE_MS. */
#define eventually(condition)                                                            \
    do {                                                                                 \
        int64_t end_ = clock_ms() + PATIENCE_MS;                                         \
        while (!(condition)) {                                                           \
            ck_assert_msg(clock_ms() < end_, "not true in time: %s", #condition);        \
            poll(NULL, 0, 2);                                                            \
        }                                                                                \
    } while (0)

static int forks_of_all(void)
{
    int n = 0;

    for (int i = 0; i < SLOTS; i++)
        n += shared->slots[i].forks;
    return n;
}

static void start_and_wait(enum behaviour behaviour)
{
    start_supervisor(behaviour);
    for (int i = 0; i < SLOTS; i++)
        eventually(shared->slots[i].forks > 0);
}

static bool reaped(pid_t pid, int *status)
{
    return waitpid(pid, status, WNOHANG) == pid;
}

/* True: neither children nor orphans are left. */
static bool alone(void)
{
    while (waitpid(-1, NULL, WNOHANG) > 0)
        continue;
    return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD;
}

/* It exits with 0, and has left no child behind, alive or dead. */
static void expect_clean_end(void)
{
    int status;

    eventually(reaped(supervisor, &status));
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x",
                  (unsigned)status);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    ck_assert_int_eq(errno, ECHILD);
    for (int i = 0; i < SLOTS; i++)
        ck_assert_uint_eq(stats_get(&stats_cell(i, 0)->pid), 0);
}

static void end_supervisor(void)
{
    ck_assert_int_eq(kill(supervisor, SIGTERM), 0);
    expect_clean_end();
}

START_TEST(starts_one_worker_a_slot)
{
    start_and_wait(LIVES);
    for (int i = 0; i < SLOTS; i++) {
        ck_assert_int_eq(shared->slots[i].forks, 1);
        ck_assert_int_eq(shared->slots[i].slot, i);
        ck_assert_uint_eq(stats_get(&stats_cell(i, 0)->pid),
                          (uint64_t)shared->slots[i].pid);
        ck_assert_uint_eq(stats_get(&stats_cell(i, 0)->restarts), 0);
    }
    end_supervisor();
    ck_assert_int_eq(forks_of_all(), SLOTS);
}
END_TEST

START_TEST(worker_has_the_signals_of_before)
{
    start_and_wait(LIVES);
    for (int i = 0; i < SLOTS; i++) {
        ck_assert_int_eq(shared->slots[i].urg_blocked, 1);
        ck_assert_int_eq(shared->slots[i].others_blocked, 0);
        ck_assert_int_eq(shared->slots[i].sigint_ignored, 1);
    }
    end_supervisor();
}
END_TEST

START_TEST(killed_worker_is_replaced)
{
    start_and_wait(LIVES);
    pid_t first = shared->slots[1].pid,
          others[2] = { shared->slots[0].pid, shared->slots[2].pid };
    ck_assert_int_eq(kill(first, SIGKILL), 0);
    eventually(shared->slots[1].forks == 2);
    ck_assert_int_ne(shared->slots[1].pid, first);
    ck_assert_int_eq(kill(first, 0), -1); /* not even a zombie: that would be found */
    ck_assert_int_eq(errno, ESRCH);
    ck_assert_uint_eq(stats_get(&stats_cell(1, 0)->restarts), 1);
    ck_assert_int_eq(shared->slots[0].pid, others[0]);
    ck_assert_int_eq(shared->slots[2].pid, others[1]);
    ck_assert_int_eq(forks_of_all(), SLOTS + 1);
    end_supervisor();
}
END_TEST

/* All at once: one SIGCHLD may stand for several. */
START_TEST(all_killed_are_replaced)
{
    pid_t first[SLOTS];

    start_and_wait(LIVES);
    for (int i = 0; i < SLOTS; i++) {
        first[i] = shared->slots[i].pid;
        ck_assert_int_eq(kill(first[i], SIGKILL), 0);
    }
    for (int i = 0; i < SLOTS; i++) {
        eventually(shared->slots[i].forks == 2);
        ck_assert_int_eq(kill(first[i], 0), -1);
    }
    end_supervisor();
    ck_assert_int_eq(forks_of_all(), 2 * SLOTS);
}
END_TEST

/* Between two forks for one slot there is at least the back-off: 10 ms, 20, 40 ... */
START_TEST(dying_workers_back_off)
{
    enum { SEEN = 7, TICK_MS = 8 /* two steps of the coarse clock */ };

    start_supervisor(DIES);
    for (int i = 0; i < SLOTS; i++)
        eventually(shared->slots[i].forks >= SEEN);
    shared->behaviour = LIVES;
    for (int i = 0; i < SLOTS; i++) {
        int pause = RESPAWN_MIN_MS;

        for (int n = 1; n < SEEN; n++) {
            int64_t between = shared->slots[i].at_ms[n] - shared->slots[i].at_ms[n - 1];

            ck_assert_msg(between >= pause - TICK_MS,
                          "slot %d: fork %d came %d ms after the one before, expected %d",
                          i, n, (int)between, pause);
            pause = pause < RESPAWN_MAX_MS ? pause * 2 : pause;
        }
        ck_assert_int_le(shared->slots[i].forks, FORKS);
        ck_assert_uint_ge(stats_get(&stats_cell(i, 0)->restarts), SEEN - 1);
    }
    end_supervisor();
}
END_TEST

/* It does not wait for the end of a back-off. */
START_TEST(sigterm_within_a_back_off)
{
    start_supervisor(DIES);
    for (int i = 0; i < SLOTS; i++)
        eventually(shared->slots[i].forks >= 5);
    end_supervisor();
}
END_TEST

/* A worker that lived long enough is replaced without a pause, although those before it
 * died young, one after the other, until the pause was the longest there is. */
START_TEST(old_worker_is_replaced_at_once)
{
    enum { YOUNG = 8 };

    start_supervisor(DIES);
    eventually(shared->slots[0].forks == YOUNG - 1);
    shared->behaviour = LIVES;
    eventually(shared->slots[0].forks == YOUNG);
    int64_t started = shared->slots[0].at_ms[YOUNG - 1];
    eventually(clock_ms() > started + YOUNG_MS + 10);
    int64_t killed = clock_ms();
    ck_assert_int_eq(kill(shared->slots[0].pid, SIGKILL), 0);
    eventually(shared->slots[0].forks == YOUNG + 1);
    ck_assert_int_lt(shared->slots[0].at_ms[YOUNG] - killed, RESPAWN_MAX_MS);
    end_supervisor();
}
END_TEST

START_TEST(fork_failure_is_survived)
{
    shared->unable = 1;
    start_and_wait(LIVES);
    ck_assert_int_eq(shared->unable, 0);
    end_supervisor();
    ck_assert_int_eq(forks_of_all(), SLOTS);
}
END_TEST

START_TEST(ends_on)
{
    static const int signals[] = { SIGTERM, SIGINT };

    start_and_wait(LIVES);
    ck_assert_int_eq(kill(supervisor, signals[_i]), 0);
    expect_clean_end();
    ck_assert_int_eq(forks_of_all(), SLOTS);
}
END_TEST

/* Ctrl-C reaches the whole group: the workers leave the answer to their parent. */
START_TEST(worker_ignores_sigint)
{
    start_and_wait(LIVES);
    for (int i = 0; i < SLOTS; i++)
        ck_assert_int_eq(kill(shared->slots[i].pid, SIGINT), 0);
    end_supervisor();
    ck_assert_int_eq(forks_of_all(), SLOTS);
}
END_TEST

START_TEST(second_signal_kills)
{
    start_and_wait(DEAF);
    int64_t before = clock_ms();
    ck_assert_int_eq(kill(supervisor, SIGTERM), 0);
    /* Two that come together would be one. The first is seen by what it does: nothing is
     * started any more. */
    ck_assert_int_eq(kill(shared->slots[0].pid, SIGKILL), 0);
    eventually(kill(shared->slots[0].pid, 0) == -1 &&
               stats_get(&stats_cell(0, 0)->pid) == 0);
    ck_assert_int_eq(kill(supervisor, SIGTERM), 0);
    expect_clean_end();
    ck_assert_int_lt(clock_ms() - before, STOP_TIMEOUT_MS);
}
END_TEST

/* Deaf workers are killed by their parent, stuck ones end themselves. */
START_TEST(reluctant_workers_end)
{
    start_and_wait(_i ? DEAF : STUCK);
    end_supervisor();
    ck_assert_int_eq(forks_of_all(), SLOTS);
}
END_TEST

START_TEST(workers_die_with_their_supervisor)
{
    int status;

    start_and_wait(_i == 0 ? LIVES : STUCK);
    ck_assert_int_eq(kill(supervisor, SIGKILL), 0);
    eventually(reaped(supervisor, &status));
    eventually(alone());
    ck_assert_int_eq(forks_of_all(), SLOTS);
}
END_TEST

/* Killed while workers come and go: none slips through between fork and prctl. */
START_TEST(supervisor_killed_while_forking)
{
    int status;

    start_supervisor(DIES);
    eventually(forks_of_all() > _i);
    shared->behaviour = LIVES;
    ck_assert_int_eq(kill(supervisor, SIGKILL), 0);
    eventually(reaped(supervisor, &status));
    eventually(alone());
}
END_TEST

int main(void)
{
    Suite *s = suite_create("supervisor");
    TCase *t = tcase_create("supervisor");

    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, starts_one_worker_a_slot);
    tcase_add_test(t, worker_has_the_signals_of_before);
    tcase_add_test(t, killed_worker_is_replaced);
    tcase_add_test(t, all_killed_are_replaced);
    tcase_add_test(t, dying_workers_back_off);
    tcase_add_test(t, sigterm_within_a_back_off);
    tcase_add_test(t, old_worker_is_replaced_at_once);
    tcase_add_test(t, fork_failure_is_survived);
    tcase_add_loop_test(t, ends_on, 0, 2);
    tcase_add_test(t, worker_ignores_sigint);
    tcase_add_test(t, second_signal_kills);
    tcase_add_loop_test(t, reluctant_workers_end, 0, 2);
    tcase_add_loop_test(t, workers_die_with_their_supervisor, 0, 2);
    tcase_add_loop_test(t, supervisor_killed_while_forking, 0, 6);
    suite_add_tcase(s, t);

    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
