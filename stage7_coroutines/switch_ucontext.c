/* switch_ucontext.c - switch.h for all other processors: swapcontext(3).
 * Does not: come near switch.S in speed. Two system calls of each switch keep a signal
 * mask that is the same on both sides. */
#include "switch.h"

#if (!defined(__x86_64__) && !defined(__aarch64__)) || defined(SWITCH_UCONTEXT)
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

/* A context stands on the stack that it belongs to. The margin is for what the compiler
 * puts below it in the same frame. */
struct place {
    char margin[512];
    ucontext_t context;
};

void switch_stack(void **save, void *load)
{
    struct place here;

    *save = &here;
    swapcontext(&here.context, &((struct place *)load)->context);
}

void *switch_prepare(char *top, void (*entry)(void))
{
    struct place *first =
        (struct place *)(((uintptr_t)top - sizeof(struct place)) & ~(uintptr_t)15);

    getcontext(&first->context);
    first->context.uc_link = NULL; /* entry does not return */
    first->context.uc_stack.ss_sp = (char *)first - 4096;
    first->context.uc_stack.ss_size = 4096; /* its end is what makecontext(3) looks at */
    makecontext(&first->context, entry, 0);
    return first;
}
#else
typedef int has_assembly; /* switch.S has it */
#endif
