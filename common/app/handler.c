/* handler.c - see handler.h.
 * Does not: wait. */
#include "app/handler.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void handler_reply(struct conn *c, const struct request *req, int status,
                   const char *format, ...)
{
    char body[512];
    va_list args;
    size_t len;

    va_start(args, format);
    len = (size_t)vsnprintf(body, sizeof(body), format, args);
    va_end(args);
    http_reply(c, req, status, SLICE("text/plain"), SLICE(""),
               (struct slice){ body, len < sizeof(body) ? len : sizeof(body) - 1 });
}

long handler_number(struct conn *c, const struct request *req, const char *key, long max)
{
    char value[24];
    ssize_t len = http_query(req->query, key, value, sizeof(value));
    size_t digits = len > 0 ? strspn(value, "0123456789") : 0;
    long n;

    if (len == -1)
        handler_reply(c, req, 400, "the query has no %s; give ?%s=N, 0 to %ld\n", key,
                      key, max);
    else if (len <= 0 || digits != (size_t)len || (n = strtol(value, NULL, 10)) > max)
        handler_reply(c, req, 400, "%s is not a number from 0 to %ld\n", key, max);
    else
        return n;
    return -1;
}
