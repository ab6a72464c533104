/* app.h - what an application gives every stage: three callbacks.
 * Does not: know which stage runs it. */
#ifndef APP_H
#define APP_H

struct conn;
struct request;

struct app {
    void (*on_connect)(struct conn *c); /* a client is here; NULL: not told */
    /* A request is complete: answer it with exactly one conn_reply() or
     * conn_reply_produced(). `req` and what it points to live until then. */
    void (*on_message)(struct conn *c, const struct request *req);
    void (*on_close)(struct conn *c); /* the client goes; NULL: not told */
};

extern const struct app app; /* the one application linked into this program */

#endif
