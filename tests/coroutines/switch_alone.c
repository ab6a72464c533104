/* switch_alone.c - stage 7's switch without anything else, for processors that are only
 * emulated: does each side find its registers again?
 * Does not: use Check, which is not there for them. The last line: "N passed, N failed". */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../stage7_coroutines/switch.h"

enum { STACK = 65536, SIDES = 3, ROUNDS = 1000 };

static void *at[SIDES], *home;
static int running, passed, failed;

static void check(int ok, const char *what)
{
    passed += ok != 0;
    failed += !ok;
    if (!ok)
        printf("side %d: %s\n", running, what);
}

/* More values than there are registers that a call must leave alone, of both sorts. */
static void side(void)
{
    int me = running;
    uint64_t whole[12];
    double broken[12];
    uint64_t sum = 0;
    double total = 0;

    for (int i = 0; i < 12; i++) {
        whole[i] = (uint64_t)me * 1000 + (uint64_t)i;
        broken[i] = me * 1000 + i / 8.0;
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < 12; i++) {
            whole[i] = whole[i] * 6364136223846793005u + 1;
            broken[i] = broken[i] / 2 + 1;
        }
        switch_stack(&at[me], home);
        for (int i = 0; i < 12; i++) {
            sum += whole[i];
            total += broken[i];
        }
    }
    /* The same without any switch between. */
    for (int i = 0; i < 12; i++) {
        uint64_t w = (uint64_t)me * 1000 + (uint64_t)i;
        double b = me * 1000 + i / 8.0;

        for (int round = 0; round < ROUNDS; round++) {
            w = w * 6364136223846793005u + 1;
            b = b / 2 + 1;
            sum -= w;
        }
        check(w == whole[i], "a whole number changed");
        check(b == broken[i], "a floating-point number changed");
    }
    check(sum == 0, "a sum changed");
    check(total > 0, "the floating-point sum is nothing");
    check(((uintptr_t)__builtin_frame_address(0) & 15) == 0, "the stack is not aligned");
    for (;;)
        switch_stack(&at[me], home);
}

int main(void)
{
    static _Alignas(16) char stacks[SIDES][STACK];

    for (int i = 0; i < SIDES; i++)
        at[i] = switch_prepare(stacks[i] + STACK, side);
    for (int round = 0; round <= ROUNDS; round++)
        for (running = 0; running < SIDES; running++)
            switch_stack(&home, at[running]);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed != SIDES * 27;
}
