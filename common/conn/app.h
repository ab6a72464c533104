/* app.h - what an application gives every stage: what it speaks, and callbacks.
 * Does not: know which stage runs it. */
#ifndef APP_H
#define APP_H

struct conn;
struct protocol;

/* What an application does for a deferred message may begin with one of these, for c->job
 * to point to: whoever began it knows how it is ended. */
struct job {
    void (*cancel)(struct job *job); /* nobody waits for the answer any more */
};

struct app {
    const struct protocol *protocol;    /* what is spoken, e.g. &http1 */
    void (*on_connect)(struct conn *c); /* a client is here; NULL: not told */
    /* A message is complete: answer it, once, or defer the answer. What a message is, and
     * how to do either, the protocol's header says; http1.h: a struct request. It lives
     * until then, with all it points to. */
    void (*on_message)(struct conn *c, const void *message);
    /* The deferred answer is not wanted any more: forget c, whose job this is, c->job.
     * NULL: nothing is deferred. */
    void (*on_cancel)(struct conn *c);
    void (*on_close)(struct conn *c); /* the client goes; NULL: not told */
};

extern const struct app app; /* the one application linked into this program */

#endif
