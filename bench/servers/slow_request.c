/* slow_request.c - bytes to what was asked: a reader that takes what it can make sense of.
 * Does not: judge requests; that is the business of the tests of who sends them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "slow_upstream.h"

enum { MAX_CHUNK_LINE = 8192 };

/* The head that is being looked at; it ends with NUL. */
static char head[MAX_HEAD + 1];

/* Refuse, and nothing behind it on the connection can be understood. */
static void refuse_framing(struct asked *a, int status, const char *why)
{
    request_refuse(a, status, "%s\n", why);
    a->last = true;
    a->chunked = false;
    a->missing = 0;
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
        request_refuse(a, 405, "POST it\n");
        return true;
    }
    if (reset)
        counts_reset();
    request_reply(a, 200, "application/json");
    a->observer = true;
    return true;
}

/* `head` is complete. */
static void read_head(struct asked *a)
{
    char method[32], target[MAX_HEAD], minor[2], *query;
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
    request_read_query(a, head, query ? query + 1 : "");
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
