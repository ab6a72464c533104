/* loop.h - libevent's loop of this worker. Whoever has to wait leaves an event with it, and
 * returns; event(3), https://libevent.org/libevent-book/.
 * Does not: know for what. */
#ifndef LOOP_H
#define LOOP_H

#include <event2/event.h>
#include <event2/event_struct.h>

extern struct event_base *loop;

/* In a worker: parent and child must not share what the kernel watches. Failure: die(). */
void loop_begin(void);

/* Wait, at most so long, and call back for all that has come. -1: no bound. Returns
 * early when the process is told to stop. */
void loop_wait(int timeout_ms);

#endif
