/* address.h - an address of the internet, from the words that name it.
 * Does not: resolve names; an address is a literal, so that nothing waits for DNS. */
#ifndef ADDRESS_H
#define ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Each returns the length of what stands in *address then; 0: the text is none.
 * inet_pton(3). */

/* "127.0.0.1" or "::1". */
socklen_t address_parse(const char *literal, int port, union address *address);

/* "127.0.0.1:80" or "[::1]:80". */
socklen_t address_endpoint(const char *text, union address *address);

/* The port in it. */
int address_port(const union address *address);

#endif
