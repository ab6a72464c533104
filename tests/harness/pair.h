/* pair.h - both ends of a connection, for tests of a module by itself.
 * Does not: start servers; harness.h does. */
#ifndef PAIR_H
#define PAIR_H

/* Over TCP, on loopback: fds[0] as accept4(2) gives it with these flags, fds[1] as
 * connect(2). Both are close-on-exec. What fails fails the Check test that called. */
void tcp_pair(int fds[2], int flags);

#endif
