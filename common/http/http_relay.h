/* http_relay.h - the heads that a gateway writes: what it hands on of a request, and of
 * the answer to it. RFC 9110 sections 3.7 and 7.6.
 * Does not: send them, or frame a body. */
#ifndef HTTP_RELAY_H
#define HTTP_RELAY_H

#include "http/http_response.h"

/* Up: method, target and end-to-end fields of `req` into out, which has room for
 * http_relay_request_room() bytes. Returns the head's length.
 * self: the name of this server, for Via. upstream: ADDRESS:PORT of
 * the server that is asked. */
size_t http_relay_request(char *out, const struct request *req, struct slice self,
                          struct slice upstream);
size_t http_relay_request_room(const struct request *req, struct slice self,
                               struct slice upstream);

/* How the body goes on to the client. */
enum relay_framing {
    RELAY_AS_IT_IS,    /* there is none, or its length is known */
    RELAY_CHUNKED,     /* unknown length, and the client speaks 1.1 */
    RELAY_UNTIL_CLOSE, /* unknown length, and it speaks 1.0 */
};
enum relay_framing http_relay_framing(const struct http_response *res, int minor);

/* Down: status line and end-to-end fields of `res`, for a client that speaks 1.minor. */
size_t http_relay_response(char *out, const struct http_response *res, struct slice self,
                           int minor, bool keep_alive);
size_t http_relay_response_room(const struct http_response *res, struct slice self);

#endif
