/* still_watched.c - stage 5 with a loop that hands those whose time is up to the threads, as
 * it does with all others, but does not tell the kernel: they are watched still. A thread
 * ends such a connection behind the loop's back, and an event that names it may be under
 * way.
 * Does not: change any source of the stage. The linker puts this before two functions of it.
 * link: -Wl,--wrap=conn_expired -Wl,--wrap=threads_start */
#include <stddef.h>

#include "../../stage5_reactor_threads/threads.h"

struct conn *__real_conn_expired(void);
struct conn *__wrap_conn_expired(void);
void __real_threads_start(const struct options *opt, struct queue *queue,
                          struct deadlines *deadlines, void (*serve)(struct conn *c));
void __wrap_threads_start(const struct options *opt, struct queue *queue,
                          struct deadlines *deadlines, void (*serve)(struct conn *c));

static struct queue *threads_queue; /* borrowed */

void __wrap_threads_start(const struct options *opt, struct queue *queue,
                          struct deadlines *deadlines, void (*serve)(struct conn *c))
{
    threads_queue = queue;
    __real_threads_start(opt, queue, deadlines, serve);
}

/* None, for the loop: a thread will see to it. */
struct conn *__wrap_conn_expired(void)
{
    struct conn *c = __real_conn_expired();

    if (c)
        queue_push(threads_queue, &c, 1);
    return NULL;
}
