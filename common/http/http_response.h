/* http_response.h - HTTP/1.0 and 1.1 as a client reads it: the head of a response, then
 * its body piece by piece. RFC 9110, RFC 9112.
 * Does not: do I/O, allocate, keep a body, match answers with requests.
 *
 * As strict as the parser of requests, with the same code: a gateway that repairs what it
 * relays is the second opinion that smuggling takes. Each refusal is -502, what a gateway
 * answers in the place of such a response (RFC 9110 section 15.6.3); p->why says why. */
#ifndef HTTP_RESPONSE_H
#define HTTP_RESPONSE_H

#include "http/http.h"

/* Where the body ends; RFC 9112 section 6.3. */
enum http_framing {
    HTTP_NO_BODY,         /* or one of no bytes */
    HTTP_BODY_LENGTH,     /* after so many bytes */
    HTTP_BODY_CHUNKED,    /* behind the last chunk and the trailers */
    HTTP_BODY_UNTIL_CLOSE /* where the connection does; who breaks off looks the same */
};

/* A complete head. The slices point into the bytes that were parsed. */
struct http_response {
    int status;      /* 100 to 599; 1xx: not the answer yet, another head follows */
    int minor;       /* HTTP/1.minor: 0 or 1 */
    bool keep_alive; /* behind its body the connection may be used again: section 9.3 */
    enum http_framing framing;
    bool has_length;     /* a Content-Length was sent */
    uint64_t length;     /* that one; to HEAD and in 304 it is that of a GET's body */
    struct slice reason; /* may be empty */
    struct slice fields; /* field lines, each with its CRLF; they are well formed */
};

/* Parse a head at bytes[0 .. len). Call again with the same bytes and more behind them
 * when 0 came back. p: all zero at first. method: of the request that is answered.
 * Returns  > 0: the head is complete and took so many bytes; *res is filled in. Behind a
 *               1xx, 101 excepted, which is refused since nobody asked for another
 *               protocol, p is ready for the next head; else for http_response_body().
 *            0: incomplete.
 *          < 0: refused. Nothing behind this point of the stream may be trusted. */
ssize_t http_parse_response(struct http_parser *p, const char *bytes, size_t len,
                            enum http_method method, struct http_response *res);

/* Take the next piece of the body from bytes[0 .. len), which stand behind what was taken
 * before; len is below 4 GiB. *data: the piece, chunked coding removed, in `bytes`; empty
 * if only framing was taken.
 * Returns  > 0: so many bytes were taken; call again with the rest.
 *            0: the body has ended, as http_response_ended() tells, and whatever is left
 *               was sent unasked; or more bytes are needed behind those that are there,
 *               of which there are HTTP_MAX_HEAD at most.
 *          < 0: refused. */
ssize_t http_response_body(struct http_parser *p, const char *bytes, size_t len,
                           struct slice *data);

/* True: the response is complete. For the next one, make the parser all zero. */
bool http_response_ended(const struct http_parser *p);

/* The peer closed. True: and so ended the response, or had done so before. False: it
 * broke off, and p->why says so. */
bool http_response_closed(struct http_parser *p);

/* Walk the fields of a message that was parsed. *at: 0 at first. False: no more of
 * them. */
bool http_next_field(struct slice fields, size_t *at, struct slice *name,
                     struct slice *value);

/* The same with those that a gateway hands on, which are all but: those that concern this
 * one connection (RFC 9110 section 7.6.1); what is between a client and its own proxy
 * (sections 11.7.1 and 11.7.2); and Trailer, since trailers are dropped. */
bool http_next_end_to_end(struct slice fields, size_t *at, struct slice *name,
                          struct slice *value);

#endif
