/* relay.c - see relay.h.
 * Does not: speak with the upstream (client.h does), or decide what is handed on
 * (http_relay.h does). */
#include "app/relay.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "conn/turn.h"
#include "http/http_relay.h"

/* Of the process: listeners, the log; and clients that get 503. */
enum { OTHER_FDS = 64 };

/* One for all threads: an answer may go out in another thread than it came in. */
static struct client_pool pool;
static pthread_once_t pool_set_up = PTHREAD_ONCE_INIT;

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

static void set_up_pool(void)
{
    pool.max_open = max_upstream();
    pool.address_len = address_endpoint(serving.opt->upstream, &pool.address);
}

/* A relay, all zero, and behind the gateway's struct the head of the request to the
 * upstream; there may be thousands, so it has no room to spare. NULL: no memory. */
static struct relay *new_relay(const struct request *req, size_t size,
                               struct slice upstream, size_t *head_len)
{
    struct slice self = { serving.opt->name, strlen(serving.opt->name) };
    char *head = malloc(http_relay_request_room(req, self, upstream));
    struct relay *relay;

    if (head == NULL)
        return NULL;
    *head_len = http_relay_request(head, req, self, upstream);
    relay = malloc(size + *head_len);
    if (relay) {
        memset(relay, 0, size);
        memcpy((char *)relay + size, head, *head_len);
    }
    free(head);
    return relay;
}

void *relay_begin(struct conn *c, const struct request *req, size_t size,
                  struct out_source source)
{
    const char *upstream = serving.opt->upstream;
    struct relay *relay;
    size_t head_len;

    if (upstream == NULL) {
        reply_failure(c, req, 503, "nobody to ask; start with --upstream ADDRESS:PORT");
        return NULL;
    }
    relay = new_relay(req, size, (struct slice){ upstream, strlen(upstream) }, &head_len);
    if (relay == NULL) {
        reply_failure(c, req, 503, "no memory");
        return NULL;
    }
    pthread_once(&pool_set_up, set_up_pool);
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
