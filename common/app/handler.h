/* handler.h - what handlers have in common, and the one that does nothing but wait.
 * Does not: know who else is served meanwhile. */
#ifndef HANDLER_H
#define HANDLER_H

#include "conn/http1.h"

enum { HANDLER_MS_MAX = 60000 };

/* Answer in text/plain. What does not fit into 511 bytes is cut. */
void handler_reply(struct conn *c, const struct request *req, int status,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The number that `key` has in the query, 0 to max. -1: it has none, and 400 was
 * answered. */
long handler_number(struct conn *c, const struct request *req, const char *key, long max);

/* /sleep?ms=N: answer after so long. As it stands in sleep.c it blocks; a stage whose
 * handlers may not has one of its own, and the linker takes that. */
void handler_sleep(struct conn *c, const struct request *req);

#endif
