/* switch_ucontext.c - switch.h for all other processors: swapcontext(3).
 * Does not: come near switch.S in speed. A system call of each switch keeps a signal mask
 * that is the same on both sides. */
#include "switch.h"

#if (!defined(__x86_64__) && !defined(__aarch64__)) || defined(SWITCH_UCONTEXT)
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

/* A context stands on the stack that it belongs to. What is saved points so far below it:
 * there the compiler may keep something of the same frame, and a sanitizer that of its own
 * swapcontext(3). */
enum { BELOW = 1024 };

static ucontext_t *context_at(char *saved)
{
    return (ucontext_t *)(void *)(saved + BELOW);
}

void switch_stack(void **save, void *load)
{
    ucontext_t here;

    /* cppcheck-suppress autoVariables ; it is gone back to while this function runs */
    *save = (void *)((uintptr_t)&here - BELOW);
    swapcontext(&here, context_at(load));
}

void *switch_prepare(char *top, void (*entry)(void))
{
    uintptr_t at = ((uintptr_t)top - sizeof(ucontext_t)) & ~(uintptr_t)15;
    ucontext_t *first = (ucontext_t *)at;

    getcontext(first);
    first->uc_link = NULL; /* entry does not return */
    first->uc_stack.ss_sp = (char *)first - BELOW;
    first->uc_stack.ss_size = BELOW; /* where it ends is what makecontext(3) looks at */
    makecontext(first, entry, 0);
    return (char *)first - BELOW;
}
#else
typedef int has_assembly; /* switch.S has it */
#endif
