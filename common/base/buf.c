/* buf.c - see buf.h.
 * Does not: shrink while bytes are left; it gives back everything at once. */
#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAP = 256 };

bool buf_reserve(struct buf *b, size_t room, size_t limit)
{
    size_t cap = b->cap ? b->cap : FIRST_CAP;
    size_t need;
    char *base;

    if (limit > UINT32_MAX || b->len > limit || room > limit - b->len)
        return false;
    need = b->len + room;
    if (need <= b->cap)
        return true;
    while (cap < need)
        cap *= 2;
    if (cap > limit)
        cap = limit;
    base = realloc(b->base, cap);
    if (base == NULL)
        return false;
    b->base = base;
    b->cap = (uint32_t)cap;
    return true;
}

bool buf_append(struct buf *b, const void *bytes, size_t n, size_t limit)
{
    if (n == 0)
        return true;
    if (!buf_reserve(b, n, limit))
        return false;
    memcpy(b->base + b->len, bytes, n);
    b->len += (uint32_t)n;
    return true;
}

void buf_consume(struct buf *b, size_t n)
{
    b->len -= (uint32_t)n;
    if (b->len == 0)
        buf_free(b);
    else if (n > 0)
        memmove(b->base, b->base + n, b->len);
}

void buf_free(struct buf *b)
{
    free(b->base);
    *b = (struct buf){ 0 };
}
