/* http1.h - what a connection speaks: HTTP/1.1 and 1.0. Requests go to the application,
 * its answers come back through http_reply().
 * Does not: parse (http.h does), read or send. RFC 9110, RFC 9112. */
#ifndef HTTP1_H
#define HTTP1_H

#include "conn/conn.h"
#include "http/http.h"
#include "http/http_response.h"

/* The application's on_message() gets a struct request. */
extern const struct protocol http1;

/* The answer to `req`, exactly one. The body is copied or sent before this returns.
 * type, fields: as in struct http_head. */
void http_reply(struct conn *c, const struct request *req, int status, struct slice type,
                struct slice fields, struct slice body);

/* The same with status 200 and a body of `length` bytes that `produce` makes piece by
 * piece. */
void http_reply_produced(struct conn *c, const struct request *req, struct slice type,
                         uint64_t length, out_produce *produce);

/* The answer of another server, as a gateway hands it on (http_relay.h). body: taken
 * over; without the framing it came in: in which it goes on depends on the client. One
 * that breaks off does not look whole to the client. NULL: there is none. */
void http_reply_relayed(struct conn *c, const struct request *req,
                        const struct http_response *res, struct out_source *body);

/* Within on_message(): the answer comes later. Returns a copy of *req, which lives, with
 * all it points to, until it is answered by http_reply(), or until app.on_cancel() has
 * returned; conn_defer() in conn.h tells what may become of it. *req itself is not to be
 * used any more. NULL: no memory is left, and nothing has changed; answer at once. */
const struct request *http_defer(struct conn *c, const struct request *req);

#endif
