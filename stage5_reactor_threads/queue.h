/* queue.h - connections that wait for a thread: bounded, in the order in which they came.
 * Does not: refuse anybody when it is full; who pushes asks for room before.
 * pthread_mutex_lock(3), pthread_cond_wait(3). */
#ifndef QUEUE_H
#define QUEUE_H

#include <pthread.h>
#include <stdbool.h>

struct conn;

/* All threads of a process share one. */
struct queue {
    pthread_mutex_t lock;   /* held to touch what follows */
    pthread_cond_t filled;  /* something is there, or nothing will come any more */
    pthread_cond_t emptied; /* there is room again */
    struct conn **conns;    /* owned: a ring; its entries belong to nobody meanwhile */
    int size, first, count; /* places; the oldest entry; entries */
    int asleep;             /* threads that wait for `filled` */
    bool called;            /* one of them, who is not up yet */
    bool closed;
};

/* Room for `size`. Failure: die(). */
void queue_open(struct queue *q, int size);

/* Nothing more comes: once it is empty, whoever takes gets NULL. */
void queue_close(struct queue *q);

/* Places that are free: if one thread alone pushes, it can rely on them. 0: there was none,
 * and it has slept until half of them were, or timeout_ms were over (-1: never). Meanwhile
 * the scoreboard says "full". Signals do not end the sleep. */
int queue_room(struct queue *q, int timeout_ms);

/* n more, for which there is room, from the loop. */
void queue_push(struct queue *q, struct conn *const conns[], int n);

/* The oldest, which belongs to this thread now; sleeps while there is none. NULL: closed. */
struct conn *queue_take(struct queue *q);

#endif
