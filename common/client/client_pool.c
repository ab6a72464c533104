/* client_pool.c - see client_pool.h.
 * Does not: know HTTP, or whether an answer ended where it should. */
#include "client/client_pool.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum { IDLE_ROOM = 16 }; /* at first; then twice as much, and so on */

/* Nothing may be there: bytes would be an answer that nobody asked for, and would pass
 * for the next one. MSG_PEEK in recv(2). */
static bool silent(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == -1 && errno == EAGAIN;
}

/* The one used last; -1: there is none. */
static int last_idle(struct client_pool *pool)
{
    int fd = -1;

    pthread_mutex_lock(&pool->lock);
    if (pool->idle > 0)
        fd = pool->idle_fds[--pool->idle];
    pthread_mutex_unlock(&pool->lock);
    return fd;
}

int client_pool_take(struct client_pool *pool)
{
    int fd;

    while ((fd = last_idle(pool)) != -1) {
        if (silent(fd))
            return fd;
        client_pool_close(pool, fd);
    }
    return -1;
}

static int connect_new(const struct client_pool *pool)
{
    int on = 1;
    int fd = socket(pool->address.any.sa_family,
                    SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd == -1)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* else only slower */
    if (connect(fd, &pool->address.any, pool->address_len) == -1 &&
        errno != EINPROGRESS && errno != EINTR) {
        int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* A place for one more, if need be of an idle one. False: as many are open as may be. */
static bool take_place(struct client_pool *pool)
{
    int spare = -1;
    bool room;

    pthread_mutex_lock(&pool->lock);
    room = pool->open - pool->idle < pool->max_open;
    if (room && pool->open >= pool->max_open)
        spare = pool->idle_fds[--pool->idle];
    else
        pool->open += room;
    pthread_mutex_unlock(&pool->lock);
    if (spare != -1)
        close(spare);
    return room;
}

static void leave_place(struct client_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->open--;
    pthread_mutex_unlock(&pool->lock);
}

int client_pool_connect(struct client_pool *pool)
{
    int fd;

    if (!take_place(pool)) {
        errno = EBUSY;
        return -1;
    }
    fd = connect_new(pool);
    if (fd == -1)
        leave_place(pool);
    return fd;
}

/* There are never more idle ones than max_open, so neither is the list much longer. */
static bool idle_room(struct client_pool *pool)
{
    int room = pool->idle_room > 0 ? 2 * pool->idle_room : IDLE_ROOM;
    int *fds;

    if (pool->idle < pool->idle_room)
        return true;
    fds = reallocarray(pool->idle_fds, (size_t)room, sizeof(*fds));
    if (fds == NULL)
        return false;
    pool->idle_fds = fds;
    pool->idle_room = room;
    return true;
}

void client_pool_give(struct client_pool *pool, int fd)
{
    bool kept;

    pthread_mutex_lock(&pool->lock);
    kept = idle_room(pool);
    if (kept)
        pool->idle_fds[pool->idle++] = fd;
    pthread_mutex_unlock(&pool->lock);
    if (!kept)
        client_pool_close(pool, fd);
}

void client_pool_close(struct client_pool *pool, int fd)
{
    close(fd);
    leave_place(pool);
}

char *client_pool_take_buffer(struct client_pool *pool)
{
    char *buffer;

    pthread_mutex_lock(&pool->lock);
    buffer = pool->buffer;
    pool->buffer = NULL;
    pthread_mutex_unlock(&pool->lock);
    return buffer;
}

bool client_pool_keep_buffer(struct client_pool *pool, char *buffer)
{
    bool kept;

    pthread_mutex_lock(&pool->lock);
    kept = pool->buffer == NULL;
    if (kept)
        pool->buffer = buffer;
    pthread_mutex_unlock(&pool->lock);
    return kept;
}

void client_pool_empty(struct client_pool *pool)
{
    int fd;

    while ((fd = last_idle(pool)) != -1)
        client_pool_close(pool, fd);
    free(pool->idle_fds);
    free(pool->buffer);
    pool->idle_fds = NULL;
    pool->buffer = NULL;
    pool->idle_room = 0;
}
