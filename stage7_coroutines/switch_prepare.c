/* switch_prepare.c - the first stack frame for switch.S: as if a function had been left
 * by switch_stack().
 * Does not: run anything. */
#include "switch.h"

#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(SWITCH_UCONTEXT)
#include <stdint.h>
#include <string.h>

/* In switch.S: calls what is in SLOT_ENTRY. */
void switch_begin(void);

/* What switch_stack() takes from a stack, in words, and where the two stand that count. */
#if defined(__x86_64__)
enum { WORDS = 7, SLOT_BEGIN = 6, SLOT_ENTRY = 4 };
#else
enum { WORDS = 20, SLOT_BEGIN = 1, SLOT_ENTRY = 2 };
#endif

void *switch_prepare(char *top, void (*entry)(void))
{
    uintptr_t frame[WORDS] = { 0 };
    char *sp = top - sizeof(frame);

    frame[SLOT_BEGIN] = (uintptr_t)switch_begin;
    frame[SLOT_ENTRY] = (uintptr_t)entry;
    memcpy(sp, frame, sizeof(frame));
    return sp;
}
#else
typedef int no_assembly; /* switch_ucontext.c has both functions */
#endif
