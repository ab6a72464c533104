/* gateway.h - hand a request on to another server, --upstream, and its answer back. RFC
 * 9110 sections 3.7 and 7.6.
 * Does not: say how the answer is waited for. In gateway.c the handler sleeps; a stage
 * whose handlers may not has one of its own, and the linker takes that. */
#ifndef GATEWAY_H
#define GATEWAY_H

#include "conn/http1.h"

/* Answer req with what the upstream answers; with 502 if that is none, 503 if it cannot
 * be asked, 504 if nothing comes in time (--reply-timeout).
 *
 * A request that comes back to this server is not told from others: each round adds a
 * Via, and HTTP_MAX_FIELDS ends it. RFC 9110 section 7.6. */
void gateway_relay(struct conn *c, const struct request *req);

#endif
