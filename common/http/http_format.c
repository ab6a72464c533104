/* http_format.c - the head of a response; see http.h.
 * Does not: ask which day it is more than once a second. */
#include "http/http.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* Every status line this suite sends; RFC 9110 section 15. */
#define STATUS(code, reason)                                                             \
    {                                                                                    \
        code,                                                                            \
        {                                                                                \
            "HTTP/1.1 " #code " " reason "\r\n", sizeof(reason) + 14                     \
        }                                                                                \
    }
static const struct {
    int status;
    struct slice line;
} status_lines[] = {
    STATUS(200, "OK"),
    STATUS(400, "Bad Request"),
    STATUS(404, "Not Found"),
    STATUS(405, "Method Not Allowed"),
    STATUS(408, "Request Timeout"),
    STATUS(413, "Content Too Large"),
    STATUS(414, "URI Too Long"),
    STATUS(417, "Expectation Failed"),
    STATUS(421, "Misdirected Request"),
    STATUS(431, "Request Header Fields Too Large"),
    STATUS(501, "Not Implemented"),
    STATUS(502, "Bad Gateway"),
    STATUS(503, "Service Unavailable"),
    STATUS(504, "Gateway Timeout"),
    STATUS(505, "HTTP Version Not Supported"),
    STATUS(500, "Internal Server Error"), /* last: what an unknown status becomes */
};
enum { STATUS_LINES = sizeof(status_lines) / sizeof(status_lines[0]) };

static struct slice status_line(int status)
{
    int i = 0;

    while (i < STATUS_LINES - 1 && status_lines[i].status != status)
        i++;
    return status_lines[i].line;
}

struct slice http_reason(int status)
{
    struct slice line = status_line(status);
    size_t before = strlen("HTTP/1.1 200 ");

    return (struct slice){ line.base + before, line.len - before - strlen("\r\n") };
}

struct slice http_error_body(char text[HTTP_ERROR_ROOM], int status, const char *why)
{
    struct slice reason = http_reason(status);
    size_t len = (size_t)snprintf(text, HTTP_ERROR_ROOM, "%d %.*s: %s\n", status,
                                  (int)reason.len, reason.base, why);

    return (struct slice){ text, len < HTTP_ERROR_ROOM ? len : HTTP_ERROR_ROOM - 1 };
}

/* The beginning of nearly all responses, formatted once a second. */
static _Thread_local char ok_and_date[] =
    "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
enum { DATE_AT = 17, DATE_LEN = sizeof(ok_and_date) - 1 - DATE_AT };

void http_date_update(void)
{
    static _Thread_local time_t formatted = -1;
    time_t now = time(NULL);
    struct tm tm;

    if (now == formatted)
        return;
    formatted = now;
    gmtime_r(&now, &tm);
    strftime(ok_and_date + DATE_AT, DATE_LEN + 1, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n",
             &tm);
}

struct slice http_date_line(void)
{
    return (struct slice){ ok_and_date + DATE_AT, DATE_LEN };
}

static char *put(char *out, const char *bytes, size_t len)
{
    return (char *)memcpy(out, bytes, len) + len;
}
#define PUT(out, literal) put(out, literal, sizeof(literal) - 1)

static char *put_number(char *out, uint64_t n)
{
    size_t len = 1;

    for (uint64_t rest = n; rest >= 10; rest /= 10)
        len++;
    for (size_t i = len; i > 0; n /= 10)
        out[--i] = (char)('0' + n % 10);
    return out + len;
}

size_t http_format_head(char *out, const struct http_head *head)
{
    char *o = out;

    if (head->status == 200) {
        o = put(o, ok_and_date, sizeof(ok_and_date) - 1);
    } else {
        struct slice line = status_line(head->status);

        o = put(o, line.base, line.len);
        o = put(o, ok_and_date + DATE_AT, DATE_LEN);
    }
    if (head->type.len > 0) {
        o = PUT(o, "Content-Type: ");
        o = put(o, head->type.base, head->type.len);
        o = PUT(o, "\r\nContent-Length: ");
    } else {
        o = PUT(o, "Content-Length: ");
    }
    o = put_number(o, head->content_length);
    if (!head->keep_alive)
        o = PUT(o, "\r\nConnection: close");
    else if (head->minor == 0)
        o = PUT(o, "\r\nConnection: keep-alive");
    o = PUT(o, "\r\n");
    if (head->fields.len > 0)
        o = put(o, head->fields.base, head->fields.len);
    return (size_t)(PUT(o, "\r\n") - out);
}
