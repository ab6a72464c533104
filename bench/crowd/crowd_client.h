/* crowd_client.h - one client, from its first connection to its last.
 * Does not: decide when the run begins or ends. */
#ifndef CROWD_CLIENT_H
#define CROWD_CLIENT_H

#include "crowd_run.h"

/* Make a client of zeroed memory. */
void client_init(struct client *c);

/* It begins. */
void client_start(struct client *c);

/* The run stops: who waits for no answer is over now, others will be. at_once: all. */
void client_stop(struct client *c, bool at_once);

#endif
