/* gateway.c - see gateway.h.
 * Does not: speak with the upstream (client.h does), or decide what is handed on
 * (http_relay.h does). */
#include "app/gateway.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "client/client.h"
#include "conn/turn.h"
#include "http/http_relay.h"

enum { OPEN_MAX_UPSTREAM = 64 }; /* connections of a process to the upstream: 503 above */

/* One for all threads: an answer may go out in another thread's turn than it came in. */
static struct client_pool pool;
static pthread_once_t pool_set_up = PTHREAD_ONCE_INIT;

/* One exchange. It lives until the client has all of the answer, or is gone. */
struct relay {
    struct out_source source; /* first: the answer's body, on its way out */
    struct client client;
    char head[]; /* of the request to the upstream */
};

/* [gateway.wait] */
/* Sleep until the upstream lets us go on. A signal ends poll(2), and the step is none. */
static void wait_and_step(struct client *client)
{
    struct pollfd upstream = { client->fd, client_events(client), 0 };

    poll(&upstream, 1, client_timeout_ms(client));
    client_step(client);
}

static ssize_t pull(struct out_source *source, char *room, size_t size)
{
    struct client *client = &((struct relay *)source)->client;
    ssize_t n = client_pull(client, room, size);

    while (n == CLIENT_NOTHING) {
        wait_and_step(client);
        n = client_pull(client, room, size);
    }
    return n;
}

static bool ready(struct out_source *source)
{
    return client_ready(&((struct relay *)source)->client);
}

static void end(struct out_source *source)
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

static void set_up_pool(void)
{
    pool.max_open = OPEN_MAX_UPSTREAM;
    pool.address_len = address_endpoint(serving.opt->upstream, &pool.address);
}

static void begin(struct relay *relay, const struct request *req, struct slice self,
                  struct slice authority)
{
    struct slice head = { relay->head,
                          http_relay_request(relay->head, req, self, authority) };

    pthread_once(&pool_set_up, set_up_pool);
    relay->source = (struct out_source){ pull, ready, end };
    client_begin(&relay->client, &pool, req->method, head, req->body,
                 serving.opt->reply_timeout_ms);
}

/* Hand the answer on, and `relay` with it if there is a body. */
static void answer(struct conn *c, const struct request *req, struct relay *relay)
{
    struct client *client = &relay->client;
    bool kept = client_keep_body(client); /* the answer may come before all was sent */
    bool body =
        kept && client->want != CLIENT_FAILED && client->response.framing != HTTP_NO_BODY;

    if (client->want == CLIENT_FAILED)
        reply_failure(c, req, client->status, client->why);
    else if (!kept)
        reply_failure(c, req, 503, "no memory");
    else
        http_reply_relayed(c, req, &client->response, body ? &relay->source : NULL);
    if (!body)
        end(&relay->source);
}

void gateway_relay(struct conn *c, const struct request *req)
{
    const char *upstream = serving.opt->upstream;
    struct slice self = { serving.opt->name, strlen(serving.opt->name) };
    struct slice authority = { upstream, upstream ? strlen(upstream) : 0 };
    struct relay *relay;

    if (upstream == NULL) {
        reply_failure(c, req, 503, "nobody to ask; start with --upstream ADDRESS:PORT");
        return;
    }
    relay = malloc(sizeof(*relay) + http_relay_request_room(req, self, authority));
    if (relay == NULL) {
        reply_failure(c, req, 503, "no memory");
        return;
    }
    begin(relay, req, self, authority);
    while (!relay->client.answered && relay->client.want != CLIENT_FAILED)
        wait_and_step(&relay->client);
    turn.now = clock_ms(); /* for the date */
    answer(c, req, relay);
}
