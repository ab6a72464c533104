/* slow_request.c - bytes to what was asked: a reader that takes what it can make sense of.
 * Does not: judge requests; that is the business of the tests of who sends them. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http.h"
#include "slow_upstream.h"

enum { MAX_CHUNK_LINE = 8192, VALUE = 32 };

/* The head that is being looked at; it ends with NUL. */
static char head[MAX_HEAD + 1];

/* Send this body, which is still empty, instead of what was asked for. */
static struct evbuffer *reply(struct asked *a, int status, const char *type)
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

static void refuse(struct asked *a, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void refuse(struct asked *a, int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    evbuffer_add_vprintf(reply(a, status, "text/plain"), format, args);
    va_end(args);
}

/* The same, and nothing behind it on the connection can be understood. */
static void refuse_framing(struct asked *a, int status, const char *why)
{
    refuse(a, status, "%s\n", why);
    a->last = true;
    a->chunked = false;
    a->missing = 0;
}

/* ---- the query ---- */

/* The value of key in the query; false: it has none. */
static bool value_of(struct asked *a, const char *query, const char *key,
                     char value[VALUE])
{
    ssize_t len = http_query((struct slice){ query, strlen(query) }, key, value, VALUE);

    if (len == -2)
        refuse(a, 400, "%s is too long\n", key);
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
    refuse(a, 400, "%s is not a number from %ld to %ld\n", key, min, max);
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
    refuse(a, 400, "%s=%s is unknown; see slow_upstream --help\n", key, value);
    return 0;
}

/* Of `show`: field lines that repeat the request, each name behind "Asked-". */
static void show_fields(struct asked *a)
{
    const char *line = head, *end;

    a->fields = buffer_new();
    evbuffer_add_printf(a->fields, "Asked: %.*s\r\n", (int)strcspn(head, "\r"), head);
    while ((end = strstr(line, "\r\n")) != NULL && end[2] != '\r' && end[2] != '\0') {
        line = end + 2;
        evbuffer_add_printf(a->fields, "Asked-%.*s\r\n", (int)strcspn(line, "\r"), line);
    }
}

static void show_head(struct asked *a)
{
    a->body = buffer_new();
    evbuffer_add(a->body, head, strlen(head));
    a->type = "message/http";
    a->echo = false;
}

static void read_query(struct asked *a, const char *query)
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
        refuse(a, 400, "fault=%s is unknown; see slow_upstream --help\n", fault);
    if (a->status != 0)
        return; /* refused */
    a->fault = fault_find(fault);
    a->letters = n == -1 ? DEFAULT_LETTERS : (uint64_t)n;
    a->ms = ms == -1 ? 0 : (int)ms;
    a->gap_ms = gap_ms == -1 ? DEFAULT_GAP_MS : (int)gap_ms;
    a->status = status == -1 ? 200 : (int)status;
    a->echo = a->echo && n == -1 && !a->fault->early;
    if (show == 1)
        show_head(a);
    else if (show == 2)
        show_fields(a);
    if (a->echo)
        a->body = buffer_new();
}

/* ---- the head ---- */

/* The value of a field in `line`, or NULL. */
static const char *field_value(const char *line, const char *name)
{
    size_t len = strlen(name);

    if (strncasecmp(line, name, len) != 0 || line[len] != ':')
        return NULL;
    return line + len + 1 + strspn(line + len + 1, " \t");
}

/* Does the value, which ends with its line, hold this word? */
static bool says(const char *value, const char *word)
{
    size_t len = value ? strcspn(value, "\r\n") : 0;

    for (size_t i = 0, n = strlen(word); i + n <= len; i++)
        if (strncasecmp(value + i, word, n) == 0)
            return true;
    return false;
}

static void read_field(struct asked *a, const char *line)
{
    const char *length = field_value(line, "Content-Length");
    const char *connection = field_value(line, "Connection");
    char *end;

    if (a->status != 0)
        return; /* refused */
    if (length) {
        errno = 0;
        a->missing = strtoull(length, &end, 10);
        if (end == length || *end != '\r' || errno != 0 || *length == '-')
            refuse_framing(a, 400, "Content-Length is no number");
    }
    if (says(field_value(line, "Transfer-Encoding"), "chunked"))
        a->chunked = true;
    if (says(connection, "close"))
        a->last = true;
    if (says(field_value(line, "Expect"), "100-continue"))
        a->expects_continue = true;
}

/* GET /counts, or POST /counts/reset? */
static bool read_counts(struct asked *a, const char *method, const char *path)
{
    bool reset = strcmp(path, "/counts/reset") == 0;

    if (!reset && strcmp(path, "/counts") != 0)
        return false;
    if (reset && strcmp(method, "POST") != 0) {
        refuse(a, 405, "POST it\n");
        return true;
    }
    if (reset)
        counts_reset();
    reply(a, 200, "application/json");
    a->observer = true;
    return true;
}

/* `head` is complete. */
static void read_head(struct asked *a)
{
    char method[VALUE], target[MAX_HEAD], minor[2], *query;
    const char *line = strstr(head, "\r\n") + 2;

    if (sscanf(head, "%31[^ \r\n] %65535[^ \r\n] HTTP/1.%1[0-9]\r\n", method, target,
               minor) != 3) {
        refuse_framing(a, 400, "that is no request line");
        return;
    }
    a->type = "application/octet-stream";
    a->bodyless = strcmp(method, "HEAD") == 0;
    a->echo = !a->bodyless && strcmp(method, "GET") != 0;
    a->last = *minor == '0';
    for (; *line && *line != '\r'; line = strstr(line, "\r\n") + 2)
        read_field(a, line);
    if (a->chunked)
        a->missing = 0;
    if (read_counts(a, method, target))
        return;
    counts_asked(method, target);
    query = strchr(target, '?');
    read_query(a, query ? query + 1 : "");
    if (a->echo && a->missing > MAX_ECHO)
        refuse_framing(a, 413, "that is too long to be echoed");
}

bool request_read_head(struct asked *a, struct evbuffer *in)
{
    struct evbuffer_ptr end = evbuffer_search(in, "\r\n\r\n", 4, NULL);
    size_t len = (size_t)end.pos + 4;

    if (end.pos == -1 && evbuffer_get_length(in) < MAX_HEAD)
        return false;
    *a = (struct asked){ .fault = fault_find("") };
    if (end.pos == -1 || len > MAX_HEAD) {
        refuse_framing(a, 431, "the head is too long");
        return true;
    }
    evbuffer_remove(in, head, len);
    head[len] = '\0';
    if (strlen(head) != len)
        refuse_framing(a, 400, "a NUL in the head");
    else
        read_head(a);
    return true;
}

/* ---- the body ---- */

/* Take as much of the `missing` bytes as there is: echo it, or drop it. */
static void take(struct asked *a, struct evbuffer *in)
{
    size_t len = evbuffer_get_length(in);

    if (len > a->missing)
        len = (size_t)a->missing;
    a->missing -= len;
    if (a->echo)
        evbuffer_remove_buffer(in, a->body, len);
    else
        evbuffer_drain(in, len);
}

/* The line of a chunk's size. */
static void read_size(struct asked *a, const char *line)
{
    char *end;

    errno = 0;
    a->missing = strtoull(line, &end, 16);
    a->chunk = a->missing > 0 ? CHUNK_DATA : CHUNK_TRAILERS;
    if (end == line || errno != 0 || *line == '-')
        refuse_framing(a, 400, "a chunk's size is no number");
    else if (a->echo && a->missing > MAX_ECHO - evbuffer_get_length(a->body))
        refuse_framing(a, 413, "that is too long to be echoed");
}

/* A line of framing. */
static void read_line(struct asked *a, const char *line)
{
    if (a->chunk == CHUNK_SIZE)
        read_size(a, line);
    else if (a->chunk == CHUNK_END)
        a->chunk = CHUNK_SIZE;
    else
        a->chunked = *line != '\0';
}

bool request_read_body(struct asked *a, struct evbuffer *in)
{
    take(a, in);
    while (a->chunked && a->missing == 0) {
        char *line;

        if (a->chunk == CHUNK_DATA)
            a->chunk = CHUNK_END;
        line = evbuffer_readln(in, NULL, EVBUFFER_EOL_CRLF_STRICT);
        if (line == NULL && evbuffer_get_length(in) > MAX_CHUNK_LINE)
            refuse_framing(a, 400, "a chunk's line is too long");
        if (line == NULL)
            break;
        read_line(a, line);
        free(line);
        take(a, in);
    }
    return !a->chunked && a->missing == 0;
}

void request_free(struct asked *a)
{
    if (a->body)
        evbuffer_free(a->body);
    if (a->fields)
        evbuffer_free(a->fields);
    a->body = a->fields = NULL;
    a->echo = false;
}
