/* slow_step.c - one connection, step by step: read a request, wait, answer, next.
 * Does not: wait in a system call; what is asked and answered is others' business.
 *
 * Each step returns true if the next can be taken at once, false if an event must come
 * first or the connection is gone. A waiting connection owns no buffer but what it has
 * to send later. */
#include <errno.h>
#include <sys/socket.h>

#include "slow_upstream.h"

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
        connection_watch(c, EV_READ);
        return false;
    }
    observe(c);
    connection_set_state(c, c->asked.fault->early ? WAITING : READING_BODY);
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
        connection_watch(c, EV_READ);
        return false;
    }
    if (c->answered && a->last) { /* the rest of the body is nonsense */
        connection_close(c);
        return false;
    }
    connection_set_state(c, c->answered ? READING_HEAD : WAITING);
    c->answered = false;
    return true;
}

void connection_answer(struct connection *c)
{
    c->out = buffer_new();
    c->letters = c->made = 0;
    c->in_chunks = c->drip = false;
    c->asked.fault->answer(c);
    connection_set_state(c, ANSWERING);
}

static bool step_wait(struct connection *c)
{
    const struct asked *a = &c->asked;

    forget_empty_input(c);
    if (a->ms == 0 && a->fault->answer) {
        connection_answer(c);
        return true;
    }
    /* The client may leave meanwhile. One that is to be answered early is not read. */
    connection_watch(c, a->fault->early ? 0 : EV_READ);
    if (a->fault->answer)
        connection_set_timer(c, a->ms);
    return false;
}

static bool end_answer(struct connection *c)
{
    const struct fault *fault = c->asked.fault;

    evbuffer_free(c->out);
    c->out = NULL;
    request_free(&c->asked);
    if (fault->after) {
        connection_set_state(c, IN_GAP);
        connection_watch(c, 0);
        connection_set_timer(c, c->asked.gap_ms);
        return false;
    }
    if (c->asked.last) {
        connection_close(c);
        return false;
    }
    c->answered = fault->early;
    connection_set_state(c, c->answered ? READING_BODY : READING_HEAD);
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
        connection_watch(c, EV_READ); /* the client may leave meanwhile */
        connection_set_timer(c, c->asked.gap_ms);
        return false;
    }
    if (evbuffer_get_length(c->out) == 0 && c->letters == 0)
        return end_answer(c);
    /* Even if there is room: the others have their turn first. */
    connection_watch(c, EV_WRITE);
    return false;
}

void connection_run(struct connection *c)
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
            more = step_wait(c);
            break;
        case ANSWERING:
            more = step_answer(c);
            break;
        default:
            connection_watch(c, EV_READ);
            return;
        }
    }
}
