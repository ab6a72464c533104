/* queue.c - see queue.h.
 * Does not: look at a connection. */
#include "queue.h"

#include <assert.h>
#include <stdlib.h>

#include "base/log.h"

void queue_open(struct queue *q, int size)
{
    pthread_mutexattr_t attributes;

    /* Held for some instructions only: who meets it locked had better spin than sleep. */
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&q->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    pthread_cond_init(&q->filled, NULL);
    q->size = size;
    q->conns = calloc((size_t)size, sizeof(*q->conns));
    if (q->conns == NULL)
        die(EXIT_SYSTEM, "no memory for a queue of %d", size);
}

void queue_close(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_mutex_unlock(&q->lock);
    pthread_cond_broadcast(&q->filled);
}

int queue_room(struct queue *q)
{
    int room;

    pthread_mutex_lock(&q->lock);
    room = q->size - q->count;
    pthread_mutex_unlock(&q->lock);
    return room;
}

void queue_push(struct queue *q, struct conn *const conns[], int n)
{
    int wake;

    pthread_mutex_lock(&q->lock);
    assert(n <= q->size - q->count);
    for (int i = 0; i < n; i++)
        q->conns[(q->first + q->count++) % q->size] = conns[i];
    wake = n < q->asleep ? n : q->asleep;
    q->asleep -= wake;
    pthread_mutex_unlock(&q->lock);
    while (wake-- > 0) /* outside: who wakes needs the lock at once */
        pthread_cond_signal(&q->filled);
}

struct conn *queue_take(struct queue *q, int *left)
{
    struct conn *c = NULL;

    pthread_mutex_lock(&q->lock);
    while (q->count == 0 && !q->closed) { /* another may have been quicker */
        q->asleep++;
        pthread_cond_wait(&q->filled, &q->lock);
    }
    if (q->count > 0) {
        c = q->conns[q->first];
        q->first = (q->first + 1) % q->size;
        q->count--;
    }
    *left = q->count;
    pthread_mutex_unlock(&q->lock);
    return c;
}
