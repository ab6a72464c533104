/* threads.h - the threads of a process that serve, one connection after the other.
 * Does not: wait for clients; one other thread does, the loop. */
#ifndef THREADS_H
#define THREADS_H

#include "conn/conn.h"
#include "queue.h"

/* Start opt->threads of them; each calls serve() for what it takes from the queue. Signals
 * go to this thread alone. All connections stand in `deadlines`. All is borrowed, and zero
 * at first. Failure: die(). */
void threads_start(const struct options *opt, struct queue *queue,
                   struct deadlines *deadlines, void (*serve)(struct conn *c));

/* Let them end once the queue is empty, and wait for that. */
void threads_end(void);

#endif
