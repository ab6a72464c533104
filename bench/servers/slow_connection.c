/* slow_connection.c - one connection: its beginning, its events, its end.
 * Does not: know what is asked and answered; what the next step is says slow_step.c. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "slow_upstream.h"

static LIST_HEAD(connections,
                 connection) connections = LIST_HEAD_INITIALIZER(connections);

/* ---- the end ---- */

void connection_set_state(struct connection *c, enum state state)
{
    bool counted = !c->asked.observer;

    if (c->state == WAITING && counted)
        counts.waiting--;
    c->state = state;
    if (c->state == WAITING && counted && ++counts.waiting > counts.most_waiting)
        counts.most_waiting = counts.waiting;
}

void connection_close(struct connection *c)
{
    if (c->state == READING_HEAD && c->in && evbuffer_get_length(c->in) > 0)
        counts.partial++;
    connection_set_state(c, SILENT);
    if (c->watching)
        event_del(&c->io);
    event_del(&c->timer);
    close(c->fd);
    request_free(&c->asked);
    if (c->in)
        evbuffer_free(c->in);
    if (c->out)
        evbuffer_free(c->out);
    LIST_REMOVE(c, all);
    counts.open -= !c->observer;
    if (upstream.connections-- == upstream.max_connections && upstream.listener)
        evconnlistener_enable(upstream.listener);
    free(c);
}

void connection_reset(struct connection *c)
{
    struct linger linger = { .l_onoff = 1, .l_linger = 0 };

    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    connection_close(c);
}

void connection_close_all(void)
{
    while (!LIST_EMPTY(&connections))
        connection_close(LIST_FIRST(&connections));
}

void connection_left(struct connection *c)
{
    bool silent = c->state == SILENT && !upstream.silent;

    if (c->state == WAITING || c->state == ANSWERING || silent)
        counts.left += !c->asked.observer;
    connection_close(c);
}

/* ---- events ---- */

/* False: it left. */
static bool connection_read(struct connection *c)
{
    static char piece[PIECE];
    ssize_t n = recv(c->fd, piece, sizeof(piece), 0);

    if (n == -1 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0)
        return false;
    if (c->in == NULL)
        c->in = buffer_new();
    evbuffer_add(c->in, piece, (size_t)n);
    return true;
}

/* It gets no answer, but it is counted. */
static void connection_spring(struct connection *c)
{
    struct asked unheard;

    if (c->in && request_read_head(&unheard, c->in))
        request_free(&unheard);
    else if (c->in && evbuffer_get_length(c->in) > 0)
        counts.partial++;
    if (c->with_reset)
        connection_reset(c);
    else
        connection_close(c);
}

static void on_bytes(struct connection *c)
{
    if (!connection_read(c)) {
        connection_left(c);
        return;
    }
    switch (c->state) {
    case READING_HEAD:
    case READING_BODY:
        connection_run(c);
        break;
    case TRAPPED:
        connection_spring(c);
        break;
    case SILENT:
        if (c->in)
            evbuffer_drain(c->in, evbuffer_get_length(c->in));
        break;
    default: /* requests behind the one that waits: so many of them, and no more */
        if (c->in && evbuffer_get_length(c->in) >= PIECE)
            connection_watch(c, 0);
    }
}

static void on_io(int fd, short what, void *arg)
{
    (void)fd;
    if (what & EV_READ)
        on_bytes(arg);
    else
        connection_run(arg);
}

void connection_watch(struct connection *c, short what)
{
    if (c->watching == what)
        return;
    if (c->watching)
        event_del(&c->io);
    c->watching = what;
    if (what) {
        event_assign(&c->io, upstream.base, c->fd, (short)(what | EV_PERSIST), on_io, c);
        must(event_add(&c->io, NULL) == 0, "event_add");
    }
}

void connection_set_timer(struct connection *c, int ms)
{
    struct timeval time = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

    must(event_add(&c->timer, &time) == 0, "event_add");
}

static void on_timer(int fd, short what, void *arg)
{
    struct connection *c = arg;

    (void)fd;
    (void)what;
    if (c->state == IN_GAP) {
        c->asked.fault->after(c);
        return;
    }
    if (c->state == WAITING)
        connection_answer(c);
    connection_run(c);
}

/* ---- beginning, and what comes after an answer ---- */

void connection_open(int fd)
{
    struct connection *c = calloc(1, sizeof(*c));

    if (c == NULL) {
        close(fd);
        return;
    }
    c->fd = fd;
    c->state = upstream.silent ? SILENT : READING_HEAD;
    event_assign(&c->timer, upstream.base, -1, 0, on_timer, c);
    LIST_INSERT_HEAD(&connections, c, all);
    counts.accepted++;
    counts.open++;
    if (++upstream.connections == upstream.max_connections)
        evconnlistener_disable(upstream.listener);
    connection_run(c);
}

void connection_stay(struct connection *c)
{
    connection_set_state(c, SILENT);
    connection_run(c);
}

void connection_trap(struct connection *c)
{
    connection_set_state(c, TRAPPED);
    if (c->in)
        connection_spring(c);
    else
        connection_run(c);
}

void connection_trap_reset(struct connection *c)
{
    c->with_reset = true;
    connection_trap(c);
}

void connection_leave(struct connection *c)
{
    connection_read(c);
    connection_spring(c);
}

void connection_speak(struct connection *c)
{
    c->out = buffer_new();
    answer_text(c, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nunasked");
    c->asked.fault = fault_find("");
    connection_set_state(c, ANSWERING);
    connection_run(c);
}
