/* threads.c - see threads.h.
 * Does not: know how a connection is served. */
#include "threads.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "board/stats.h"

static struct {
    int n;
    struct queue *queue;         /* borrowed */
    struct deadlines *deadlines; /* borrowed */
    void (*serve)(struct conn *c);
    pthread_t ids[MAX_THREADS];
    int numbers[MAX_THREADS]; /* what each is told: 0, 1 and so on */
} threads;

static void *work(void *number)
{
    struct conn *c;

    stats_join(*(int *)number);
    deadline_share(threads.deadlines);
    while ((c = queue_take(threads.queue)))
        threads.serve(c);
    return NULL;
}

void threads_start(const struct options *opt, struct queue *queue,
                   struct deadlines *deadlines, void (*serve)(struct conn *c))
{
    sigset_t all, before;

    threads.n = opt->threads;
    threads.queue = queue;
    threads.deadlines = deadlines;
    threads.serve = serve;
    deadline_share(deadlines);
    queue_open(queue, opt->queue);
    stats_threads(opt->threads);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* a new thread inherits it */
    for (int i = 0; i < opt->threads; i++) {
        int error;

        threads.numbers[i] = i;
        error = pthread_create(&threads.ids[i], NULL, work, &threads.numbers[i]);
        if (error != 0)
            die(EXIT_SYSTEM, "pthread_create: %s; give fewer --threads", strerror(error));
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void threads_end(void)
{
    queue_close(threads.queue);
    for (int i = 0; i < threads.n; i++)
        pthread_join(threads.ids[i], NULL);
}
