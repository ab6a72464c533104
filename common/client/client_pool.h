/* client_pool.h - the connections to one server that a process asks: some in use, some
 * kept open for the next request. RFC 9112 section 9.3. Threads may share them.
 * Does not: wait, or end idle ones by a clock; that they were closed is seen when they
 * would be used.
 *
 * A process must not take its idle connections along into a fork(2): two would ask over
 * the same one. Workers here are forked before anything is served. */
#ifndef CLIENT_POOL_H
#define CLIENT_POOL_H

#include <pthread.h>
#include <stdbool.h>

#include "base/address.h"

/* Set the address and max_open; all else zero, which is a lock that nobody holds. */
struct client_pool {
    union address address;
    socklen_t address_len;
    pthread_mutex_t lock; /* held to touch what follows */
    int max_open;         /* connections, idle ones included */
    int open;             /* of them */
    int idle; /* of these: as many as were in use at once, and were not closed since */
    int idle_room; /* numbers that idle_fds has room for */
    int *idle_fds; /* owned, and the connections, too; used last: last */
    char *buffer;  /* owned: one that no exchange needs now; NULL: none */
};

/* An idle connection over which nothing has come, neither bytes nor an end: the one used
 * last, which the server has had least time to close. -1: there is none. */
int client_pool_take(struct client_pool *pool);

/* A new one: a non-blocking socket (CLOEXEC, TCP_NODELAY) that connects. -1: errno, or
 * EBUSY: as many are open as may be. socket(2), connect(2). */
int client_pool_connect(struct client_pool *pool);

/* Back from use: to be kept, or, if there is no memory to keep it in, closed. */
void client_pool_give(struct client_pool *pool, int fd);

/* Back from use, to be closed. */
void client_pool_close(struct client_pool *pool, int fd);

/* A buffer that an exchange has left behind, for another; NULL: there is none. One is kept
 * at most: false, there is one already. All of them are equally long. */
char *client_pool_take_buffer(struct client_pool *pool);
bool client_pool_keep_buffer(struct client_pool *pool, char *buffer);

/* Close all that are idle, and free what the pool owns. */
void client_pool_empty(struct client_pool *pool);

#endif
