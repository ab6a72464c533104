/* overflow.c - see overflow.h.
 * Does not: call what a signal handler must not, signal-safety(7). */
#include "overflow.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "coroutine.h"

enum { ROOM = 32768 }; /* a handler's stack: a frame of AVX-512 takes some 3,000 of it */

static struct sigaction before;

struct line {
    char text[256];
    size_t len;
};

static void put(struct line *line, const char *text)
{
    while (*text && line->len < sizeof(line->text))
        line->text[line->len++] = *text++;
}

static void put_number(struct line *line, size_t n)
{
    char digits[24];
    size_t at = sizeof(digits) - 1;

    digits[at] = '\0';
    do
        digits[--at] = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    put(line, digits + at);
}

static void tell(const struct coroutine *co)
{
    struct line line = { .len = 0 };

    put(&line, program_invocation_short_name);
    put(&line, "[");
    put_number(&line, (size_t)getpid());
    put(&line, "]: the coroutine of ");
    if (co->fd == -1) {
        put(&line, "the listener");
    } else {
        put(&line, "client ");
        put_number(&line, (size_t)co->fd);
    }
    put(&line, " has overflowed its stack of ");
    put_number(&line, stack_size());
    put(&line, " bytes; give it more with --stack\n");
    if (write(STDERR_FILENO, line.text, line.len) == -1)
        return; /* nobody is there to be told */
}

/* The faulting instruction comes again after this, and then it meets `before`. */
static void on_fault(int sig, siginfo_t *info, void *context)
{
    const struct coroutine *co = coroutine_running;
    const char *at = info->si_addr;

    (void)context;
    if (co && at < co->stack.low && at >= co->stack.low - STACK_GUARD)
        tell(co);
    sigaction(sig, &before, NULL);
}

void overflow_setup(void)
{
    static char room[ROOM];
    stack_t stack = { .ss_sp = room, .ss_size = sizeof(room) };
    struct sigaction action = { .sa_sigaction = on_fault,
                                .sa_flags = SA_SIGINFO | SA_ONSTACK };

    sigemptyset(&action.sa_mask);
    if (sigaltstack(&stack, NULL) == -1 || sigaction(SIGSEGV, &action, &before) == -1)
        die(EXIT_SYSTEM, "sigaltstack: %s", strerror(errno));
}
