/* stop.c - see stop.h.
 * Does not: touch sockets; serve.c looks at `stopping` where it decides what comes
 * next. */
#include "base/stop.h"

#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

enum { TICK_MS = 50, GRACE_MS = 500 };

volatile sig_atomic_t stopping;
void (*stop_at_end)(void);
void (*stop_interrupts)(void);
static volatile sig_atomic_t ms_left = -1; /* -1: no bound */
static int timeout;

static void start_ticking(void)
{
    struct itimerval every = { .it_interval.tv_usec = TICK_MS * 1000,
                               .it_value.tv_usec = TICK_MS * 1000 };

    setitimer(ITIMER_REAL, &every, NULL);
}

static void interrupt(void)
{
    if (stop_interrupts)
        stop_interrupts();
}

/* All that the handlers call is async-signal-safe on Linux: signal-safety(7);
 * setitimer(2) is a bare system call. */
static void stop(int sig)
{
    if (sig == SIGQUIT) {
        if (stopping < STOP_GRACEFUL) {
            stopping = STOP_GRACEFUL;
            ms_left = -1;
        }
    } else {
        stopping = STOP_SOON;
        ms_left = timeout;
        signal(SIGTERM, SIG_DFL);
        signal(SIGINT, SIG_DFL);
    }
    start_ticking();
    interrupt();
}

static void drain(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    if (stopping != RUNNING)
        return;
    stopping = STOP_DRAIN;
    ms_left = info->si_code == SI_QUEUE && info->si_value.sival_int == 1 ? -1 : timeout;
    start_ticking();
    interrupt();
}

/* Time is over: idle clients go, what is in flight gets a last moment, then the process
 * ends. */
static void tick(int sig)
{
    (void)sig;
    interrupt();
    if (ms_left == -1)
        return;
    ms_left = ms_left - TICK_MS;
    if (ms_left > 0)
        return;
    if (stopping == STOP_SOON) {
        if (stop_at_end)
            stop_at_end();
        _exit(EXIT_SUCCESS);
    }
    stopping = STOP_SOON;
    ms_left = GRACE_MS;
}

void stop_on_signals(int timeout_ms)
{
    struct sigaction action = { .sa_handler =
                                    stop }; /* no SA_RESTART: calls end with EINTR */

    timeout = timeout_ms;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGALRM);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGQUIT, &action, NULL);
    action.sa_handler = tick;
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

void stop_on_drain(void)
{
    struct sigaction action = { .sa_sigaction = drain, .sa_flags = SA_SIGINFO };

    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGALRM);
    sigaction(SIGUSR1, &action, NULL);
}
