/* stack.c - see stack.h.
 * Does not: give addresses back; a stack once made is used again. */
#include "stack.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fiber.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

enum {
    PAGE = 4096,
    LINE = 64,        /* of a cache */
    COLOURS = 16,     /* in so many ways are tops apart from the ends of pages */
    LOOK_EVERY = 16,  /* uses of a stack: how deep was it? */
    PAGES_MAX = 2048, /* of a stack: options.c's limit */
};

/* Below the frame of stack_reserve(): what its caller still puts there, and the switch. */
#if defined(__OPTIMIZE__) && !defined(SWITCH_UCONTEXT) && !defined(__SANITIZE_ADDRESS__)
enum { SWITCH_ROOM = 192 };
#else
enum { SWITCH_ROOM = 4096 };
#endif

static size_t size;
static bool sharing, protecting;
static size_t deepest;
static unsigned made;

static struct stack common;    /* the shared one */
static struct stack *resident; /* borrowed: whose frames stand there */
static char *resident_from;    /* from where on; NULL: none of them lives */

/* A guard by madvise(2) is a mark in the page table, and the stacks beside each other stay
 * one mapping. mprotect(2) makes two of each, and a process may have 65,530:
 * vm.max_map_count, in proc_sys_vm(5). */
static int guard(char *at)
{
    if (!protecting && madvise(at, STACK_GUARD, MADV_GUARD_INSTALL) == 0)
        return 0;
    return mprotect(at, STACK_GUARD, PROT_NONE);
}

/* Tops that all are a whole number of pages apart would share few lines of the cache. */
static size_t colour(void)
{
    return (size_t)(made++ % COLOURS) * LINE;
}

static bool make(struct stack *s)
{
    char *at = mmap(NULL, STACK_GUARD + size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

    if (at == MAP_FAILED)
        return false;
    if (guard(at) == -1) {
        int error = errno;

        munmap(at, STACK_GUARD + size);
        errno = error;
        return false;
    }
    madvise(at, STACK_GUARD + size, MADV_NOHUGEPAGE); /* two megabytes for one page */
    s->low = at + STACK_GUARD;
    s->top = s->low + size - colour();
    fiber_new(s->low, size);
    return true;
}

int stack_setup(size_t bytes, bool shared, bool protect)
{
    size = (bytes + PAGE - 1) / PAGE * PAGE;
    sharing = shared;
    protecting = protect;
    return shared && !make(&common) ? -1 : 0;
}

bool stack_take(struct stack *s)
{
    if (s->low)
        return true;
    if (!sharing)
        return make(s);
    s->low = common.low;
    s->top = common.top;
    return true;
}

/* mincore(2): which pages are there? The lowest that is has been written to. One system
 * call, some 200 ns; no page is touched. */
static void look(const struct stack *s)
{
    unsigned char there[PAGES_MAX];
    size_t page = 0;

    if (mincore(s->low, size, there) == -1)
        return;
    while (page < size / PAGE && !(there[page] & 1))
        page++;
    if (size - page * PAGE > deepest)
        deepest = size - page * PAGE;
}

void stack_left(struct stack *s)
{
    fiber_clear(s->low, size);
    if (s->uses++ % LOOK_EVERY == 0)
        look(s);
}

void stack_cool(struct stack *s)
{
    if (sharing) {
        free(s->kept);
        s->kept = NULL;
        s->room = 0;
        return;
    }
    look(s);
    madvise(s->low, size, MADV_DONTNEED);
}

bool stack_reserve(struct stack *s)
{
    size_t need;
    char *kept;

    if (!sharing)
        return true;
    need = (size_t)(s->top - (char *)__builtin_frame_address(0)) + SWITCH_ROOM;
    if (need <= s->room)
        return true;
    kept = realloc(s->kept, need);
    if (kept == NULL)
        return false;
    s->kept = kept;
    s->room = need;
    return true;
}

void stack_enter(struct stack *s, char *live_from)
{
    if (!sharing || resident == s)
        return;
    fiber_open(common.low, size);
    if (resident && resident_from) {
        resident->live = (size_t)(common.top - resident_from);
        memcpy(resident->kept, resident_from, resident->live);
    }
    resident = s;
    fiber_clear(common.low, size);
    if (live_from)
        memcpy(live_from, s->kept, s->live);
}

void stack_leave(struct stack *s, char *live_from)
{
    resident_from = live_from;
    assert(!sharing || live_from == NULL || (size_t)(s->top - live_from) <= s->room);
}

size_t stack_deepest(void)
{
    return deepest;
}

size_t stack_size(void)
{
    return size;
}
