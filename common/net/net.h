/* net.h - addresses, listeners, and the one policy for accept(2)'s errors.
 * Does not: accept; the stage does, where a learner looks for it. */
#ifndef NET_H
#define NET_H

#include <stdbool.h>

#include "base/options.h"

/* Wait this long before accept(2) is tried again after EMFILE and its kin. A
 * level-triggered wait on the listener would spin instead: the client stays in the queue,
 * readable. */
enum { NET_PAUSE_MS = 100 };

/* Make a listener on opt->address and opt->port: CLOEXEC, SO_REUSEADDR, TCP_NODELAY
 * (which accepted sockets inherit). flags: 0 or SOCK_NONBLOCK. Failure: die(), naming the
 * cure. opt->port 0 is replaced by the port the kernel chose. socket(2), bind(2),
 * listen(2). */
int net_listen(struct options *opt, int flags);

/* Make `n` listeners on the same port, each with a queue of its own (SO_REUSEPORT,
 * socket(7)). A port that any other program listens on is refused all the same: without
 * that check a second server of the same user would silently take half of the clients. */
void net_listen_reuseport(struct options *opt, int flags, int listeners[], int n);

/* Use these sockets, which somebody else has made, instead of new ones: the first
 * net_listen() or net_listen_reuseport() takes them, again from the first if they are too
 * few. Borrowed. */
void net_inherit(const int fds[], int n);

/* The listeners of this process, to hand on to a new program. Returns how many. */
int net_listeners(const int **fds);

/* Print the first line of stdout, "NAME: listening on ADDRESS:PORT ...", and flush it. */
void net_announce(const struct options *opt);

/* accept(2) returned -1: true: try again at once (the client gave up, a signal came);
 * false: stop for now (queue empty, or no descriptors left: then net_paused() holds for
 * NET_PAUSE_MS). An errno that can only be a bug ends the process. */
bool net_accept_failed(void);

/* True while accepting is pointless because descriptors or memory ran out. */
bool net_paused(void);

/* Answer 503 on a socket that cannot be served, and close it. Never waits. */
void net_refuse(int fd);

#endif
