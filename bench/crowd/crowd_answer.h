/* crowd_answer.h - an HTTP/1 response, piece by piece, to status, length and hash.
 * Does not: keep bodies, or understand chunked ones: all that it is used on sends
 * Content-Length. */
#ifndef CROWD_ANSWER_H
#define CROWD_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ANSWER_LINE = 80 }; /* bytes kept of a line; the fields that matter are shorter */

/* All zero: before the first byte. */
struct answer {
    uint64_t left; /* bytes of the body still to come */
    uint64_t len;  /* bytes of the body so far */
    uint64_t hash; /* of these */
    int status;    /* 0: the status line is not complete */
    bool started;  /* at least one byte came */
    bool sized;    /* Content-Length was there */
    bool close;    /* the connection ends after this one: RFC 9112 section 9.3 */
    bool in_body;
    uint8_t line_len; /* bytes in line */
    char line[ANSWER_LINE];
};

enum answer_verdict { ANSWER_MORE, ANSWER_COMPLETE, ANSWER_MALFORMED };

/* Take up to n bytes; *used: how many it took, all of them unless the answer is complete.
 * After ANSWER_COMPLETE: start the next one with all zero. */
enum answer_verdict answer_feed(struct answer *a, const char *bytes, size_t n,
                                size_t *used);

/* FNV-1a; hash: of the bytes before these, or ANSWER_HASH. */
#define ANSWER_HASH UINT64_C(0xcbf29ce484222325)
uint64_t answer_hash(uint64_t hash, const char *bytes, size_t n);

#endif
