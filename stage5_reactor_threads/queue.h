/* queue.h - connections that wait for a thread: bounded, in the order in which they came.
 * Does not: wait when it is full; who pushes asks for room before.
 * pthread_mutex_lock(3), pthread_cond_wait(3). */
#ifndef QUEUE_H
#define QUEUE_H

#include <pthread.h>
#include <stdbool.h>

struct conn;

struct queue {
    pthread_mutex_t lock;   /* held to touch all that follows */
    pthread_cond_t filled;  /* something is there, or nothing will come any more */
    struct conn **conns;    /* owned: a ring; its entries are whose turn comes next */
    int size, first, count; /* places; the oldest entry; entries */
    int asleep;             /* threads that wait for `filled` and were not woken */
    bool closed;
};

/* Room for `size`. Failure: die(). */
void queue_open(struct queue *q, int size);

/* Nothing more comes: whoever takes from it when it is empty gets NULL. */
void queue_close(struct queue *q);

/* Places that are free. With one thread that pushes it is a promise to that one. */
int queue_room(struct queue *q);

/* n more, for which there is room; wakes as many threads as have something to do. */
void queue_push(struct queue *q, struct conn *const conns[], int n);

/* The oldest; sleeps while there is none. NULL: closed. *left: how many remain. */
struct conn *queue_take(struct queue *q, int *left);

#endif
