/* clients.h - whom stage 3 waits for, and the wait itself, made twice.
 * Does not: serve anybody. */
#ifndef CLIENTS_H
#define CLIENTS_H

#include <stdbool.h>

#include "conn/conn.h"

struct clients {
    struct conn **by_fd; /* owned, its entries too; NULL: not a client */
    int size;            /* entries in by_fd: the first fd that does not fit */
    int max_fd;          /* nobody waited for has a higher fd */
    int *ready; /* owned; as many entries: the fds that the last wait found ready */
    int listener;
    bool accepting; /* wait for the listener too */
};

/* Sleep until a client or the listener is ready, a signal comes, or timeout_ms are over
 * (-1: never). Fills `ready`; returns how many. */
int wait_select(struct clients *clients, int timeout_ms);
int wait_poll(struct clients *clients, int timeout_ms);

#endif
