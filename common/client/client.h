/* client.h - one request to another server, and its answer.
 * Does not: wait. It says what must happen next; whoever drives it waits for that, with
 * poll(2) in a handler that may block, with an event elsewhere, and takes the next step.
 *
 *   client_begin()
 *   until answered, or want is CLIENT_FAILED: wait; client_step()
 *   look at response
 *   client_pull() until 0 or CLIENT_BROKEN; after CLIENT_NOTHING: wait; client_step()
 *   client_end()
 *
 * To wait is: until client_events() are there on fd, or client_timeout_ms() are over. A
 * step too early does no harm, nor a signal.
 *
 * A request is sent twice at most, and only where that can do no harm and most likely
 * helps: over an idle connection, which the server closed at that moment, before a byte
 * of the answer, and if its method is idempotent. RFC 9110 section 9.2.2, RFC 9112
 * section 9.3.1. */
#ifndef CLIENT_H
#define CLIENT_H

#include "client/client_pool.h"
#include "http/http_response.h"

enum {
    CLIENT_BUFFER = 2 * HTTP_MAX_HEAD, /* bytes of an answer that are here at most */
    CLIENT_CONNECT_MS = 5000,          /* at most, to connect */
    CLIENT_INTERIM_MAX = 16,           /* 1xx before the answer: 502 above */
};

enum client_want {
    CLIENT_CONNECT, /* to be connected */
    CLIENT_WRITE,   /* to send; an answer that comes meanwhile is read all the same */
    CLIENT_READ,
    CLIENT_DONE,   /* nothing: the answer is here, whole */
    CLIENT_FAILED, /* nothing: status and why */
};

struct client {
    int fd;                    /* owned; -1: none */
    enum client_want want : 8; /* what must happen next */
    bool answered;             /* the head is here: response is filled in */
    uint16_t status;           /* failed: 502, 503 (no connection is to be had), 504 */
    const char *why;           /* failed: static, or strerror(3)'s */
    struct http_response response; /* points into buf: until the next step or pull */

    struct client_pool *pool; /* borrowed */
    struct slice head, body;  /* borrowed; the request */
    char *kept;               /* owned: `body`, if client_keep_body() had to copy it */
    size_t sent;              /* bytes of head and body */
    int64_t deadline;
    int timeout_ms;
    enum http_method method : 8;
    uint8_t interims; /* 1xx so far */
    bool reused;      /* the connection had been idle */
    bool heard;       /* a byte of an answer came */
    bool unsendable;  /* the server takes no more of the request */
    struct http_parser parser;
    char *buf;           /* owned: CLIENT_BUFFER bytes, while any are here; or NULL */
    uint32_t start, end; /* of those in buf that were not looked at */
    struct slice piece;  /* of the body, decoded, in buf, not pulled yet */
};

/* Ask. cl: anything before. head, body: borrowed until client_end(), or, the body, until
 * client_keep_body(). timeout_ms: without progress in sending, then for the answer's
 * head, then without progress in its body; for connecting, too, if that is less than
 * CLIENT_CONNECT_MS. */
void client_begin(struct client *cl, struct client_pool *pool, enum http_method method,
                  struct slice head, struct slice body, int timeout_ms);

/* Do what can be done now. After: want names the next step. */
void client_step(struct client *cl);

/* For poll(2): POLLIN, POLLOUT, or both; and the time until the deadline. */
short client_events(const struct client *cl);
int client_timeout_ms(const struct client *cl);

/* Take up to `size` bytes of the body, chunked coding removed. Returns how many; 0: it
 * has ended; or one of these. Meaningful once answered. */
enum { CLIENT_BROKEN = -1, CLIENT_NOTHING = -2 }; /* it broke off; wait */
ssize_t client_pull(struct client *cl, char *room, size_t size);

/* Will client_pull() return something else than CLIENT_NOTHING? */
bool client_ready(struct client *cl);

/* The request's body will not stay where it is: copy it, unless it was sent. False:
 * no memory, and nothing changed. */
bool client_keep_body(struct client *cl);

/* At any time: free what it owns. The connection goes back to the pool if the answer
 * ended where it should, and else is closed. */
void client_end(struct client *cl);

#endif
