/* timer.c - see timer.h.
 * Does not: forget a timer before its key is reached. */
#include "timer.h"

#include <stdlib.h>

enum { FIRST_ROOM = 64 };

static struct timer **heap; /* heap[0] is not used: the children of n are 2n and 2n + 1 */
static int used, room;      /* the last place in use; the last that there is */

static void place(struct timer *timer, int n)
{
    heap[n] = timer;
    timer->place = n;
}

/* Put the timer at place n or, as long as those above are later, further up. */
static void sift_up(struct timer *timer, int n)
{
    for (; n > 1 && heap[n / 2]->key_ms > timer->key_ms; n /= 2)
        place(heap[n / 2], n);
    place(timer, n);
}

/* The same downwards: as long as those below are earlier. */
static void sift_down(struct timer *timer, int n)
{
    for (int child; (child = 2 * n) <= used; n = child) {
        if (child < used && heap[child + 1]->key_ms < heap[child]->key_ms)
            child++;
        if (heap[child]->key_ms >= timer->key_ms)
            break;
        place(heap[child], n);
    }
    place(timer, n);
}

static int make_room(void)
{
    int more = room ? 2 * room : FIRST_ROOM;
    struct timer **bigger = realloc(heap, ((size_t)more + 1) * sizeof(struct timer *));

    if (bigger == NULL)
        return -1;
    heap = bigger;
    room = more;
    return 0;
}

int timer_set(struct timer *timer, int64_t due_ms)
{
    if (due_ms == TIMER_NEVER) {
        timer->due_ms = due_ms;
        return 0;
    }
    if (timer->place == 0 && used == room && make_room() == -1)
        return -1;
    timer->due_ms = due_ms;
    if (timer->place == 0) {
        timer->key_ms = due_ms;
        sift_up(timer, ++used);
    } else if (due_ms < timer->key_ms) {
        timer->key_ms = due_ms;
        sift_up(timer, timer->place);
    }
    return 0;
}

int64_t timer_next_ms(void)
{
    return used > 0 ? heap[1]->key_ms : TIMER_NEVER;
}

static void remove_first(void)
{
    heap[1]->place = 0;
    if (used-- > 1)
        sift_down(heap[used + 1], 1);
}

struct timer *timer_due(int64_t now_ms)
{
    while (used > 0 && heap[1]->key_ms <= now_ms) {
        struct timer *first = heap[1];

        if (first->due_ms > now_ms && first->due_ms != TIMER_NEVER) {
            first->key_ms = first->due_ms; /* it was set later meanwhile */
            sift_down(first, 1);
            continue;
        }
        remove_first();
        if (first->due_ms != TIMER_NEVER) {
            timer_stop(first);
            return first;
        }
    }
    return NULL;
}
