/* gateway.h - hand a request on to another server, --upstream, and its answer back. RFC
 * 9110 sections 3.7 and 7.6.
 * Does not: let others run meanwhile. The handler sleeps until the answer comes, and the
 * body is waited for on its way out: in a process that cannot wait, an upstream that
 * takes its time stops everybody. */
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
