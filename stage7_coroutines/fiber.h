/* fiber.h - what AddressSanitizer and valgrind must be told of stacks, so that they still
 * see what happens there. In a program built without the one and run without the other
 * all of it comes to nothing.
 * Does not: switch.
 *
 * sanitizer/common_interface_defs.h; "Valgrind's client requests" in its manual. */
#ifndef FIBER_H
#define FIBER_H

#include <stddef.h>

#if defined(__has_feature) /* clang's word for it */
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__has_include) /* it comes with valgrind, and is a few instructions without */
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#include <valgrind/valgrind.h>
#endif
#endif

/* A new stack. It is never taken away again. */
static inline void fiber_new(char *low, size_t len)
{
#ifdef VALGRIND_STACK_REGISTER
    VALGRIND_STACK_REGISTER(low, low + len);
#endif
    (void)low;
    (void)len;
}

/* What stands there will be read as a whole, whoever's variables it is. */
static inline void fiber_open(char *low, size_t len)
{
#ifdef __SANITIZE_ADDRESS__
    ASAN_UNPOISON_MEMORY_REGION(low, len);
#endif
    (void)low;
    (void)len;
}

/* Nobody's frames are there any more. */
static inline void fiber_clear(char *low, size_t len)
{
    fiber_open(low, len);
#ifdef VALGRIND_MAKE_MEM_UNDEFINED
    VALGRIND_MAKE_MEM_UNDEFINED(low, len);
#endif
}

/* Right before a switch to the stack low[0 .. len), and right after one has led here.
 * here: what the sanitizer knows of the stack that is left; NULL: it will not be gone back
 * to. from, from_len: the stack that was left. */
static inline void fiber_leave(void **here, const char *low, size_t len)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(here, low, len);
#endif
    (void)here;
    (void)low;
    (void)len;
}

static inline void fiber_arrive(void *here, const char **from, size_t *from_len)
{
#ifdef __SANITIZE_ADDRESS__
    const void *low;

    __sanitizer_finish_switch_fiber(here, &low, from_len);
    *from = low;
#endif
    (void)here;
    (void)from;
    (void)from_len;
}

#endif
