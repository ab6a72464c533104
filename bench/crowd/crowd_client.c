/* crowd_client.c - one client: connect, ask, wait, fail, begin again.
 * Does not: judge what it reads; crowd_read.c does.
 *
 * Between client_start() and client_stop() a client lives by two events, its socket's and
 * its timer's. What the timer means depends on where the client is:
 *   away        time to connect
 *   connecting  the connection took too long
 *   open        drip: next byte; slow-read: next slice; with a request under way: its
 *               answer took too long; without: time to ask */
#include "crowd_client.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crowd_read.h"
#include "crowd_socket.h"

enum {
    BACK_OFF_MS = 10, /* before another try after one that failed */
    READ_ROUNDS = 16, /* then others have their turn */
};

/* The turn of a client: what it waits for leads back to its beginning. */
static void on_io(evutil_socket_t fd, short what, void *arg);
static void open_client(struct client *c);

/* ---- events ---- */

/* Wait for these of EV_READ and EV_WRITE; 0: none. */
static void watch(struct client *c, short what)
{
    if (c->watching == what)
        return;
    if (c->watching)
        event_del(&c->io);
    c->watching = what;
    if (what) {
        event_assign(&c->io, run.base, c->fd, (short)(what | EV_PERSIST), on_io, c);
        event_add(&c->io, NULL);
    }
}

static void wait_ms(struct client *c, int64_t ms)
{
    struct timeval time = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

    evtimer_add(&c->timer, &time);
}

/* An answer must come, or a connection be made, within --timeout. */
static void wait_timeout(struct client *c)
{
    if (run.opt.traits->timed)
        evtimer_add(&c->timer, run.timeout);
}

/* ---- the end of a connection, of a client ---- */

static void let_go(struct client *c)
{
    watch(c, 0);
    evtimer_del(&c->timer);
    if (c->fd != -1)
        close(c->fd);
    c->fd = -1;
}

static void over(struct client *c)
{
    client_settle(c);
    let_go(c);
    c->state = CLIENT_OVER;
    if (--run.active == 0)
        event_base_loopbreak(run.base);
}

static void again(struct client *c, int delay_ms)
{
    let_go(c);
    if (run.opt.traits->holder || !client_may_ask()) {
        over(c);
        return;
    }
    c->state = CLIENT_AWAY;
    if (delay_ms == -1)
        open_client(c);
    else
        wait_ms(c, delay_ms);
}

static int pause_ms(const struct client *c)
{
    int64_t elapsed;

    if (run.opt.behaviour != PROBE || run.opt.interval_ms == 0)
        return run.opt.interval_ms;
    elapsed = (now_ns() - c->opened_ns) / 1000000;
    return elapsed < run.opt.interval_ms ? (int)(run.opt.interval_ms - elapsed) : 0;
}

static int retry_ms(const struct client *c)
{
    int ms = pause_ms(c);

    return ms > BACK_OFF_MS ? ms : BACK_OFF_MS;
}

static void ended(struct client *c, bool reset)
{
    bool partial = c->answer.started && c->outstanding == 0;

    run.counts.closed_by_server++;
    run.counts.reset_by_server += reset;
    run.counts.surplus += partial;
    if (run.opt.traits->holder) {
        run.changed_ns = now_ns();
        histogram_add(&run.closed_after, run.changed_ns - c->established_ns);
    }
    if (run.opt.behaviour == NEVER_READ) {
        again(c, 0); /* what became of its request it never wanted to know */
    } else if (c->outstanding == 0) {
        run.counts.closed_idle += c->answers > 0 && !c->last;
        again(c, pause_ms(c));
    } else {
        if (!c->heard && c->answers > 0)
            client_fail(c, FAILED_RACED);
        else
            client_fail(c, reset ? FAILED_RESET : FAILED_CLOSED);
        again(c, retry_ms(c));
    }
}

/* What was read decides how it goes on. */
static void follow(struct client *c, enum reading what)
{
    if (what == READ_END || what == READ_RESET)
        ended(c, what == READ_RESET);
    else if (what == READ_WRONG)
        again(c, retry_ms(c));
    else if (what == READ_LAST)
        again(c, run.opt.interval_ms > 0 ? pause_ms(c) : -1);
}

/* The connection is broken: first read what had come before. */
static void broken(struct client *c)
{
    enum reading what = run.opt.behaviour == NEVER_READ ? READ_NONE : READ_SOME;
    uint64_t n;

    while (what == READ_SOME)
        what = client_read(c, UINT64_MAX, &n);
    follow(c, what == READ_NONE ? READ_RESET : what);
}

/* ---- asking ---- */

/* What tells of answers: nothing, where the timer decides when to read; where nobody
 * reads, each arrival once. */
static short arrivals(void)
{
    if (run.opt.behaviour == SLOW_READ)
        return 0;
    return run.opt.behaviour == NEVER_READ ? EV_READ | EV_ET : EV_READ;
}

/* Write what is left of the requests. */
static void send_rest(struct client *c)
{
    ssize_t n = send(c->fd, run.request + c->sent, c->to_send - c->sent, MSG_NOSIGNAL);

    if (n == -1 && errno != EAGAIN && errno != EINTR) {
        broken(c);
        return;
    }
    if (n > 0) {
        c->sent += (size_t)n;
        run.counts.bytes_written += (uint64_t)n;
    }
    watch(c, c->sent < c->to_send ? (short)(arrivals() | EV_WRITE) : arrivals());
}

/* Requests go out, as many as --depth and --requests allow. since: where the time to the
 * answer starts. */
static void ask(struct client *c, int64_t since)
{
    uint64_t n = (uint64_t)run.opt.depth;

    if (!run.opt.traits->fresh) { /* those were granted when they connected */
        if (run.opt.requests > 0 && n > run.opt.requests - run.granted)
            n = run.opt.requests - run.granted;
        run.granted += n;
    }
    c->outstanding = (uint32_t)n;
    c->to_send = n * run.request_len;
    c->sent = 0;
    c->heard = false;
    c->asked_ns = since;
    run.counts.requests += n;
    if (!run.opt.traits->fresh)
        wait_timeout(c); /* theirs includes connecting */
    send_rest(c);
}

static void ask_next(struct client *c)
{
    if (client_may_ask())
        ask(c, now_ns());
    else
        over(c);
}

/* One more byte of a request, and in the end of the next one. */
static void drip(struct client *c)
{
    if (c->last)
        return;
    if (c->paced == 0 && !client_may_ask()) { /* over, once all is answered */
        if (c->outstanding == 0)
            over(c);
        else
            wait_ms(c, run.opt.interval_ms);
        return;
    }
    if (send(c->fd, run.request + c->paced, 1, MSG_NOSIGNAL) == 1) {
        run.counts.bytes_written++;
        run.granted += c->paced == 0;
        c->paced++;
    } else if (errno != EAGAIN) {
        broken(c);
        return;
    }
    client_settle(c);
    if (c->paced == run.request_len) {
        c->paced = 0;
        c->outstanding++;
        c->asked_ns = now_ns();
        c->heard = false;
        run.counts.requests++;
    }
    wait_ms(c, run.opt.interval_ms);
}

/* Half of a head, which always fits into an empty send buffer. */
static void send_half(struct client *c)
{
    ssize_t n = send(c->fd, run.request, run.request_len / 2, MSG_NOSIGNAL);

    if (n == -1) {
        broken(c);
        return;
    }
    run.counts.bytes_written += (uint64_t)n;
    watch(c, EV_READ);
    client_settle(c);
}

/* Ask, and go with a reset before the answer is read. SO_LINGER in socket(7). */
static void ask_and_reset(struct client *c)
{
    struct linger linger = { .l_onoff = 1, .l_linger = 0 };

    if (send(c->fd, run.request, run.request_len, MSG_NOSIGNAL) > 0) {
        run.counts.requests++;
        run.counts.bytes_written += run.request_len;
    }
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    again(c, run.opt.interval_ms);
}

/* ---- reading ---- */

/* Bytes are there. Read until there are no more, so that the end of the stream is seen
 * before the next request is written. */
static void read_on(struct client *c)
{
    enum reading what = READ_SOME;
    uint64_t n;

    for (int round = 0; round < READ_ROUNDS && what == READ_SOME; round++)
        what = client_read(c, UINT64_MAX, &n);
    if (what != READ_SOME && what != READ_NONE) {
        follow(c, what);
        return;
    }
    if (run.opt.traits->holder || c->outstanding > 0 || c->answer.started)
        return;
    if (run.opt.interval_ms > 0 && client_may_ask())
        wait_ms(c, run.opt.interval_ms);
    else
        ask_next(c);
}

/* Read as many bytes as --rate allows by now; ask anew when the answer is complete. */
static void read_slice(struct client *c)
{
    double seconds = (double)(now_ns() - c->established_ns) / 1e9;
    uint64_t allowed = (uint64_t)(seconds * (double)run.opt.rate);
    enum reading what = READ_SOME;
    uint64_t n;

    while (what == READ_SOME && c->paced < allowed) {
        what = client_read(c, allowed - c->paced, &n);
        c->paced += n;
    }
    if (what != READ_SOME && what != READ_NONE) {
        follow(c, what);
        return;
    }
    wait_ms(c, run.opt.interval_ms);
    if (c->outstanding == 0 && !c->last)
        ask_next(c);
}

/* ---- connecting ---- */

static void begin(struct client *c)
{
    switch (run.opt.behaviour) {
    case SILENT:
        watch(c, EV_READ);
        client_settle(c);
        break;
    case HALF:
        send_half(c);
        break;
    case DRIP:
        watch(c, EV_READ);
        drip(c);
        break;
    case RESET:
        ask_and_reset(c);
        break;
    case PROBE:
    case SHORT:
        ask(c, c->opened_ns);
        break;
    case SLOW_READ:
    case NEVER_READ:
        client_settle(c);
        ask_next(c);
        if (run.opt.behaviour == SLOW_READ && c->state == CLIENT_OPEN)
            wait_ms(c, run.opt.interval_ms);
        break;
    default:
        ask_next(c);
        break;
    }
}

static void connected(struct client *c)
{
    c->state = CLIENT_OPEN;
    c->established_ns = now_ns();
    run.counts.established++;
    histogram_add(&run.connect, c->established_ns - c->opened_ns);
    if (!run.opt.traits->holder)
        client_settle(c);
    begin(c);
}

static void connect_failed(struct client *c, int error)
{
    if (error == ECONNREFUSED || error == ECONNRESET) {
        run.counts.refused++;
        run.counts.refused_at_connect++;
    } else {
        run.counts.connect_failed++;
        run.counts.connect_errno = error;
    }
    client_settle(c);
    again(c, retry_ms(c));
}

/* Asked again, connect(2) says what became of the first time. */
static void try_connect(struct client *c)
{
    if (connect(c->fd, (struct sockaddr *)&run.opt.address, run.opt.address_len) == 0)
        connected(c);
    else if (errno == EINPROGRESS || errno == EALREADY)
        watch(c, EV_WRITE);
    else
        connect_failed(c, errno);
}

static void open_client(struct client *c)
{
    c->state = CLIENT_CONNECTING;
    c->last = c->heard = c->wrong = false;
    c->answers = c->outstanding = 0;
    c->sent = c->to_send = 0;
    c->answer = (struct answer){ 0 };
    c->paced = 0;
    c->fd = socket_open();
    run.counts.offered++;
    run.granted += run.opt.traits->fresh;
    if (c->fd == -1) {
        connect_failed(c, errno);
        return;
    }
    wait_timeout(c);
    c->opened_ns = now_ns();
    /* On loopback the handshake is done by the time connect(2) says EINPROGRESS. */
    if (connect(c->fd, (struct sockaddr *)&run.opt.address, run.opt.address_len) == 0)
        connected(c);
    else if (errno == EINPROGRESS)
        try_connect(c);
    else
        connect_failed(c, errno);
}

/* ---- events ---- */

static void on_io(evutil_socket_t fd, short what, void *arg)
{
    struct client *c = arg;

    (void)fd;
    if (c->state == CLIENT_CONNECTING)
        try_connect(c);
    else if (what & EV_WRITE)
        send_rest(c);
    else if (run.opt.behaviour == NEVER_READ)
        follow(c, client_look(c));
    else
        read_on(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct client *c = arg;

    (void)fd;
    (void)what;
    if (c->state == CLIENT_AWAY) {
        open_client(c);
    } else if (c->state == CLIENT_CONNECTING) {
        connect_failed(c, ETIMEDOUT);
    } else if (run.opt.behaviour == DRIP) {
        drip(c);
    } else if (run.opt.behaviour == SLOW_READ) {
        read_slice(c);
    } else if (c->outstanding > 0) {
        client_fail(c, FAILED_TIMEOUT);
        again(c, pause_ms(c));
    } else {
        ask_next(c);
    }
}

void client_init(struct client *c)
{
    c->fd = -1;
    evtimer_assign(&c->timer, run.base, on_timer, c);
}

void client_start(struct client *c)
{
    if (client_may_ask())
        open_client(c);
    else
        over(c);
}

void client_stop(struct client *c, bool at_once)
{
    bool waits = c->state == CLIENT_OPEN && c->outstanding > 0 && run.opt.traits->timed;

    if (c->state != CLIENT_OVER && (at_once || !waits))
        over(c);
}
