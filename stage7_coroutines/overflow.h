/* overflow.h - a coroutine that needs more than its stack is told by name.
 * Does not: save it, or its process: what is above the guard is whole, but what would have
 * been written below it is missing. */
#ifndef OVERFLOW_H
#define OVERFLOW_H

/* From now on a SIGSEGV in the guard of the running coroutine's stack writes one line to
 * stderr first. Then, as with any SIGSEGV, comes what would have come without: the process
 * is ended by the signal, or a sanitizer has its say. The handler has a stack of its own,
 * there being none left: sigaltstack(2). */
void overflow_setup(void);

#endif
