/* relay.h - a request on its way to another server, and the answer on its way back: what
 * a gateway does, but for the waiting.
 * Does not: wait. gateway.c does, in the handler; a stage whose handlers may not wait has
 * a gateway of its own. */
#ifndef RELAY_H
#define RELAY_H

#include "client/client.h"
#include "conn/http1.h"

/* One exchange. A gateway's own struct begins with it. It lives until the client has all
 * of the answer, or is gone. */
struct relay {
    struct out_source source; /* first: the answer's body, on its way out */
    struct client client;
};

/* Ask the upstream what req asks. size: of the gateway's own struct; all of it is zero but
 * its relay. source: how the body will be pulled. req: borrowed until relay_answer().
 * NULL: it was answered, with 503, because that cannot be. */
void *relay_begin(struct conn *c, const struct request *req, size_t size,
                  struct out_source source);

/* Is the answer's head here, or will it never be? */
static inline bool relay_has_answer(const struct relay *relay)
{
    return relay->client.answered || relay->client.want == CLIENT_FAILED;
}

/* Answer req, once relay_has_answer(). A body that follows takes the relay over; else it
 * is ended. */
void relay_answer(struct conn *c, const struct request *req, struct relay *relay);

/* For the source: as in struct out_source. relay_end() frees the gateway's struct. */
bool relay_ready(struct out_source *source);
void relay_end(struct out_source *source);

#endif
