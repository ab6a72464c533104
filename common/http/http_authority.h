/* http_authority.h - the name of a host, in the field Host or in the target of a request.
 * Does not: leave common/http/. */
#ifndef HTTP_AUTHORITY_H
#define HTTP_AUTHORITY_H

#include "http/http_grammar.h"

/* uri-host [ ":" port ], RFC 9110 section 7.2 and RFC 3986 section 3.2.2. */
bool http_authority_valid(struct slice a);

/* "http://host:port/path" names the host itself; what follows is as in a plain target.
 * RFC 9112 section 3.2.2. On NEXT *c stands behind the authority.
 * No connection here is secured, so https must be refused, RFC 9110 section 7.4. With 421
 * and not 400: nothing is wrong with the request but the server that it was sent to, and
 * 421 tells a client that it may try over another connection (section 15.5.20). */
int http_absolute_form(struct http_parser *p, const char **c, const char *end);

#endif
