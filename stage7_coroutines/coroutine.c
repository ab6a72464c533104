/* coroutine.c - see coroutine.h. The heart is coroutine_run_ready(), resume() and leave().
 * Does not: free a coroutine; timers may still know it. */
#include "coroutine.h"

#include <stdlib.h>

#include "fiber.h"
#include "switch.h"

enum { WARM = 256 }; /* so many free ones keep their memory: a megabyte or two */

struct coroutine *coroutine_running;

static void *loop_sp; /* of the stack that all others are resumed from */
static struct coroutine *first, **last = &first; /* the queue of those that are ready */
static struct coroutine *living;
static int count;
static struct coroutine *warm, *cold; /* free; used last: first */
static int warm_count;

static void *loop_fake_stack; /* for fiber.h, as the next two: the loop's stack */
static const char *loop_low;
static size_t loop_len;

int coroutine_setup(size_t stack, bool shared, bool protect)
{
    return stack_setup(stack, shared, protect);
}

/* [coroutine.switch] */
static void enqueue(struct coroutine *co)
{
    co->next = NULL;
    *last = co;
    last = &co->next;
}

/* Back to resume(), in the loop; returns when it resumes us. */
static void leave(struct coroutine *co)
{
    fiber_leave(co->over ? NULL : &co->fake_stack, loop_low, loop_len);
    switch_stack(&co->sp, loop_sp);
    fiber_arrive(co->fake_stack, &loop_low, &loop_len);
}

/* The first function on each stack. There is nothing it could return to. */
static void begin(void)
{
    fiber_arrive(NULL, &loop_low, &loop_len);
    coroutine_running->run(coroutine_running->arg);
    coroutine_running->over = true;
    leave(coroutine_running);
}

/* [coroutine.resume] */
/* Let it run until it leaves. */
static void resume(struct coroutine *co)
{
    const char *low;
    size_t len;

    stack_enter(&co->stack, co->sp);
    if (co->sp == NULL)
        co->sp = switch_prepare(co->stack.top, begin);
    coroutine_running = co;
    fiber_leave(&loop_fake_stack, co->stack.low, stack_size());
    switch_stack(&loop_sp, co->sp);
    fiber_arrive(loop_fake_stack, &low, &len);
    coroutine_running = NULL;
    stack_leave(&co->stack, co->over ? NULL : co->sp);
}

/* --- beginnings and ends ------------------------------------------------------------ */

static struct coroutine *take_free(void)
{
    struct coroutine **list = warm ? &warm : &cold, *co = *list;

    if (co == NULL)
        return calloc(1, sizeof(*co));
    if (list == &warm)
        warm_count--;
    *list = co->next;
    return co;
}

static void put_free(struct coroutine *co)
{
    struct coroutine **list = warm_count < WARM ? &warm : &cold;

    if (list == &warm)
        warm_count++;
    else
        stack_cool(&co->stack);
    co->next = *list;
    *list = co;
}

struct coroutine *coroutine_start(void (*run)(void *arg), void *arg)
{
    struct coroutine *co = take_free();

    if (co == NULL)
        return NULL;
    if (!stack_take(&co->stack)) {
        put_free(co);
        return NULL;
    }
    co->sp = NULL;
    co->run = run;
    co->arg = arg;
    co->over = co->asleep = co->cancelled = false;
    co->fd = -1;
    co->before = NULL;
    co->after = living;
    if (living)
        living->before = co;
    living = co;
    count++;
    enqueue(co);
    return co;
}

static void end(struct coroutine *co)
{
    *(co->before ? &co->before->after : &living) = co->after;
    if (co->after)
        co->after->before = co->before;
    count--;
    stack_left(&co->stack);
    put_free(co);
}

/* --- turns -------------------------------------------------------------------------- */

/* [coroutine.turns] */
void coroutine_run_ready(void)
{
    struct coroutine *co = first;

    first = NULL;
    last = &first;
    while (co) {
        struct coroutine *next = co->next;

        resume(co);
        if (co->over)
            end(co);
        co = next;
    }
}

int coroutine_sleep(void)
{
    struct coroutine *self = coroutine_running;

    if (!stack_reserve(&self->stack))
        return -1;
    self->asleep = true;
    leave(self);
    return self->why;
}

void coroutine_wake(struct coroutine *co, int why)
{
    if (!co->asleep)
        return;
    co->asleep = false;
    co->why = why;
    enqueue(co);
}

int coroutine_yield(void)
{
    struct coroutine *self = coroutine_running;

    if (!stack_reserve(&self->stack))
        return -1;
    self->why = 0;
    enqueue(self);
    leave(self);
    return 0;
}

bool coroutine_ready(void)
{
    return first != NULL;
}

int coroutine_count(void)
{
    return count;
}

struct coroutine *coroutine_first(void)
{
    return living;
}
