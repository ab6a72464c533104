/* coroutine.h - functions that take turns in one thread: each has a stack of its own, so
 * it can stop in the middle of a call, let others run, and go on.
 * Does not: know what anybody waits for; loop.h does. Nobody is interrupted: a coroutine
 * runs until it sleeps, yields or ends. */
#ifndef COROUTINE_H
#define COROUTINE_H

#include <stdbool.h>
#include <stdint.h>

#include "stack.h"
#include "timer.h"

struct coroutine {
    void *sp;               /* while it does not run: what switch_stack() saved */
    struct coroutine *next; /* borrowed: behind it in the queue, or among the free */
    struct coroutine *before, *after; /* borrowed: of all that live */
    void (*run)(void *arg);
    void *arg; /* borrowed */
    struct stack stack;
    bool asleep; /* until coroutine_wake() */
    bool over;
    int why; /* it was woken */

    /* For loop.c. */
    bool cancelled; /* its client has gone */
    int fd;         /* its client; -1: it has none */
    uint32_t events;
    struct timer timer;

    void *fake_stack; /* for fiber.h */
};

/* Who runs; NULL: the caller of coroutine_run_ready(). */
extern struct coroutine *coroutine_running;

/* Once, before all else: stack_setup(). 0, or -1: see errno. */
int coroutine_setup(size_t stack, bool shared, bool protect);

/* Have run(arg) called in a coroutine of its own, when those that are ready before it have
 * had their turn. It ends when run() returns; then it, and its stack, is used for another.
 * NULL: no memory. */
struct coroutine *coroutine_start(void (*run)(void *arg), void *arg);

/* In a coroutine: let others run until somebody calls coroutine_wake(). Returns `why`; -1:
 * no memory to put the stack aside, and nobody has run. */
int coroutine_sleep(void);

/* It is ready, and will run in its turn. Nothing, if it does not sleep. why: 0 or more. */
void coroutine_wake(struct coroutine *co, int why);

/* In a coroutine: let all run that are ready, and a round of the loop, and go on. Returns
 * as coroutine_sleep(). */
int coroutine_yield(void);

/* Let each run that is ready now, in the order in which they became ready. Who becomes
 * ready meanwhile waits for the next call. */
void coroutine_run_ready(void);

/* Is anybody ready? */
bool coroutine_ready(void);

/* How many have been started and have not ended; and the list of them, by `after`. */
int coroutine_count(void);
struct coroutine *coroutine_first(void);

#endif
