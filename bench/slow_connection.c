/* slow_connection.c - one connection: read, wait, answer, next; its end.
 * Does not: know what is asked and answered.
 *
 * The state decides what the next step is; connection_run() takes steps until one has to
 * wait for an event. A waiting connection owns no buffer but what it has to echo. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "slow_upstream.h"

static LIST_HEAD(, connection) connections = LIST_HEAD_INITIALIZER(connections);

/* ---- the end ---- */

static bool is_answering(const struct connection *c)
{
    return c->state == WAITING || c->state == ANSWERING;
}

static void set_state(struct connection *c, enum state state)
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
    set_state(c, SILENT);
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

/* The client went. */
static void connection_left(struct connection *c)
{
    counts.left += is_answering(c) && !c->asked.observer;
    connection_close(c);
}

/* ---- events ---- */

static void on_io(int fd, short what, void *arg);

static void watch(struct connection *c, short what)
{
    if (c->watching == what)
        return;
    if (c->watching)
        event_del(&c->io);
    c->watching = what;
    if (what) {
        event_assign(&c->io, upstream.base, c->fd, (short)(what | EV_PERSIST), on_io, c);
        event_add(&c->io, NULL);
    }
}

static void set_timer(struct connection *c, int ms)
{
    struct timeval time = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

    event_add(&c->timer, &time);
}

/* ---- steps: true, and the next may be taken; false: wait, or it is gone ---- */

/* An observer does not change what it sees. */
static void observe(struct connection *c)
{
    if (!c->used && c->asked.observer) {
        c->observer = true;
        counts.accepted -= counts.accepted > 0;
        counts.open--;
    }
    if (c->asked.observer)
        counts_print(c->asked.body);
    c->used = true;
}

static void forget_empty_input(struct connection *c)
{
    if (c->in && evbuffer_get_length(c->in) == 0) {
        evbuffer_free(c->in);
        c->in = NULL;
    }
}

static bool step_head(struct connection *c)
{
    if (c->in == NULL || !request_read_head(&c->asked, c->in)) {
        forget_empty_input(c);
        watch(c, EV_READ);
        return false;
    }
    observe(c);
    set_state(c, c->asked.fault->early ? WAITING : READING_BODY);
    return true;
}

static bool step_body(struct connection *c)
{
    struct asked *a = &c->asked;

    if (c->in == NULL)
        c->in = buffer_new();
    if (!request_read_body(a, c->in)) {
        if (a->expects_continue && !c->answered)
            send(c->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL);
        a->expects_continue = false;
        watch(c, EV_READ);
        return false;
    }
    set_state(c, c->answered ? READING_HEAD : WAITING);
    c->answered = false;
    return true;
}

static bool step_wait(struct connection *c)
{
    const struct asked *a = &c->asked;

    forget_empty_input(c);
    if (a->ms == 0 && a->fault->answer)
        return true;
    /* The client may leave meanwhile. One that is to be answered early is not read. */
    watch(c, a->fault->early ? 0 : EV_READ);
    if (a->fault->answer)
        set_timer(c, a->ms);
    return false;
}

static bool begin_answer(struct connection *c)
{
    c->out = buffer_new();
    c->letters = c->made = 0;
    c->in_chunks = c->drip = false;
    c->asked.fault->answer(c);
    set_state(c, ANSWERING);
    return true;
}

static bool end_answer(struct connection *c)
{
    const struct fault *fault = c->asked.fault;

    evbuffer_free(c->out);
    c->out = NULL;
    request_free(&c->asked);
    if (fault->after) {
        set_state(c, IN_GAP);
        watch(c, 0);
        set_timer(c, c->asked.gap_ms);
        return false;
    }
    if (c->asked.last) {
        connection_close(c);
        return false;
    }
    c->answered = fault->early;
    set_state(c, c->answered ? READING_BODY : READING_HEAD);
    return true;
}

static bool step_answer(struct connection *c)
{
    int sent;

    answer_make(c);
    if (evbuffer_get_length(c->out) == 0)
        return end_answer(c);
    do
        sent = evbuffer_write_atmost(c->out, c->fd, c->drip ? 1 : -1);
    while (sent == -1 && errno == EINTR);
    if (sent == -1 && errno != EAGAIN) {
        connection_left(c);
        return false;
    }
    if (c->drip) {
        watch(c, 0);
        set_timer(c, c->asked.gap_ms);
        return false;
    }
    if (evbuffer_get_length(c->out) == 0 && c->letters == 0)
        return end_answer(c);
    watch(c, EV_WRITE); /* even if there may be room: the others have their turn first */
    return false;
}

static void connection_run(struct connection *c)
{
    bool more = true;

    while (more) {
        switch (c->state) {
        case READING_HEAD:
            more = step_head(c);
            break;
        case READING_BODY:
            more = step_body(c);
            break;
        case WAITING:
            more = step_wait(c) && begin_answer(c);
            break;
        case ANSWERING:
            more = step_answer(c);
            break;
        default:
            watch(c, EV_READ);
            return;
        }
    }
}

/* ---- bytes from the client, and time ---- */

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
            watch(c, 0);
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

static void on_timer(int fd, short what, void *arg)
{
    struct connection *c = arg;

    (void)fd;
    (void)what;
    if (c->state == IN_GAP)
        c->asked.fault->after(c);
    else if (c->state == ANSWERING || begin_answer(c))
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
    set_state(c, SILENT);
    connection_run(c);
}

void connection_trap(struct connection *c)
{
    set_state(c, TRAPPED);
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
    set_state(c, ANSWERING);
    connection_run(c);
}
