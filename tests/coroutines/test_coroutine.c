/* test_coroutine.c - stage 7's coroutines by themselves: turns, stacks, times, and calls
 * that let others run. Built twice: with the switch of this processor, and with ucontext.
 * Does not: start the stage; test_coroutines.c does.
 *
 * Each test is run for every kind of stack: an own one, an own one with its guard made by
 * mprotect(2), and the shared one. */
#include <check.h>
#include <errno.h>
#include <execinfo.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "../../stage7_coroutines/loop.h"
#include "base/clock.h"
#include "base/stop.h"
#include "conn/turn.h"
#include "harness/pair.h"

enum { OWN, OWN_PROTECTED, SHARED, KINDS };
enum { STACK = 65536, PAGE = 4096, MANY = 10000 };

static char order[256]; /* what was run, a letter each */
static struct coroutine *sleepers[MANY];
static int done;

static void note(char what)
{
    size_t n = strlen(order);

    ck_assert_uint_lt(n, sizeof(order) - 1);
    order[n] = what;
}

static void setup(int kind)
{
    ck_assert_int_eq(coroutine_setup(STACK, kind == SHARED, kind == OWN_PROTECTED), 0);
}

static struct coroutine *start(void (*run)(void *), void *arg)
{
    struct coroutine *co = coroutine_start(run, arg);

    ck_assert_ptr_nonnull(co);
    return co;
}

static void run_all(void)
{
    while (coroutine_ready())
        coroutine_run_ready();
}

/* ---- turns ---- */

static void thrice(void *name)
{
    for (int i = 0; i < 3; i++) {
        note(*(char *)name);
        coroutine_yield();
    }
}

START_TEST(in_turn)
{
    char names[] = "abc";

    setup(_i);
    for (int i = 0; i < 3; i++)
        start(thrice, &names[i]);
    run_all();
    ck_assert_str_eq(order, "abcabcabc");
    ck_assert_int_eq(coroutine_count(), 0);
    ck_assert_ptr_null(coroutine_running);
}
END_TEST

static void sleep_and_note(void *name)
{
    int why = coroutine_sleep();

    note(*(char *)name);
    note((char)('0' + why));
}

/* Woken in this order, and once; who is awake is not woken again. */
START_TEST(woken_in_order)
{
    struct coroutine *co[3];
    char names[] = "abc";

    setup(_i);
    for (int i = 0; i < 3; i++)
        co[i] = start(sleep_and_note, &names[i]);
    coroutine_wake(co[0], 7); /* it does not sleep yet */
    run_all();
    ck_assert_str_eq(order, "");
    ck_assert_int_eq(coroutine_count(), 3);
    coroutine_wake(co[2], 1);
    coroutine_wake(co[0], 2);
    coroutine_wake(co[2], 9);
    coroutine_wake(co[1], 3);
    run_all();
    ck_assert_str_eq(order, "c1a2b3");
    ck_assert_int_eq(coroutine_count(), 0);
}
END_TEST

static char abc[] = "abc";

static void start_more(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++)
        start(thrice, &abc[i]);
    note('s');
    coroutine_yield();
    note('e');
}

/* Who is started runs after those that are ready, not within. */
START_TEST(started_within)
{
    setup(_i);
    start(start_more, NULL);
    run_all();
    ck_assert_str_eq(order, "sabceabcabc");
}
END_TEST

/* A number that depends on every level, with a sleep in the deepest. Also floating-point
 * numbers, which live in registers of their own. */
static double descend(int level, double x)
{
    char filling[64], as_it_was[64];
    double below;

    memset(filling, level, sizeof(filling));
    memset(as_it_was, level, sizeof(as_it_was));
    if (level == 0) {
        coroutine_sleep();
        return x;
    }
    below = descend(level - 1, x * 1.5);
    if (memcmp(filling, as_it_was, sizeof(filling)) != 0)
        return -1e9;
    return below + level;
}

static void dive(void *arg)
{
    int level = *(int *)arg % 40;
    double expected = 1;

    for (int i = 0; i < level; i++)
        expected *= 1.5;
    expected += level * (level + 1) / 2.0;
    for (int i = 0; i < 3; i++)
        ck_assert(descend(level, 1) == expected);
    done++;
}

/* Each sleeps at another depth, and finds all that stands above it as it was. */
START_TEST(ten_thousand_sleep)
{
    static int numbers[MANY];

    setup(_i);
    for (int i = 0; i < MANY; i++) {
        numbers[i] = i;
        sleepers[i] = start(dive, &numbers[i]);
    }
    for (int round = 0; round < 3; round++) {
        run_all();
        ck_assert_int_eq(coroutine_count(), MANY);
        for (int i = 0; i < MANY; i++) /* in an order of its own */
            coroutine_wake(sleepers[(i * 7919 + round) % MANY], 0);
    }
    run_all();
    ck_assert_int_eq(done, MANY);
    ck_assert_int_eq(coroutine_count(), 0);
}
END_TEST

/* ---- stacks ---- */

static char *seen_at;

static void look_where(void *arg)
{
    char here;

    (void)arg;
    seen_at = &here;
    coroutine_yield();
}

/* Used last, used next: it is in the cache still. */
START_TEST(stacks_are_used_again)
{
    char *first;

    setup(_i);
    start(look_where, NULL);
    run_all();
    first = seen_at;
    for (int i = 0; i < 100; i++) {
        start(look_where, NULL);
        run_all();
        ck_assert_ptr_eq(seen_at, first);
    }
}
END_TEST

static long resident_kib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%*s %ld", &pages), 1);
    fclose(file);
    return pages * 4;
}

/* Memory is used, for all the compiler knows. */
static void use(char *bytes)
{
    __asm__ volatile("" : : "r"(bytes) : "memory");
}

static void use_40000(void *arg)
{
    char much[40000];

    (void)arg;
    memset(much, 1, sizeof(much));
    use(much);
    coroutine_sleep();
    use(much);
}

/* 2,000 stacks of ten pages each: more than half of the 80 MB are gone when they have ended. */
START_TEST(memory_goes_back)
{
    enum { N = 2000 };
    long before, most;

    setup(_i);
    before = resident_kib();
    for (int i = 0; i < N; i++)
        sleepers[i] = start(use_40000, NULL);
    run_all();
    most = resident_kib() - before;
    ck_assert_int_ge(most, N * 40000L / 1024);
    for (int i = 0; i < N; i++)
        coroutine_wake(sleepers[i], 0);
    run_all();
    ck_assert_int_eq(coroutine_count(), 0);
    if (_i != SHARED) /* there it is malloc's to keep it */
        ck_assert_int_lt(resident_kib() - before, most / 2);
}
END_TEST

static void go_down(void *bytes)
{
    long left = *(long *)bytes;
    char much[1024];

    use(much);
    if (left > 1024) {
        left -= 1024;
        go_down(&left);
    }
    use(much);
}

START_TEST(depth_is_known)
{
    long bytes = 20000;

    setup(_i);
    start(look_where, NULL);
    run_all();
    ck_assert_uint_ge(stack_deepest(), PAGE);
    ck_assert_uint_le(stack_deepest(), 2 * PAGE);
    for (int i = 0; i < 32;
         i++) { /* a stack that was used before is not looked at each time */
        start(go_down, &bytes);
        run_all();
    }
    ck_assert_uint_ge(stack_deepest(), 20000);
    ck_assert_uint_lt(stack_deepest(), STACK);
}
END_TEST

static struct coroutine *overflowing;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    const char *at = info->si_addr, *low = overflowing->stack.low;

    (void)sig;
    (void)context;
    _exit(at < low && at >= low - STACK_GUARD ? 42 : 1);
}

/* The first byte below a stack is not there. */
START_TEST(guard)
{
    static char room[65536];
    long bytes = STACK + 4096;
    stack_t other = { .ss_sp = room, .ss_size = sizeof(room) };
    struct sigaction action = { .sa_sigaction = on_fault,
                                .sa_flags = SA_SIGINFO | SA_ONSTACK };

    setup(_i);
    sigaltstack(&other, NULL);
    sigaction(SIGSEGV, &action, NULL);
    overflowing = start(go_down, &bytes);
    run_all();
}
END_TEST

static void *frames[64];
static int n_frames;

static void unwind(void *arg)
{
    (void)arg;
    n_frames = backtrace(frames, 64);
}

/* A backtrace from a coroutine ends where its stack does. */
START_TEST(backtrace_ends)
{
    setup(_i);
    start(unwind, NULL);
    run_all();
    ck_assert_int_ge(n_frames, 3);
    ck_assert_int_lt(n_frames, 16);
}
END_TEST

/* ---- timers ---- */

START_TEST(timers_in_order)
{
    enum { N = 2000 };
    struct timer *timers = calloc(N, sizeof(*timers));
    int64_t *due = calloc(N, sizeof(*due));
    int64_t now = 0;
    int left = 0;

    srand(1);
    for (int i = 0; i < N; i++)
        timers[i].due_ms = due[i] = TIMER_NEVER;
    for (int step = 0; step < 20 * N; step++) { /* set, set again, stop */
        int i = rand() % N;

        due[i] = rand() % 4 == 0 ? TIMER_NEVER : rand() % 10000;
        if (due[i] == TIMER_NEVER)
            timer_stop(&timers[i]);
        else
            ck_assert_int_eq(timer_set(&timers[i], due[i]), 0);
    }
    for (int i = 0; i < N; i++)
        left += due[i] != TIMER_NEVER;
    while (timer_next_ms() != TIMER_NEVER) {
        struct timer *t;

        now = timer_next_ms();
        while ((t = timer_due(now))) {
            ck_assert_int_eq(due[t - timers], now);
            left--;
        }
    }
    ck_assert_int_eq(left, 0);
    free(timers);
    free(due);
}
END_TEST

/* ---- calls ---- */

static struct options opt = { .coroutines = MANY,
                              .max_connections = MANY,
                              .stack = STACK };
static int a[2], b[2]; /* connections: [0] is ours, [1] the peer's */
static ssize_t result;
static int error;
static int64_t took_ms;

/* first() and what it starts, with the whole loop around. */
static void run_loop(int kind, void (*first)(void))
{
    opt.shared_stack = kind == SHARED;
    tcp_pair(a, SOCK_NONBLOCK);
    tcp_pair(b, SOCK_NONBLOCK);
    loop_setup(&opt);
    loop_run(first);
    ck_assert_int_eq(coroutine_count(), 0);
}

static void set_ms(int fd, int name, int ms)
{
    struct timeval time = { ms / 1000, ms % 1000 * 1000 };

    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, name, &time, sizeof(time)), 0);
}

static void reset(int fd)
{
    struct linger now = { 1, 0 };

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
}

static void nap(long ms)
{
    struct timespec time = { ms / 1000, ms % 1000 * 1000000 };

    clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}

static void ticks(void *arg)
{
    for (int i = 0; i < 20; i++) {
        note(*(char *)arg);
        nap(10);
    }
}

static void receive_late(void)
{
    char byte;

    loop_start(ticks, abc, b[0]);
    set_ms(a[0], SO_RCVTIMEO, 100);
    took_ms = clock_ns() / 1000000;
    result = recv(a[0], &byte, 1, 0);
    error = errno;
    took_ms = clock_ns() / 1000000 - took_ms;
}

/* SO_RCVTIMEO ends a recv(2), and others have run. */
START_TEST(recv_times_out)
{
    run_loop(_i, receive_late);
    ck_assert_int_eq(result, -1);
    ck_assert_int_eq(error, EAGAIN);
    ck_assert_int_ge(took_ms, 100);
    ck_assert_int_lt(took_ms, 1000);
    ck_assert_uint_eq(strlen(order), 20);
}
END_TEST

static void send_late(void)
{
    static char much[8 << 20];

    set_ms(a[0], SO_SNDTIMEO, 100);
    result = send(a[0], much, sizeof(much), MSG_NOSIGNAL); /* a part of it */
    note('p');
    took_ms = clock_ns() / 1000000;
    error = send(a[0], much, 1, MSG_NOSIGNAL) == -1 ? errno : 0;
    took_ms = clock_ns() / 1000000 - took_ms;
}

/* What went before the time-out is told; nothing is EAGAIN. */
START_TEST(send_times_out)
{
    run_loop(_i, send_late);
    ck_assert_int_gt(result, 0);
    ck_assert_int_lt(result, 8 << 20);
    ck_assert_int_eq(error, EAGAIN);
    ck_assert_int_ge(took_ms, 100);
}
END_TEST

enum { LONG = 4 << 20 };
static int listener;
static bool same;

/* All of it, as if the calls slept. */
static void receive_long(int fd, char *bytes)
{
    size_t got = 0;
    ssize_t n;

    while (got < LONG && (n = recv(fd, bytes + got, LONG - got, 0)) > 0)
        got += (size_t)n;
    ck_assert_uint_eq(got, LONG);
}

static void echo(void *arg)
{
    int fd = *(int *)arg;
    char *bytes = malloc(LONG);

    receive_long(fd, bytes);
    ck_assert_int_eq(send(fd, bytes, LONG, MSG_NOSIGNAL), LONG);
    close(fd);
    free(bytes);
}

static void ask(void *arg)
{
    char *there = malloc(LONG), *back = malloc(LONG);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);

    (void)arg;
    for (size_t i = 0; i < LONG; i++)
        there[i] = (char)(i * 31 >> 7);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(send(fd, there, LONG, MSG_NOSIGNAL), LONG);
    receive_long(fd, back);
    same = memcmp(there, back, LONG) == 0;
    ck_assert_int_eq(recv(fd, back, 1, 0), 0);
    close(fd);
    free(there);
    free(back);
}

static void serve_echo(void)
{
    static int client;

    loop_start(ask, NULL, b[0]);
    client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(client, 0);
    loop_start(echo, &client, client);
}

/* accept4, connect, recv and send, all as if they slept: server and client in one loop. */
START_TEST(blocking_code_serves_itself)
{
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(listen(listener, 8), 0); /* on any port */
    run_loop(_i, serve_echo);
    ck_assert(same);
}
END_TEST

static void receive_to_the_end(void)
{
    char bytes[100];

    set_ms(a[0], SO_RCVTIMEO, 10);
    ck_assert_int_eq(recv(a[0], bytes, sizeof(bytes), 0), -1); /* it is watched now */
    set_ms(a[0], SO_RCVTIMEO, 1000);
    send(a[1], "last words", 10, 0);
    shutdown(a[1], SHUT_WR);
    nap(10);
    ck_assert_int_eq(recv(a[0], bytes, sizeof(bytes), 0), 10);
    result = recv(a[0], bytes, sizeof(bytes), 0);
}

/* The end came along with the last bytes: no other news would tell of it. */
START_TEST(end_with_the_bytes)
{
    result = -1;
    run_loop(_i, receive_to_the_end);
    ck_assert_int_eq(result, 0);
}
END_TEST

static void wait_on_the_number_again(void)
{
    int number = a[0], fds[2];
    char byte;

    set_ms(a[0], SO_RCVTIMEO, 20);
    send(a[1], "xy", 2, 0);
    ck_assert_int_eq(recv(a[0], &byte, 1, 0), 1); /* "more is there", it seems */
    ck_assert_int_eq(recv(a[0], &byte, 1, 0), 1);
    ck_assert_int_eq(recv(a[0], &byte, 1, 0), -1);
    reset(a[1]);
    nap(10); /* EPOLLERR for it is known by now */
    close(a[0]);
    ck_assert_int_eq(dup2(b[0], number), number); /* nobody tells us of this one */
    fds[0] = number;
    set_ms(number, SO_RCVTIMEO, 60);
    ck_assert_int_eq(recv(fds[0], &byte, 1, 0), -1);
    ck_assert_int_eq(errno, EAGAIN);
    send(b[1], "z", 1, 0);
    result = recv(number, &byte, 1, 0);
    note(byte);
}

/* A number that is given out again is another descriptor: nothing is left of the first. */
START_TEST(number_given_out_again)
{
    run_loop(_i, wait_on_the_number_again);
    ck_assert_int_eq(result, 1);
    ck_assert_str_eq(order, "z");
}
END_TEST

static int heard[2];

/* All that is there, byte by byte: no call has to wait. */
static void hear(void *arg)
{
    int me = arg == &b, other = !me;
    char byte;

    while (heard[me] < 1000) {
        ck_assert_int_eq(recv(me ? b[0] : a[0], &byte, 1, 0), 1);
        heard[me]++;
    }
    done++;
    ck_assert_int_ge(heard[other], 900);
}

static void two_hear(void)
{
    char bytes[1000] = { 0 };

    send(a[1], bytes, sizeof(bytes), 0);
    send(b[1], bytes, sizeof(bytes), 0);
    loop_start(hear, &a, a[0]);
    loop_start(hear, &b, b[0]);
}

/* One whose calls always succeed lets others run all the same. */
START_TEST(calls_that_succeed_are_shared)
{
    run_loop(_i, two_hear);
    ck_assert_int_eq(done, 2);
}
END_TEST

static void expect_cancelled(void)
{
    struct pollfd p = { b[0], POLLIN, 0 };
    struct timespec minute = { 60, 0 };
    char byte;

    ck_assert_int_eq(recv(b[0], &byte, 1, 0), -1);
    ck_assert_int_eq(errno, ECANCELED);
    ck_assert_int_eq(send(b[0], "x", 1, MSG_NOSIGNAL), -1);
    ck_assert_int_eq(errno, ECANCELED);
    ck_assert_int_eq(connect(b[0], NULL, 0), -1);
    ck_assert_int_eq(errno, ECANCELED);
    ck_assert_int_eq(socket(AF_INET, SOCK_STREAM, 0), -1);
    ck_assert_int_eq(errno, ECANCELED);
    ck_assert_int_eq(poll(&p, 1, 60000), 1);
    ck_assert_int_eq(p.revents, POLLERR);
    ck_assert_int_eq(clock_nanosleep(CLOCK_MONOTONIC, 0, &minute, NULL), ECANCELED);
    ck_assert_int_eq(recv(a[0], &byte, 1, 0), 0); /* its own: the kernel says */
    ck_assert_int_eq(send(a[0], &byte, 1, MSG_NOSIGNAL), -1);
    ck_assert_int_eq(errno, EPIPE);
}

static void wait_for_another(void *how)
{
    struct pollfd p = { b[0], POLLIN, 0 };
    struct timespec minute = { 60, 0 };
    char byte;

    if (*(char *)how == 'p')
        ck_assert_int_eq(poll(&p, 1, 60000), 1);
    else if (*(char *)how == 'r')
        ck_assert_int_eq(recv(b[0], &byte, 1, 0), -1);
    else
        ck_assert_int_eq(clock_nanosleep(CLOCK_MONOTONIC, 0, &minute, NULL), ECANCELED);
    expect_cancelled();
    close(a[0]);
    done++;
}

static char how;

static void client_resets(void)
{
    loop_start(wait_for_another, &how, a[0]);
    nap(20);
    shutdown(a[1], SHUT_WR); /* that is no reason yet: it may wait for its answer */
    nap(20);
    ck_assert_int_eq(done, 0);
    reset(a[1]);
}

/* The client goes while its coroutine waits for something else: that ends all waiting. */
START_TEST(cancelled)
{
    how = "prn"[_i / KINDS];
    run_loop(_i % KINDS, client_resets);
    ck_assert_int_eq(done, 1);
}
END_TEST

static void stop_soon(void)
{
    struct pollfd p = { b[0], POLLIN, 0 };
    struct itimerval tick = { { 0, 50000 }, { 0, 50000 } };
    struct timespec minute = { 60, 0 }, left = { 0, 0 };
    char byte;

    stopping = STOP_SOON;
    setitimer(ITIMER_REAL, &tick, NULL);
    ck_assert_int_eq(recv(b[0], &byte, 1, 0), -1);
    ck_assert_int_eq(errno, EINTR);
    ck_assert_int_eq(poll(&p, 1, 60000), -1);
    ck_assert_int_eq(errno, EINTR);
    ck_assert_int_eq(clock_nanosleep(CLOCK_MONOTONIC, 0, &minute, &left), EINTR);
    ck_assert_int_ge(left.tv_sec, 58);
    ck_assert_int_eq(accept4(b[0], NULL, NULL, 0), -1);
    done++;
}

static void ignore(int sig)
{
    (void)sig;
}

/* The tick of stop.h interrupts whatever sleeps. */
START_TEST(interrupted)
{
    struct sigaction action = { .sa_handler = ignore };

    sigaction(SIGALRM, &action, NULL);
    run_loop(_i, stop_soon);
    ck_assert_int_eq(done, 1);
}
END_TEST

static void crowd(void *arg)
{
    (void)arg;
    done++;
    nap(20);
    done--;
}

static void start_crowd(void)
{
    for (int i = 0; i < 20; i++) {
        ck_assert_int_lt(done, 3);
        loop_start(crowd, NULL, a[0]);
    }
}

/* loop_start() returns when there is room for one more. */
START_TEST(limit)
{
    opt.coroutines = 3;
    run_loop(_i, start_crowd);
    ck_assert_int_eq(done, 0);
}
END_TEST

static void hold(void *arg)
{
    memset(turn.input, *(char *)arg, 100);
    memset(turn.output, *(char *)arg, 200);
    turn.input_len = 100;
    turn.output_len = 200;
    turn.now = 0;
    nap(*(char *)arg == 'a' ? 30 : 10);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(turn.input[i], *(char *)arg);
    for (int i = 0; i < 200; i++)
        ck_assert_int_eq(turn.output[i], *(char *)arg);
    ck_assert_uint_eq(turn.input_len, 100);
    ck_assert_uint_eq(turn.output_len, 200);
    ck_assert_int_gt(turn.now, 0);
    turn.input_len = turn.output_len = 0;
    done++;
}

static void hold_both(void)
{
    loop_start(hold, &abc[0], a[0]);
    loop_start(hold, &abc[1], b[0]);
}

/* The scratch is everybody's: who waits finds its own bytes there again. */
START_TEST(scratch_is_put_aside)
{
    run_loop(_i, hold_both);
    ck_assert_int_eq(done, 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("coroutine");
    TCase *t = tcase_create("coroutine");

    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, in_turn, 0, KINDS);
    tcase_add_loop_test(t, woken_in_order, 0, KINDS);
    tcase_add_loop_test(t, started_within, 0, KINDS);
    tcase_add_loop_test(t, ten_thousand_sleep, 0, KINDS);
    tcase_add_loop_test(t, stacks_are_used_again, 0, KINDS);
    tcase_add_loop_test(t, memory_goes_back, 0, KINDS);
    tcase_add_loop_test(t, depth_is_known, 0, KINDS);
    tcase_add_loop_exit_test(t, guard, 42, 0, KINDS);
    tcase_add_loop_test(t, backtrace_ends, 0, KINDS);
    tcase_add_test(t, timers_in_order);
    tcase_add_loop_test(t, recv_times_out, 0, KINDS);
    tcase_add_loop_test(t, send_times_out, 0, KINDS);
    tcase_add_loop_test(t, blocking_code_serves_itself, 0, KINDS);
    tcase_add_loop_test(t, end_with_the_bytes, 0, KINDS);
    tcase_add_loop_test(t, number_given_out_again, 0, KINDS);
    tcase_add_loop_test(t, calls_that_succeed_are_shared, 0, KINDS);
    tcase_add_loop_test(t, cancelled, 0, 3 * KINDS);
    tcase_add_loop_test(t, interrupted, 0, KINDS);
    tcase_add_loop_test(t, limit, 0, KINDS);
    tcase_add_loop_test(t, scratch_is_put_aside, 0, KINDS);
    suite_add_tcase(s, t);

    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
