/* buf.h - bounded bytes on the heap.
 * Does not: grow beyond the limit it is given, know what the bytes mean. */
#ifndef BUF_H
#define BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero: empty, holds no memory. */
struct buf {
    char *base;   /* owned; NULL when cap is 0 */
    uint32_t len; /* bytes in use */
    uint32_t cap; /* bytes allocated */
};

/* Make room for at least `room` more bytes, growing by doubling.
 * False, and nothing changed: that would pass `limit` bytes in all, or no memory is
 * left. */
bool buf_reserve(struct buf *b, size_t room, size_t limit);

/* Append n bytes. False as in buf_reserve(). */
bool buf_append(struct buf *b, const void *bytes, size_t n, size_t limit);

/* Drop the first n bytes (n <= len). Drop the last one and the memory goes back too. */
void buf_consume(struct buf *b, size_t n);

/* Give the memory back; the buffer is empty and can be used again. */
void buf_free(struct buf *b);

#endif
