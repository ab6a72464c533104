/* crowd_read.c - see crowd_read.h. */
#include "crowd_read.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum { INPUT = 65536 };

static char input[INPUT];

/* Is this body one of the right ones? */
static bool right_body(const struct answer *a)
{
    struct crowd_options *opt = &run.opt;

    if (opt->any_body)
        return true;
    if (opt->n_expected == 0)
        opt->expected[opt->n_expected++] =
            (struct expected){ .len = a->len, .hash = a->hash };
    for (int i = 0; i < opt->n_expected; i++) {
        if (opt->expected[i].len == a->len && opt->expected[i].hash == a->hash) {
            opt->expected[i].seen++;
            return true;
        }
    }
    return false;
}

static void count_status(const struct client *c)
{
    run.counts.answered_503 += c->answer.status == 503;
    run.counts.answered_408 += c->answer.status == 408;
    if (c->answer.status == 503 && c->answers == 0) {
        run.counts.refused++;
        if (run.opt.traits->holder)
            run.changed_ns = now_ns();
    }
}

/* The oldest request under way has its answer. more: and then some. */
static void count_answer(struct client *c, bool more)
{
    const struct answer *a = &c->answer;
    int64_t took_ns = now_ns() - c->asked_ns;

    c->outstanding--;
    if (a->status != 200) {
        run.counts.failures[FAILED_WRONG_STATUS]++;
        c->wrong = true;
    } else if ((more && c->outstanding == 0) || !right_body(a)) {
        run.counts.failures[FAILED_WRONG_BODY]++;
    } else {
        run.counts.served++;
        run.counts.late +=
            run.opt.late_ms > 0 && took_ns >= run.opt.late_ms * INT64_C(1000000);
        histogram_add(&run.total, took_ns);
    }
}

/* An answer is complete. True: the connection goes on. */
static bool answered(struct client *c, bool more)
{
    bool holder = run.opt.traits->holder;
    bool wanted = c->outstanding > 0;

    count_status(c);
    if (wanted)
        count_answer(c, more);
    else if (c->answer.status != 408 && c->answer.status != 503)
        run.counts.surplus++;
    else if (!holder && !run.opt.traits->fresh)
        run.counts.closed_idle++; /* with a word of farewell: RFC 9110 section 15.5.9 */
    c->answers++;
    client_settle(c);
    if (c->answer.close) {
        run.counts.announced_close += wanted && !run.opt.traits->fresh;
        c->last = true;
        client_fail(c, FAILED_AFTER_CLOSE);
    }
    c->answer = (struct answer){ 0 };
    return holder || (wanted && !c->last && !run.opt.traits->fresh);
}

/* A server may say 408 to a connection that is just idle, and be read too late. */
static bool farewell(const char *bytes, size_t n)
{
    static const char start[] = "HTTP/1.1 408";

    return n >= sizeof(start) - 1 && memcmp(bytes, start, sizeof(start) - 1) == 0;
}

/* Bytes came. True: the connection goes on. */
static bool take(struct client *c, const char *bytes, size_t n)
{
    enum answer_verdict verdict = ANSWER_COMPLETE;
    size_t used;

    if (!c->heard && c->outstanding > 0) {
        c->heard = true;
        histogram_add(&run.first_byte, now_ns() - c->asked_ns);
    }
    while (n > 0 && verdict == ANSWER_COMPLETE) {
        verdict = answer_feed(&c->answer, bytes, n, &used);
        bytes += used;
        n -= used;
        if (verdict == ANSWER_COMPLETE && !answered(c, n > 0 && !farewell(bytes, n)))
            return false;
    }
    if (verdict == ANSWER_MALFORMED) {
        run.counts.surplus += c->outstanding == 0;
        c->wrong = true;
        client_fail(c, FAILED_WRONG_STATUS);
        return false;
    }
    return true;
}

enum reading client_read(struct client *c, uint64_t most, uint64_t *n)
{
    ssize_t got = recv(c->fd, input, most < INPUT ? (size_t)most : INPUT, 0);

    *n = got > 0 ? (uint64_t)got : 0;
    if (got > 0) {
        run.counts.bytes_read += *n;
        if (take(c, input, (size_t)got))
            return READ_SOME;
        return c->wrong ? READ_WRONG : READ_LAST;
    }
    if (got == -1 && (errno == EAGAIN || errno == EINTR))
        return READ_NONE;
    return got == -1 ? READ_RESET : READ_END;
}

enum reading client_look(struct client *c)
{
    struct pollfd p = { .fd = c->fd, .events = POLLRDHUP };
    char head[12];

    if (!c->heard && recv(c->fd, head, sizeof(head), MSG_PEEK) == sizeof(head)) {
        c->heard = true;
        if (memcmp(head + 9, "503", 3) == 0) {
            run.counts.answered_503++;
            run.counts.refused++;
        }
        run.counts.answered_408 += memcmp(head + 9, "408", 3) == 0;
    }
    if (poll(&p, 1, 0) != 1 || !(p.revents & (POLLRDHUP | POLLHUP | POLLERR)))
        return READ_NONE;
    return p.revents & POLLERR ? READ_RESET : READ_END;
}
