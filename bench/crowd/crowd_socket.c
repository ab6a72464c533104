/* crowd_socket.c - see crowd_socket.h. */
#include "crowd_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "crowd_run.h"

enum {
    PER_SOURCE = 20000, /* connections from one address; it has some 28,000 ports */
    SOURCES = 250,
};

/* One address has ports for some 28,000 connections to one server; all of 127.0.0.0/8 is
 * ours. Closed connections hold their ports for a while: the number of all counts. */
static int bind_source(int fd)
{
    uint64_t nth = run.counts.offered / PER_SOURCE % SOURCES;
    struct sockaddr_in source = { .sin_family = AF_INET,
                                  .sin_addr.s_addr =
                                      htonl(INADDR_LOOPBACK + (uint32_t)nth) };
    int yes = 1;

    if (nth == 0 || run.opt.address.ss_family != AF_INET)
        return 0;
    /* The port is chosen when the other end is known: ip(7). */
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof(yes));
    return bind(fd, (struct sockaddr *)&source, sizeof(source));
}

int socket_open(void)
{
    int fd =
        socket(run.opt.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int yes = 1;

    if (fd == -1)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    if (run.opt.receive_buffer > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &run.opt.receive_buffer,
                   sizeof(run.opt.receive_buffer));
    if (bind_source(fd) == -1) {
        close(fd);
        return -1;
    }
    return fd;
}
