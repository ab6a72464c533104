/* loop.c - see loop.h.
 * Does not: serve anybody; the callbacks do. */
#include "loop.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/stop.h"

struct event_base *loop;
static struct event *bound; /* of a wait */

/* libevent goes on waiting after EINTR, unless it is told not to. In a process of one
 * thread that sets a flag, and no more: a signal handler may. One that comes just before
 * the wait is followed by another: stop.h. */
static void leave(void)
{
    event_base_loopbreak(loop);
}

static void on_bound(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg; /* all that it is for is to end the wait */
}

void loop_begin(void)
{
    loop = event_base_new();
    bound = loop ? evtimer_new(loop, on_bound, NULL) : NULL;
    if (bound == NULL)
        die(EXIT_SYSTEM, "libevent cannot make a loop");
    stop_interrupts = leave;
}

void loop_wait(int timeout_ms)
{
    struct timeval timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };

    if (timeout_ms > 0)
        event_add(bound, &timeout);
    event_base_loop(loop, timeout_ms == 0 ? EVLOOP_NONBLOCK : EVLOOP_ONCE);
}
