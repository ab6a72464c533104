/* app.c - the application that every stage serves: a greeting, and handlers to experiment
 * with.
 * Does not: know which stage runs it, or how its handlers wait: those that do are in
 * files of their own. */
#include "conn/app.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "app/gateway.h"
#include "app/handler.h"
#include "base/clock.h"
#include "base/log.h"
#include "board/stats.h"
#include "conn/conn.h"
#include "conn/http1.h"

enum {
    BYTES_MAX = 64 << 20,
    PATH_CAP = 32,      /* longer than any path there is */
    STATS_ROOM = 32768, /* JSON of MAX_WORKERS cells */
};

static const struct slice none = { "", 0 };
static const struct slice json = { "application/json", 16 };

static void hello(struct conn *c, const struct request *req)
{
    http_reply(c, req, 200, SLICE("text/html;charset=UTF-8"), none,
               SLICE("hello world!"));
}

static void echo(struct conn *c, const struct request *req)
{
    http_reply(c, req, 200,
               req->type.len > 0 ? req->type : SLICE("application/octet-stream"), none,
               req->body);
}

/* Spins: `ms` of this thread's own cpu time, so that two who burn on one cpu take twice
 * as long, as real work would. */
static void burn_ms(struct conn *c, const struct request *req)
{
    long ms = handler_number(c, req, "ms", HANDLER_MS_MAX);
    struct timespec cpu;
    int64_t until;

    if (ms == -1)
        return;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    until = (int64_t)cpu.tv_sec * 1000000000 + cpu.tv_nsec + ms * INT64_C(1000000);
    while ((int64_t)cpu.tv_sec * 1000000000 + cpu.tv_nsec < until)
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    handler_reply(c, req, 200, "burnt %ld ms\n", ms);
}

/* Byte i of the body is a letter that i alone decides, so a reader can check the
 * order. */
static void produce_letters(uint64_t offset, char *out, size_t len)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    size_t i = 0;

    for (; i < len && i < 26; i++)
        out[i] = letters[(offset + i) % 26];
    for (; i < len; i *= 2) /* what is there repeats every 26 bytes: double it */
        memcpy(out + i, out, len - i < i ? len - i : i);
}

static void bytes(struct conn *c, const struct request *req)
{
    long n = handler_number(c, req, "n", BYTES_MAX);

    if (n != -1)
        http_reply_produced(c, req, SLICE("application/octet-stream"), (uint64_t)n,
                            produce_letters);
}

static void whoami(struct conn *c, const struct request *req)
{
    char body[NAME_MAX + 128];
    int len = snprintf(body, sizeof(body),
                       "{\"stage\":\"%s\",\"pid\":%d,\"worker\":%d,\"requests\":%u}\n",
                       program_invocation_short_name, (int)getpid(), stats_slot(),
                       c->requests + 1);

    http_reply(c, req, 200, json, none, (struct slice){ body, (size_t)len });
}

static const struct {
    const char *name;
    size_t offset;
} counters[] = {
    { "restarts", offsetof(struct stats, restarts) },
    { "accepted", offsetof(struct stats, accepted) },
    { "connections", offsetof(struct stats, connections) },
    { "requests", offsetof(struct stats, requests) },
    { "refused", offsetof(struct stats, refused) },
    { "timeouts", offsetof(struct stats, timeouts) },
    { "bytes_in", offsetof(struct stats, bytes_in) },
    { "bytes_out", offsetof(struct stats, bytes_out) },
};
enum { COUNTERS = sizeof(counters) / sizeof(counters[0]) };

/* Of a worker and of the one that it replaced: their slot's two cells together. */
static unsigned long counter(int slot, int i)
{
    unsigned long sum = 0;

    for (int side = 0; side < 2; side++) {
        struct stats cell;

        stats_total(stats_cell(slot, side), &cell);
        sum += stats_get((const _Atomic uint64_t *)(const void *)((const char *)&cell +
                                                                  counters[i].offset));
    }
    return sum;
}

/* The worker of the slot, or the newer of its two. */
static unsigned long pid_of(int slot)
{
    const struct stats *a = stats_cell(slot, 0), *b = stats_cell(slot, 1);
    bool second = stats_get(&b->pid) != 0 && stats_get(&b->state) != WORKER_LEAVING;

    return stats_get(second ? &b->pid : &a->pid);
}

static void show_stats(struct conn *c, const struct request *req)
{
    char *body = malloc(STATS_ROOM); /* not shared: others may run while it is sent */
    FILE *out = body ? fmemopen(body, STATS_ROOM, "w") : NULL;
    long len;

    if (out == NULL) {
        free(body);
        handler_reply(c, req, 503, "no memory\n");
        return;
    }
    fprintf(out, "{\"stage\":\"%s\"", program_invocation_short_name);
    for (int i = 0; i < COUNTERS; i++) {
        unsigned long sum = 0;

        for (int slot = 0; slot < (int)board->slots; slot++)
            sum += counter(slot, i);
        fprintf(out, ",\"%s\":%lu", counters[i].name, sum);
    }
    fputs(",\"workers\":[", out);
    for (int slot = 0; slot < (int)board->slots; slot++) {
        fprintf(out, "%s{\"worker\":%d,\"pid\":%lu", slot > 0 ? ",\n" : "\n", slot,
                pid_of(slot));
        for (int i = 0; i < COUNTERS; i++)
            fprintf(out, ",\"%s\":%lu", counters[i].name, counter(slot, i));
        fputc('}', out);
    }
    fputs("]}\n", out);
    len = ftell(out);
    fclose(out);
    http_reply(c, req, 200, json, none, (struct slice){ body, (size_t)len });
    free(body);
}

#define ALLOW(methods)                                                                   \
    {                                                                                    \
        "Allow: " methods "\r\n", sizeof("Allow: " methods "\r\n") - 1                   \
    }
#define PATH(literal)                                                                    \
    {                                                                                    \
        literal, sizeof(literal) - 1                                                     \
    }
static const struct {
    struct slice path;
    unsigned methods; /* enum http_method, or-ed */
    struct slice allow;
    void (*handler)(struct conn *c, const struct request *req);
} routes[] = {
    { PATH("/"), HTTP_GET | HTTP_HEAD, ALLOW("GET, HEAD"), hello },
    { PATH("/echo"), HTTP_POST | HTTP_PUT, ALLOW("POST, PUT"), echo },
    { PATH("/sleep"), HTTP_GET | HTTP_HEAD, ALLOW("GET, HEAD"), handler_sleep },
    { PATH("/burn"), HTTP_GET | HTTP_HEAD, ALLOW("GET, HEAD"), burn_ms },
    { PATH("/bytes"), HTTP_GET | HTTP_HEAD, ALLOW("GET, HEAD"), bytes },
    { PATH("/upstream"), HTTP_GET | HTTP_HEAD | HTTP_POST, ALLOW("GET, HEAD, POST"),
      gateway_relay },
    { PATH("/whoami"), HTTP_GET | HTTP_HEAD, ALLOW("GET, HEAD"), whoami },
    { PATH("/stats"), HTTP_GET | HTTP_HEAD, ALLOW("GET, HEAD"), show_stats },
};
enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

static void on_connect(struct conn *c)
{
    log_line(LOG_DEBUG, "client %d: connected", c->fd);
}

/* False: there is no such page. */
static bool route(struct conn *c, const struct request *req, struct slice path)
{
    for (int i = 0; i < ROUTES; i++) {
        if (!slice_equal(path, routes[i].path))
            continue;
        if (routes[i].methods & req->method)
            routes[i].handler(c, req);
        else
            http_reply(c, req, 405, SLICE("text/plain"), routes[i].allow,
                       SLICE("method not allowed here\n"));
        return true;
    }
    return false;
}

static void on_message(struct conn *c, const void *message)
{
    const struct request *req = message;
    char plain[PATH_CAP];
    ssize_t len;

    if (route(c, req, req->path))
        return;
    len =
        http_unescape(req->path, false, plain, sizeof(plain)); /* "/%65cho" is one, too */
    if (len <= 0 || !route(c, req, (struct slice){ plain, (size_t)len }))
        http_reply(c, req, 404, SLICE("text/plain"), none, SLICE("no such page\n"));
}

static void on_close(struct conn *c)
{
    log_line(LOG_DEBUG, "client %d: gone after %u requests", c->fd, c->requests);
}

/* What a stage's own handler began, it ends. */
static void on_cancel(struct conn *c)
{
    struct job *job = c->job;

    job->cancel(job);
}

const struct app app = { .protocol = &http1,
                         .on_connect = on_connect,
                         .on_message = on_message,
                         .on_cancel = on_cancel,
                         .on_close = on_close };
