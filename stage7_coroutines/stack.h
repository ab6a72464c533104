/* stack.h - where coroutines stand: each on a stack of its own, or all on one that they
 * share, and copy their part of it to and fro.
 * Does not: switch; or grow a stack. What overflows meets the guard: overflow.h.
 *
 * A stack costs addresses. Memory comes page by page, as it is first written to: most
 * often one page. Below each stack is a guard, and any access to it is a SIGSEGV. A
 * function whose frame is larger than the guard might step over it, and gcc's
 * -fstack-clash-protection is the cure for that. Signals are handled on the stack of
 * whoever runs: up to four kilobytes of it (sigaltstack(2), AT_MINSIGSTKSZ).
 *
 * On the shared stack no coroutine may give away a pointer to a variable of its own: while
 * it sleeps, another's stand there. */
#ifndef STACK_H
#define STACK_H

#include <stdbool.h>
#include <stddef.h>

enum { STACK_GUARD = 16384 };

struct stack {
    char *low;   /* its lowest byte, above the guard; NULL: it has none yet */
    char *top;   /* one beyond its highest */
    char *kept;  /* shared: owned, room for a copy of what is live; else NULL */
    size_t room; /* bytes of kept */
    size_t live; /* of these, in use */
    unsigned uses;
};

/* Once, before all else. bytes: of a stack, rounded up to pages; or of the one. protect:
 * make guards by mprotect(2) even if there is a better way; for tests. 0, or -1: see
 * errno. */
int stack_setup(size_t bytes, bool shared, bool protect);

/* Before a coroutine begins: a stack, unless it has one from the last that stood there.
 * False: no memory. */
bool stack_take(struct stack *s);

/* It has ended. This is where it is seen how deep it went, for a new stack and then from
 * time to time: what was written once stays to be seen. */
void stack_left(struct stack *s);

/* It will not be used for long, perhaps: its memory may go. The addresses stay. */
void stack_cool(struct stack *s);

/* The running coroutine is about to be left: make sure that stack_enter(), which cannot
 * fail, will find room for what is live. False: no memory. */
bool stack_reserve(struct stack *s);

/* Right before a switch to this stack. live_from: what switch_stack() has saved when it was
 * left; NULL: it was not. */
void stack_enter(struct stack *s, char *live_from);

/* It was left with this saved. NULL: by a coroutine that has ended. */
void stack_leave(struct stack *s, char *live_from);

/* How deep any coroutine went that has ended: bytes, a multiple of pages. */
size_t stack_deepest(void);

size_t stack_size(void);

#endif
