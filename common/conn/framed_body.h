/* framed_body.h - a body whose length nobody knows, on its way to a client: chunked, or
 * ended by the end of the connection. RFC 9112 sections 6.3, 7.1 and 8.
 * Does not: make the body. */
#ifndef FRAMED_BODY_H
#define FRAMED_BODY_H

#include "conn/out.h"

/* `body`, framed. chunked: else the connection c has to be closed behind it, and is reset
 * if it breaks off. Takes `body` over; NULL: no memory, and did not. */
struct out_source *framed_body(struct conn *c, struct out_source *body, bool chunked);

#endif
