/* address.c - see address.h.
 * Does not: know what the address is for. */
#include "base/address.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static socklen_t v4_parse(const char *literal, int port, union address *address)
{
    *address = (union address){ .v4 = { .sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)port) } };
    return inet_pton(AF_INET, literal, &address->v4.sin_addr) == 1 ? sizeof(address->v4)
                                                                   : 0;
}

static socklen_t v6_parse(const char *literal, int port, union address *address)
{
    *address = (union address){ .v6 = { .sin6_family = AF_INET6,
                                        .sin6_port = htons((uint16_t)port) } };
    return inet_pton(AF_INET6, literal, &address->v6.sin6_addr) == 1 ? sizeof(address->v6)
                                                                     : 0;
}

socklen_t address_parse(const char *literal, int port, union address *address)
{
    socklen_t len = v4_parse(literal, port, address);

    return len > 0 ? len : v6_parse(literal, port, address);
}

/* Of decimal digits alone; 0: it is none. */
static int port_parse(const char *text)
{
    size_t len = strspn(text, "0123456789");
    long port = len > 0 && len <= 5 && text[len] == '\0' ? strtol(text, NULL, 10) : 0;

    return port <= UINT16_MAX ? (int)port : 0;
}

socklen_t address_endpoint(const char *text, union address *address)
{
    const char *colon = strrchr(text, ':');
    int port = colon ? port_parse(colon + 1) : 0;
    size_t len = colon ? (size_t)(colon - text) : 0;
    char literal[INET6_ADDRSTRLEN + 2];

    if (port == 0 || len == 0 || len >= sizeof(literal))
        return 0;
    memcpy(literal, text, len);
    literal[len] = '\0';
    if (*literal != '[')
        return v4_parse(literal, port, address);
    if (literal[len - 1] != ']')
        return 0;
    literal[len - 1] = '\0';
    return v6_parse(literal + 1, port, address);
}

int address_port(const union address *address)
{
    return ntohs(address->any.sa_family == AF_INET ? address->v4.sin_port
                                                   : address->v6.sin6_port);
}
