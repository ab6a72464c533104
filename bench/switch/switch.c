/* switch.c - what it costs to go from one stack to another, in nanoseconds: the switch of
 * stage 7, the same with `ret` at its end, ucontext, and two threads that hand over.
 * Does not: serve anybody, or measure what caches cost.
 *
 * usage: build/bench/switch [ROUNDS]    one line each: the median of ROUNDS (21), the least,
 * the most. Two switches make a round trip; a number is of one, and of half the calls and
 * returns around it.
 *
 * Why `ret` is dear: the processor keeps a list of the calls that have not returned, and
 * bets that each `ret` goes back to the last of them. A switch does not, and the bet is
 * lost: some 20 cycles. `pop; jmp` makes no such bet. But the call of the switch stays on
 * the list, so the returns that follow are bet on wrongly, one after the other, down to
 * where the list is right again. What the switch alone costs is not what it costs in a
 * program: hence the lines with calls around it. (Intel 64 and IA-32 Optimization Reference
 * Manual, "return stack buffer".) */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include "base/clock.h"

enum { STACK = 65536, ROUNDS = 21, ROUNDS_MAX = 1001, DEPTH = 8 };

/* Stage 7's files, compiled under names of their own: bench.mk. switch.h has the
 * contracts. */
typedef void switch_form(void **save, void *load);
typedef void *prepare_form(char *top, void (*entry)(void));
switch_form switch_jmp, switch_ret, switch_ucontext;
prepare_form prepare_jmp, prepare_ucontext;

static void *here, *there; /* what was saved of the two sides */
static switch_form *form;

/* The other side, in two ways. */
static void at_once(void)
{
    for (;;)
        form(&there, here);
}

/* [switch.deep] */
/* As in a server: the switch is so many calls deep, and whoever goes on returns from all of
 * them before the next. */
__attribute__((noinline)) static void go_deep(int level)
{
    if (level > 0)
        go_deep(level - 1);
    else
        form(&there, here);
    __asm__ volatile(""); /* no tail call: each level returns */
}

static void deep(void)
{
    for (;;)
        go_deep(DEPTH);
}

static void trips(long n)
{
    for (long i = 0; i < n; i++)
        form(&here, there);
}

static void prepare(switch_form *which, prepare_form *prepare_it, void (*other)(void))
{
    static _Alignas(16) char stack[STACK];

    form = which;
    there = prepare_it(stack + STACK, other);
}

/* --- two threads -------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn;

/* Take my turn n times, and give the other its own. */
static void take_turns(int mine, long n)
{
    pthread_mutex_lock(&mutex);
    for (long i = 0; i < n; i++) {
        while (turn != mine)
            pthread_cond_wait(&changed, &mutex);
        turn = !mine;
        pthread_cond_signal(&changed);
    }
    pthread_mutex_unlock(&mutex);
}

static void *other_thread(void *n)
{
    take_turns(1, *(const long *)n);
    return NULL;
}

static void thread_trips(long n)
{
    pthread_t other;

    turn = 0;
    if (pthread_create(&other, NULL, other_thread, &n) != 0)
        abort();
    take_turns(0, n);
    pthread_join(other, NULL);
}

/* --- measuring ---------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void measure(const char *name, void (*run)(long n), long n, int rounds)
{
    double ns[ROUNDS_MAX] = { 0 };

    run(n / 10); /* the first ones pay for what all use */
    for (int i = 0; i < rounds; i++) {
        int64_t began = clock_ns();

        run(n);
        ns[i] = (double)(clock_ns() - began) / (double)(2 * n);
    }
    qsort(ns, (size_t)rounds, sizeof(ns[0]), by_size);
    printf("%-44s %9.2f ns  (%.2f to %.2f)\n", name, ns[rounds / 2], ns[0],
           ns[rounds - 1]);
    fflush(stdout);
}

/* One processor for both threads, and for the numbers of the others to be alike. */
static void stay_here(void)
{
    cpu_set_t one;
    int cpu = sched_getcpu();
    size_t number = cpu < 0 ? 0 : (size_t)cpu;

    CPU_ZERO(&one);
    CPU_SET(number, &one);
    sched_setaffinity(0, sizeof(one), &one);
}

int main(int argc, char **argv)
{
    enum { MANY = 1000000, SOME = 100000, FEW = 10000 };
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : ROUNDS;

    if (rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: switch [ROUNDS], 1 to %d\n", ROUNDS_MAX);
        return 2;
    }
    stay_here();
#if defined(__x86_64__) || defined(__aarch64__)
    prepare(switch_jmp, prepare_jmp, at_once);
    measure("assembly, ends in pop and jmp (ours)", trips, MANY, (int)rounds);
    prepare(switch_ret, prepare_jmp, at_once);
    measure("assembly, ends in ret", trips, MANY, (int)rounds);
    prepare(switch_jmp, prepare_jmp, deep);
    measure("ours, one side 8 calls deep", trips, MANY, (int)rounds);
    prepare(switch_ret, prepare_jmp, deep);
    measure("ret, one side 8 calls deep", trips, MANY, (int)rounds);
#endif
    prepare(switch_ucontext, prepare_ucontext, at_once);
    measure("ucontext: a system call each", trips, SOME, (int)rounds);
    measure("two threads, mutex and condition variable", thread_trips, FEW, (int)rounds);
    return 0;
}
