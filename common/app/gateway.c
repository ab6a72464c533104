/* gateway.c - see gateway.h: the form that waits in the handler.
 * Does not: let others run meanwhile. The handler sleeps until the answer comes, and the
 * body is waited for on its way out: in a process that cannot wait, an upstream that
 * takes its time stops everybody. */
#include "app/gateway.h"

#include <poll.h>

#include "app/relay.h"

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

/* [gateway.relay] */
void gateway_relay(struct conn *c, const struct request *req)
{
    static const struct out_source source = { pull, relay_ready, relay_end };
    struct relay *relay = relay_begin(c, req, sizeof(*relay), source);

    if (relay == NULL)
        return;
    while (!relay_has_answer(relay))
        wait_and_step(&relay->client);
    relay_answer(c, req, relay);
}
