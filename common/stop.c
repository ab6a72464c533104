/* stop.c - see stop.h.
 * Does not: touch sockets; conn.c looks at `stopping` where it decides what comes
 * next. */
#include "stop.h"

#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

enum { TICK_MS = 50 };

volatile sig_atomic_t stopping;
static volatile sig_atomic_t ticks;

/* Every system call made here is async-signal-safe on Linux: signal-safety(7);
 * setitimer(2) is a bare system call. */
static void stop(int sig)
{
    struct itimerval every = { .it_interval.tv_usec = TICK_MS * 1000,
                               .it_value.tv_usec = TICK_MS * 1000 };

    (void)sig;
    stopping = 1;
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    setitimer(ITIMER_REAL, &every, NULL);
}

static void tick(int sig)
{
    (void)sig;
    if (++ticks >= STOP_TIMEOUT_MS / TICK_MS)
        _exit(EXIT_SUCCESS);
}

void stop_on_signals(void)
{
    struct sigaction action = { .sa_handler =
                                    stop }; /* no SA_RESTART: calls end with EINTR */

    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    action.sa_handler = tick;
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}
