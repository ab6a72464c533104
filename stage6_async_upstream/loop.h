/* loop.h - the loop of this worker, for handlers that have to wait: they leave an event
 * with it, and return.
 * Does not: run it; main.c does. */
#ifndef LOOP_H
#define LOOP_H

#include <event2/event.h>
#include <event2/event_struct.h>

extern struct event_base *loop;

#endif
