/* crowd_socket.h - a socket that a client can connect with.
 * Does not: connect. */
#ifndef CROWD_SOCKET_H
#define CROWD_SOCKET_H

/* Non-blocking, with the options that the command line asks for. -1: errno says why. The
 * caller owns it. */
int socket_open(void);

#endif
