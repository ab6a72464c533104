/* relay.c - see relay.h.
 * Does not: speak with the upstream (client.h does), or decide what is handed on
 * (http_relay.h does). */
#include "app/relay.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "conn/turn.h"
#include "http/http_relay.h"

/* Of the process: listeners, the log; and clients that get 503. */
enum { OTHER_FDS = 64 };

static _Thread_local struct client_pool pool;

bool relay_ready(struct out_source *source)
{
    return client_ready(&((struct relay *)source)->client);
}

void relay_end(struct out_source *source)
{
    client_end(&((struct relay *)source)->client);
    free(source);
}

static void reply_failure(struct conn *c, const struct request *req, int status,
                          const char *why)
{
    char text[HTTP_ERROR_ROOM];

    http_reply(c, req, status, SLICE("text/plain"), SLICE(""),
               http_error_body(text, status, why));
}

/* A client that waits takes two descriptors, his own and that to the upstream. */
static int max_upstream(void)
{
    int pairs = (options_max_fds() - OTHER_FDS) / 2;

    return pairs > 0 ? pairs : 1;
}

void *relay_begin(struct conn *c, const struct request *req, size_t size,
                  struct out_source source)
{
    const char *upstream = serving.opt->upstream;
    struct slice self = { serving.opt->name, strlen(serving.opt->name) };
    struct slice authority = { upstream, upstream ? strlen(upstream) : 0 };
    struct relay *relay, *fitting;
    size_t head_len;

    if (upstream == NULL) {
        reply_failure(c, req, 503, "nobody to ask; start with --upstream ADDRESS:PORT");
        return NULL;
    }
    relay = malloc(size + http_relay_request_room(req, self, authority));
    if (relay == NULL) {
        reply_failure(c, req, 503, "no memory");
        return NULL;
    }
    head_len = http_relay_request((char *)relay + size, req, self, authority);
    fitting = realloc(relay, size + head_len); /* there may be thousands */
    if (fitting)
        relay = fitting;
    memset(relay, 0, size);
    if (pool.max_open == 0) {
        pool.max_open = max_upstream();
        pool.address_len = address_endpoint(upstream, &pool.address);
    }
    relay->source = source;
    client_begin(&relay->client, &pool, req->method,
                 (struct slice){ (char *)relay + size, head_len }, req->body,
                 serving.opt->reply_timeout_ms);
    return relay;
}

void relay_answer(struct conn *c, const struct request *req, struct relay *relay)
{
    struct client *client = &relay->client;
    bool kept = client_keep_body(client); /* the answer may come before all was sent */
    bool body =
        kept && client->want != CLIENT_FAILED && client->response.framing != HTTP_NO_BODY;

    turn.now = clock_ms(); /* for the date */
    if (client->want == CLIENT_FAILED)
        reply_failure(c, req, client->status, client->why);
    else if (!kept)
        reply_failure(c, req, 503, "no memory");
    else
        http_reply_relayed(c, req, &client->response, body ? &relay->source : NULL);
    if (!body)
        relay->source.end(&relay->source);
}
