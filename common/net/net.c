/* net.c - see net.h.
 * Does not: resolve names; an address is a literal, so that start-up never waits for
 * DNS. */
#include "net/net.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/clock.h"
#include "base/log.h"

static _Thread_local int64_t paused_until;
static int inherited[MAX_WORKERS], inherited_count;
static int made[MAX_WORKERS], made_count;

_Noreturn static void bind_failed(const struct options *opt)
{
    switch (errno) {
    case EADDRINUSE:
        die(EXIT_SYSTEM,
            "port %d of %s is in use; stop the other server or choose another "
            "--port (0: any free one)",
            opt->port, opt->address);
    case EACCES:
        die(EXIT_SYSTEM,
            "port %d is privileged; choose a --port above 1023 or run as root",
            opt->port);
    case EADDRNOTAVAIL:
        die(EXIT_SYSTEM,
            "no interface of this machine has the address %s; choose another "
            "--address",
            opt->address);
    default:
        die(EXIT_SYSTEM, "cannot listen on port %d of %s: %s", opt->port, opt->address,
            strerror(errno));
    }
}

static void say_if_capped(int backlog)
{
    static const char path[] = "/proc/sys/net/core/somaxconn";
    FILE *file = fopen(path, "re");
    char line[32] = "";

    if (file == NULL)
        return;
    if (fgets(line, sizeof(line), file) && strtol(line, NULL, 10) < backlog)
        log_line(LOG_WARNING, "the kernel caps the backlog of %d at %ld (%s)", backlog,
                 strtol(line, NULL, 10), path);
    fclose(file);
}

static void set(int fd, int level, int name)
{
    int on = 1;

    if (setsockopt(fd, level, name, &on, sizeof(on)) == -1)
        die(EXIT_SYSTEM, "setsockopt(%d, %d): %s", level, name, strerror(errno));
}

/* [net.socket] */
static int socket_bound(struct options *opt, int flags, bool reuseport)
{
    union address address;
    socklen_t len = address_parse(opt->address, opt->port, &address);
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

    if (fd == -1)
        die(EXIT_SYSTEM, "socket: %s", strerror(errno));
    set(fd, SOL_SOCKET, SO_REUSEADDR);
    set(fd, IPPROTO_TCP, TCP_NODELAY);
    if (reuseport)
        set(fd, SOL_SOCKET, SO_REUSEPORT);
    if (bind(fd, &address.any, len) == -1)
        bind_failed(opt);
    if (getsockname(fd, &address.any, &len) == -1)
        die(EXIT_SYSTEM, "getsockname: %s", strerror(errno));
    opt->port = address_port(&address);
    return fd;
}

void net_inherit(const int fds[], int n)
{
    inherited_count = n < MAX_WORKERS ? n : MAX_WORKERS;
    memcpy(inherited, fds, sizeof(*fds) * (size_t)inherited_count);
}

int net_listeners(const int **fds)
{
    *fds = made;
    return made_count;
}

/* Check and set up a socket that somebody else made. */
static int take_inherited(struct options *opt, int flags, int fd)
{
    union address address = { .v6 = { 0 } };
    socklen_t len = sizeof(address);
    int listening = 0;
    socklen_t size = sizeof(listening);
    int old = fcntl(fd, F_GETFL);

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == -1 ||
        !listening || getsockname(fd, &address.any, &len) == -1 || old == -1)
        die(EXIT_SYSTEM,
            "descriptor %d, which was passed to us, is not a listening socket", fd);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, flags & SOCK_NONBLOCK ? old | O_NONBLOCK : old & ~O_NONBLOCK);
    if (address.any.sa_family == AF_INET || address.any.sa_family == AF_INET6)
        opt->port = address_port(&address);
    return fd;
}

/* Fill listeners[] from the inherited sockets. False: there are none. */
static bool inherit(struct options *opt, int flags, int listeners[], int n)
{
    for (int i = 0; inherited_count > 0 && i < n; i++)
        listeners[i] = take_inherited(opt, flags, inherited[i % inherited_count]);
    return inherited_count > 0;
}

static void remember(const int listeners[], int n)
{
    memcpy(made, listeners, sizeof(*listeners) * (size_t)n);
    made_count = n;
}

/* [net.listen] */
int net_listen(struct options *opt, int flags)
{
    int fd;

    if (!inherit(opt, flags, &fd, 1)) {
        fd = socket_bound(opt, flags, false);
        if (listen(fd, opt->backlog) == -1)
            bind_failed(opt);
        say_if_capped(opt->backlog);
    }
    remember(&fd, 1);
    return fd;
}

/* [net.listen-reuseport] */
void net_listen_reuseport(struct options *opt, int flags, int listeners[], int n)
{
    if (!inherit(opt, flags, listeners, n)) {
        /* The first is bound without SO_REUSEPORT: that fails when anybody has the port.
         * Set afterwards, the option still lets the others join. */
        listeners[0] = socket_bound(opt, flags, false);
        set(listeners[0], SOL_SOCKET, SO_REUSEPORT);
        for (int i = 1; i < n; i++)
            listeners[i] = socket_bound(opt, flags, true);
        for (int i = 0; i < n; i++)
            if (listen(listeners[i], opt->backlog) == -1)
                bind_failed(opt);
        say_if_capped(opt->backlog);
    }
    remember(listeners, n);
}

void net_announce(const struct options *opt)
{
    bool v6 = strchr(opt->address, ':') != NULL;

    printf("%s: listening on %s%s%s:%d (pid %d, workers %d)\n", opt->name, v6 ? "[" : "",
           opt->address, v6 ? "]" : "", opt->port, (int)getpid(), opt->workers);
    fflush(stdout);
}

/* The errors of accept(2), each with its one policy. */
bool net_accept_failed(void)
{
    switch (errno) {
    case EAGAIN: /* the queue is empty */
        return false;
    case EINTR:
    case ECONNABORTED: /* this client gave up while it was in the queue */
    case ENETDOWN:     /* trouble of its network: accept(2), "Error handling" */
    case EPROTO:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case ETIMEDOUT:
    case EPERM: /* a firewall rule forbids it */
        return true;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        if (clock_ms() - paused_until >
            10 * NET_PAUSE_MS) /* once, not ten times a second */
            log_line(LOG_WARNING, "accept4: %s; clients wait in the queue",
                     strerror(errno));
        paused_until = clock_ms() + NET_PAUSE_MS;
        return false;
    default:
        die(EXIT_SYSTEM, "accept4: %s", strerror(errno));
    }
}

bool net_paused(void)
{
    return paused_until != 0 && clock_ms() < paused_until;
}

void net_refuse(int fd)
{
    static const char reply[] = "HTTP/1.1 503 Service Unavailable\r\n"
                                "Content-Type: text/plain\r\n"
                                "Content-Length: 21\r\n"
                                "Connection: close\r\n\r\n"
                                "no room; come later\r\n";
    char rest[4096];

    /* What the client sent is read first: close(2) with unread bytes sends a reset, which
     * would overtake the answer. */
    while (recv(fd, rest, sizeof(rest), MSG_DONTWAIT) == (ssize_t)sizeof(rest))
        continue;
    if (send(fd, reply, sizeof(reply) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) != -1)
        shutdown(fd, SHUT_WR);
    close(fd);
}
