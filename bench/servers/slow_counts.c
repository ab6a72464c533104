/* slow_counts.c - how often was this upstream asked for what? A proxy's retries are seen
 * here, and nowhere else.
 * Does not: know connections, or answer. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "slow_upstream.h"

struct counts counts;

/* Requests with this method for this target. */
struct target {
    char *method; /* owned */
    char *target; /* owned */
    uint64_t requests;
};

/* In order of their first request: a benchmark asks for one, a test for a few. */
static struct target targets[MAX_TARGETS];
static int n_targets;
static uint64_t others; /* requests for targets that found no room */

static struct target *target_add(const char *method, const char *target)
{
    struct target *t = &targets[n_targets];

    if (n_targets == MAX_TARGETS)
        return NULL;
    *t = (struct target){ strdup(method), strdup(target), 0 };
    if (t->method == NULL || t->target == NULL)
        die(EXIT_SYSTEM, "no memory");
    n_targets++;
    return t;
}

static struct target *target_find(const char *method, const char *target)
{
    for (int i = 0; i < n_targets; i++)
        if (strcmp(targets[i].target, target) == 0 &&
            strcmp(targets[i].method, method) == 0)
            return &targets[i];
    return target_add(method, target);
}

void counts_asked(const char *method, const char *target)
{
    struct target *t = target_find(method, target);

    counts.requests++;
    if (t)
        t->requests++;
    else
        others++;
}

void counts_reset(void)
{
    for (int i = 0; i < n_targets; i++) {
        free(targets[i].method);
        free(targets[i].target);
    }
    n_targets = 0;
    others = 0;
    counts = (struct counts){ .open = counts.open,
                              .waiting = counts.waiting,
                              .most_waiting = counts.waiting };
}

/* As a JSON string (RFC 8259 section 7); bytes above 127 as if they were ISO 8859-1. */
static void print_string(struct evbuffer *out, const char *text)
{
    evbuffer_add(out, "\"", 1);
    for (const unsigned char *s = (const unsigned char *)text; *s; s++) {
        if (*s == '"' || *s == '\\')
            evbuffer_add_printf(out, "\\%c", *s);
        else if (*s < 0x20 || *s > 0x7e)
            evbuffer_add_printf(out, "\\u%04x", *s);
        else
            evbuffer_add(out, s, 1);
    }
    evbuffer_add(out, "\"", 1);
}

static const struct {
    const char *name;
    const uint64_t *count;
} numbers[] = {
    { "accepted", &counts.accepted }, { "open", &counts.open },
    { "waiting", &counts.waiting },   { "most_waiting", &counts.most_waiting },
    { "requests", &counts.requests }, { "partial", &counts.partial },
    { "left", &counts.left },         { "other_targets", &others },
};

void counts_print(struct evbuffer *out)
{
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        evbuffer_add_printf(out, "%s\"%s\":%llu", i == 0 ? "{" : ",", numbers[i].name,
                            (unsigned long long)*numbers[i].count);
    evbuffer_add_printf(out, ",\"asked\":[");
    for (int i = 0; i < n_targets; i++) {
        evbuffer_add_printf(out, "%s\n{\"method\":", i == 0 ? "" : ",");
        print_string(out, targets[i].method);
        evbuffer_add_printf(out, ",\"target\":");
        print_string(out, targets[i].target);
        evbuffer_add_printf(out, ",\"requests\":%llu}",
                            (unsigned long long)targets[i].requests);
    }
    evbuffer_add_printf(out, "]}\n");
}
