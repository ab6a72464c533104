/* http_relay.c - see http_relay.h.
 * Does not: hand on a length that it has only been told; each head gets that of the body
 * which follows. */
#include "http/http_relay.h"

#include <stdio.h>
#include <strings.h>

enum { ROOM = 256 }; /* of what is written besides the fields handed on */

static bool is_name(struct slice name, const char *other)
{
    return name.len == strlen(other) && strncasecmp(name.base, other, name.len) == 0;
}

static char *put(char *out, struct slice s)
{
    if (s.len > 0)
        memcpy(out, s.base, s.len);
    return out + s.len;
}

static char *put_field(char *out, struct slice name, struct slice value)
{
    out = put(put(out, name), SLICE(": "));
    return put(put(out, value), SLICE("\r\n"));
}

static char *put_length(char *out, uint64_t length)
{
    return out + sprintf(out, "Content-Length: %llu\r\n", (unsigned long long)length);
}

/* Who handed it on, and what it was spoken in before: RFC 9110 section 7.6.3. It comes
 * last, since order tells the way. */
static char *put_via(char *out, int minor, struct slice self)
{
    out = put(out, SLICE("Via: 1."));
    *out++ = (char)('0' + minor);
    *out++ = ' ';
    return put(put(out, self), SLICE("\r\n"));
}

static struct slice field(struct slice fields, const char *wanted)
{
    struct slice name, value;
    size_t at = 0;

    while (http_next_field(fields, &at, &name, &value))
        if (is_name(name, wanted))
            return value;
    return (struct slice){ "", 0 };
}

/* A request's head again, in the parts that a gateway hands on. */
struct head {
    struct slice target;    /* as an origin-form, but its path may be missing */
    struct slice authority; /* of an absolute-form; empty if it was none */
    struct slice fields;
};

/* It is well formed, since it has been parsed. */
static struct head split(struct slice raw)
{
    const char *line = raw.base + strspn(raw.base, "\r\n");
    const char *end = raw.base + raw.len;
    const char *fields = (const char *)memchr(line, '\n', (size_t)(end - line)) + 1;
    const char *target = (const char *)memchr(line, ' ', (size_t)(fields - line)) + 1;
    const char *space = memchr(target, ' ', (size_t)(fields - target));
    const char *host = target;

    if (*target != '/' && *target != '*') {
        host = (const char *)memchr(target, ':', (size_t)(space - target)) + 3;
        target = host;
        while (*target != '/' && *target != '?' && target < space)
            target++;
    }
    return (struct head){ { target, (size_t)(space - target) },
                          { host, (size_t)(target - host) },
                          { fields, (size_t)(end - fields) } };
}

/* The host that the client asked for: the upstream serves it in our place, and the links
 * it makes go through the client's hands. In an absolute-form stands what wins, RFC 9112
 * section 3.2.2. It is looked up by itself, so that no "Connection: host" can drop it. */
static struct slice host_of(const struct head *head, struct slice upstream)
{
    struct slice host =
        head->authority.len > 0 ? head->authority : field(head->fields, "host");

    return host.len > 0 ? host : upstream; /* HTTP/1.0 need not name one */
}

/* Of a request: those that are written anew, and an expectation that was met here,
 * since the body has come. */
static bool request_replaces(struct slice name)
{
    return is_name(name, "host") || is_name(name, "content-length") ||
           is_name(name, "expect");
}

size_t http_relay_request_room(const struct request *req, struct slice self,
                               struct slice upstream)
{
    return ROOM + req->head.len + HTTP_MAX_FIELDS + self.len + upstream.len;
}

size_t http_relay_request(char *out, const struct request *req, struct slice self,
                          struct slice upstream)
{
    const char *method = http_method_name(req->method);
    struct head head = split(req->head);
    struct slice name, value;
    size_t at = 0;
    char *o = put(out, (struct slice){ method, strlen(method) });

    *o++ = ' ';
    if (head.target.len == 0 || *head.target.base == '?')
        *o++ = '/'; /* an absolute-form may leave it out, an origin-form may not */
    o = put(put(o, head.target), SLICE(" HTTP/1.1\r\n"));
    o = put_field(o, SLICE("Host"), host_of(&head, upstream));
    while (http_next_end_to_end(head.fields, &at, &name, &value))
        if (!request_replaces(name))
            o = put_field(o, name, value);
    if (req->body.len > 0 || req->method & (HTTP_POST | HTTP_PUT | HTTP_PATCH))
        o = put_length(o, req->body.len); /* a body in chunks was decoded */
    o = put_via(o, req->minor, self);
    return (size_t)(put(o, SLICE("\r\n")) - out);
}

enum relay_framing http_relay_framing(const struct http_response *res, int minor)
{
    if (res->framing == HTTP_NO_BODY || res->framing == HTTP_BODY_LENGTH)
        return RELAY_AS_IT_IS;
    return minor == 1 ? RELAY_CHUNKED : RELAY_UNTIL_CLOSE;
}

size_t http_relay_response_room(const struct http_response *res, struct slice self)
{
    return ROOM + res->reason.len + res->fields.len + HTTP_MAX_FIELDS + self.len;
}

static char *put_connection(char *out, int minor, bool keep_alive)
{
    if (!keep_alive)
        return put(out, SLICE("Connection: close\r\n"));
    return minor == 0 ? put(out, SLICE("Connection: keep-alive\r\n")) : out;
}

size_t http_relay_response(char *out, const struct http_response *res, struct slice self,
                           int minor, bool keep_alive)
{
    struct slice name, value;
    size_t at = 0;
    bool dated = false;
    char *o = out + sprintf(out, "HTTP/1.1 %03d ", res->status);

    o = put(put(o, res->reason), SLICE("\r\n"));
    while (http_next_end_to_end(res->fields, &at, &name, &value)) {
        dated |= is_name(name, "date");
        if (!is_name(name, "content-length"))
            o = put_field(o, name, value);
    }
    if (!dated) /* RFC 9110 section 6.6.1: who hands it on adds it */
        o = put(o, http_date_line());
    if (res->has_length && res->status != 204) /* RFC 9110 section 8.6 */
        o = put_length(o, res->length);
    if (http_relay_framing(res, minor) == RELAY_CHUNKED)
        o = put(o, SLICE("Transfer-Encoding: chunked\r\n"));
    o = put_connection(o, minor, keep_alive);
    o = put_via(o, res->minor, self);
    return (size_t)(put(o, SLICE("\r\n")) - out);
}
