/* http_body.h - where the body of a message ends: its framing, which is the same for
 * requests and responses. RFC 9112 sections 6 and 7.
 * Does not: leave common/http/, keep or move a body's bytes. */
#ifndef HTTP_BODY_H
#define HTTP_BODY_H

#include "http/http_grammar.h"

/* What the fields say that frame a message, or end its connection. NEXT, or a refusal. */
int http_content_length(struct http_parser *p, struct slice value);
int http_transfer_encoding(struct http_parser *p, struct slice value);
void http_connection(struct http_parser *p, struct slice value);

/* Take note of a field if it is one of these. */
static inline int http_framing_field(struct http_parser *p, struct slice name,
                                     struct slice value)
{
    if (name.len == 10 && equal_nocase(name.base, "connection", 10))
        http_connection(p, value);
    else if (name.len == 14 && equal_nocase(name.base, "content-length", 14))
        return http_content_length(p, value);
    else if (name.len == 17 && equal_nocase(name.base, "transfer-encoding", 17))
        return http_transfer_encoding(p, value);
    return NEXT;
}

/* [http.framing] */
/* The head ends at p->at; where does the body end? RFC 9112 section 6.3. Whatever leaves
 * room for two opinions is refused. On NEXT p->state is BODY, of p->missing bytes,
 * CHUNK_SIZE, or DONE, if the head does not tell of a body. */
static inline int http_begin_body(struct http_parser *p)
{
    p->head_len = p->at;
    p->state = p->missing > 0 ? BODY : DONE;
    if (!(p->flags & HAS_CODING))
        return NEXT;
    if (p->flags & HAS_LENGTH)
        return http_refuse(p, 400, "both Content-Length and Transfer-Encoding");
    if (p->minor == 0)
        return http_refuse(p, 400, "Transfer-Encoding in HTTP/1.0");
    if (!(p->flags & CODING_CHUNKED))
        return http_refuse(p, 400, "the last transfer coding is not chunked");
    if (p->flags & CODING_OTHER)
        return http_refuse(p, 501, "the only transfer coding known is chunked");
    p->state = CHUNK_SIZE;
    return NEXT;
}

/* The steps of a chunked body. They look at bytes[p->at .. len), and move p->at and
 * p->state. room: bytes of body that are still welcome; more is refused with 413. */
int http_chunk_size(struct http_parser *p, const char *bytes, size_t len, uint64_t room);
int http_chunk_end(struct http_parser *p, const char *bytes, size_t len);
int http_trailers(struct http_parser *p, const char *bytes, size_t len);

#endif
