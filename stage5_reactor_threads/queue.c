/* queue.c - see queue.h.
 * Does not: look at a connection, but for whose it is. */
#include "queue.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "board/stats.h"
#include "conn/conn.h"

void queue_open(struct queue *q, int size)
{
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->filled, NULL);
    pthread_cond_init(&q->emptied, NULL);
    q->size = size;
    q->conns = calloc((size_t)size, sizeof(*q->conns));
    if (q->conns == NULL)
        die(EXIT_SYSTEM, "no memory for a queue of %d; give a smaller --queue", size);
}

void queue_close(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_mutex_unlock(&q->lock);
    pthread_cond_broadcast(&q->filled);
}

/* Half of it: else each connection that is taken from a full queue would wake the loop. */
static bool has_room(const struct queue *q)
{
    return q->count <= q->size / 2;
}

/* Sleep until there is room or timeout_ms are over. The lock is held. */
static void await_room(struct queue *q, int timeout_ms)
{
    struct timespec until;
    int error = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (!has_room(q) && error == 0)
        error = timeout_ms < 0 ? pthread_cond_wait(&q->emptied, &q->lock)
                               : pthread_cond_clockwait(&q->emptied, &q->lock,
                                                        CLOCK_MONOTONIC, &until);
}

/* [stage5.room] */
int queue_room(struct queue *q, int timeout_ms)
{
    int room;

    pthread_mutex_lock(&q->lock);
    room = q->size - q->count;
    if (room == 0) {
        if (stats_get(&stats->full_since_ms) == 0)
            stats_set(&stats->full_since_ms, (uint64_t)clock_ms());
        await_room(q, timeout_ms);
    }
    if (q->count < q->size)
        stats_set(&stats->full_since_ms, 0);
    pthread_mutex_unlock(&q->lock);
    return room;
}

/* Is a thread to be woken? One at a time: it calls the next if it finds more than it takes.
 * Most often those who are awake have taken it all by then. */
static bool call_one(struct queue *q)
{
    bool call = q->count > 0 && q->asleep > 0 && !q->called;

    q->called |= call;
    return call;
}

/* [stage5.push] */
void queue_push(struct queue *q, struct conn *const conns[], int n)
{
    bool wake;

    for (int i = 0; i < n; i++)
        conn_pass(conns[i], OWNER_LOOP, OWNER_QUEUE);
    stats_add(&stats->waiting, (uint64_t)n);
    pthread_mutex_lock(&q->lock);
    assert(n <= q->size - q->count);
    for (int i = 0; i < n; i++)
        q->conns[(q->first + q->count++) % q->size] = conns[i];
    wake = call_one(q);
    pthread_mutex_unlock(&q->lock);
    if (wake) /* outside: who wakes needs the lock at once */
        pthread_cond_signal(&q->filled);
}

/* [stage5.take] */
struct conn *queue_take(struct queue *q)
{
    struct conn *c = NULL;
    bool room = false, wake = false, slept = false;

    pthread_mutex_lock(&q->lock);
    while (q->count == 0 && !q->closed) { /* another may have been quicker */
        q->asleep++;
        pthread_cond_wait(&q->filled, &q->lock);
        q->asleep--;
        q->called = false;
        slept = true;
    }
    if (q->count > 0) {
        c = q->conns[q->first];
        q->first = (q->first + 1) % q->size;
        q->count--;
        room = has_room(q);
        wake = slept && call_one(q);
    }
    pthread_mutex_unlock(&q->lock);
    if (wake)
        pthread_cond_signal(&q->filled);
    if (room)
        pthread_cond_signal(&q->emptied);
    if (c) {
        conn_pass(c, OWNER_QUEUE, OWNER_THREAD);
        stats_sub(&stats->waiting, 1);
    }
    return c;
}
