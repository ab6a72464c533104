/* slow_query.c - how a request wants to be answered: the query of its target.
 * Does not: read heads or bodies. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "http/http.h"
#include "slow_upstream.h"

enum { VALUE = 32 };

struct evbuffer *request_reply(struct asked *a, int status, const char *type)
{
    request_free(a);
    a->body = buffer_new();
    a->status = status;
    a->type = type;
    a->frame = FRAME_LENGTH;
    a->ms = 0;
    a->echo = false;
    a->fault = fault_find("");
    return a->body;
}

void request_refuse(struct asked *a, int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    evbuffer_add_vprintf(request_reply(a, status, "text/plain"), format, args);
    va_end(args);
}

/* The value of key in the query; false: it has none. */
static bool value_of(struct asked *a, const char *query, const char *key,
                     char value[VALUE])
{
    ssize_t len = http_query((struct slice){ query, strlen(query) }, key, value, VALUE);

    if (len == -2)
        request_refuse(a, 400, "%s is too long\n", key);
    return len >= 0;
}

/* The number of key, from min to max; -1: it has none. */
static long number_of(struct asked *a, const char *query, const char *key, long min,
                      long max)
{
    char value[VALUE], *end;
    long n;

    if (!value_of(a, query, key, value))
        return -1;
    errno = 0;
    n = strtol(value, &end, 10);
    if (end != value && *end == '\0' && errno == 0 && n >= min && n <= max)
        return n;
    request_refuse(a, 400, "%s is not a number from %ld to %ld\n", key, min, max);
    return -1;
}

/* Which of the names it is; 0: none was given. */
static int choice_of(struct asked *a, const char *query, const char *key,
                     const char *const names[], int n)
{
    char value[VALUE];

    if (!value_of(a, query, key, value))
        return 0;
    for (int i = 0; i < n; i++)
        if (strcmp(value, names[i]) == 0)
            return i;
    request_refuse(a, 400, "%s=%s is unknown; see slow_upstream --help\n", key, value);
    return 0;
}

/* Of `show`: field lines that repeat the request, each name behind "Asked-". */
static void show_fields(struct asked *a, const char *head)
{
    const char *line = head, *end;

    a->fields = buffer_new();
    evbuffer_add_printf(a->fields, "Asked: %.*s\r\n", (int)strcspn(head, "\r"), head);
    while ((end = strstr(line, "\r\n")) != NULL && end[2] != '\r' && end[2] != '\0') {
        line = end + 2;
        evbuffer_add_printf(a->fields, "Asked-%.*s\r\n", (int)strcspn(line, "\r"), line);
    }
}

static void show_head(struct asked *a, const char *head)
{
    a->body = buffer_new();
    evbuffer_add(a->body, head, strlen(head));
    a->type = "message/http";
    a->echo = false;
}

void request_read_query(struct asked *a, const char *head, const char *query)
{
    static const char *const frames[] = { "length", "chunked", "close" };
    static const char *const shows[] = { "0", "1", "fields" };
    long n = number_of(a, query, "n", 0, MAX_LETTERS);
    long ms = number_of(a, query, "ms", 0, MAX_MS);
    long gap_ms = number_of(a, query, "gap", 0, MAX_MS);
    long status = number_of(a, query, "status", 200, 599);
    int show = choice_of(a, query, "show", shows, 3);
    char fault[VALUE] = "";

    a->frame = (enum frame)choice_of(a, query, "frame", frames, 3);
    a->hop = number_of(a, query, "hop", 0, 1) == 1;
    if (value_of(a, query, "fault", fault) && fault_find(fault) == NULL)
        request_refuse(a, 400, "fault=%s is unknown; see slow_upstream --help\n", fault);
    if (a->status != 0)
        return; /* refused */
    a->fault = fault_find(fault);
    a->letters = n == -1 ? DEFAULT_LETTERS : (uint64_t)n;
    a->ms = ms == -1 ? 0 : (int)ms;
    a->gap_ms = gap_ms == -1 ? DEFAULT_GAP_MS : (int)gap_ms;
    a->status = status == -1 ? 200 : (int)status;
    a->echo = a->echo && n == -1 && !a->fault->early;
    if (show == 1)
        show_head(a, head);
    else if (show == 2)
        show_fields(a, head);
    if (a->echo)
        a->body = buffer_new();
}
