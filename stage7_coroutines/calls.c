/* calls.c - the system calls that sleep, for coroutines: each is tried once, and where it
 * would have slept, others run. The linker puts these in the place of libc's (--wrap, in
 * facts), in this program's own objects.
 * Does not: reach what libc calls by itself: getaddrinfo(3) stops everybody; so do files,
 * for which there is no EAGAIN.
 *
 * All sockets are non-blocking ones for the kernel. `nonblocking` says what whoever made
 * one has asked for, and gets to see. */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"

enum { SHARE = 16 }; /* calls that succeed in a row before others have their turn */

/* The linker gives these names. NOLINTBEGIN(bugprone-reserved-identifier) */
int __real_accept4(int fd, struct sockaddr *from, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *from, socklen_t *len, int flags);
ssize_t __real_recv(int fd, void *bytes, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *bytes, size_t len, int flags);
ssize_t __real_send(int fd, const void *bytes, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t len, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
int __real_connect(int fd, const struct sockaddr *to, socklen_t len);
int __wrap_connect(int fd, const struct sockaddr *to, socklen_t len);
int __real_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
int __wrap_clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                           struct timespec *left);
int __real_clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                           struct timespec *left);
int __real_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol);
int __real_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int __real_close(int fd);
int __wrap_close(int fd);
/* NOLINTEND(bugprone-reserved-identifier) */

/* --- a call that may have to wait --------------------------------------------------- */

/* May the call be made? Not while epoll would have told, and has not. */
static bool may(int fd, uint32_t event)
{
    const struct descriptor *d = &loop_descriptors[fd];

    return !d->watched || d->ready & event;
}

/* The call met EAGAIN, or has taken all there was: news will be told. */
static void drained(int fd, uint32_t event)
{
    loop_descriptors[fd].ready &= ~event;
}

/* The call cannot be made now: wait until it can. *until: 0 at first; a call has timeout_ms
 * in all, 0: for ever. False: it fails, with errno. */
static bool await(int fd, uint32_t event, int timeout_ms, int64_t *until)
{
    if (loop_descriptors[fd].nonblocking) {
        errno = EAGAIN;
        return false;
    }
    if (*until == 0)
        *until = timeout_ms ? loop_until(timeout_ms) : TIMER_NEVER;
    errno = loop_wait(fd, event, *until);
    if (errno == ETIMEDOUT)
        errno = EAGAIN;
    return errno == 0;
}

/* [calls.recv] */
ssize_t __wrap_recv(int fd, void *bytes, size_t len, int flags)
{
    struct descriptor *d = &loop_descriptors[fd];
    int64_t until = 0;

    if (!coroutine_running || flags & MSG_DONTWAIT)
        return __real_recv(fd, bytes, len, flags);
    if (loop_cancelled(fd)) {
        errno = ECANCELED;
        return -1;
    }
    loop_share(SHARE);
    do {
        ssize_t n = may(fd, EPOLLIN) ? __real_recv(fd, bytes, len, flags) : -2;

        /* Less than there was room for: it was all, unless the end has come, too, of
         * which no further news would be told. */
        if (n > 0 ? (size_t)n < len && !(d->ready & (EPOLLRDHUP | EPOLLHUP))
                  : n == -1 && errno == EAGAIN)
            drained(fd, EPOLLIN);
        if (n >= 0 || (n == -1 && errno != EAGAIN))
            return n;
    } while (await(fd, EPOLLIN, d->recv_ms, &until));
    return -1;
}

/* As a blocking send(2): all of it, or what went before an error or the time-out. */
ssize_t __wrap_send(int fd, const void *bytes, size_t len, int flags)
{
    const char *from = bytes;
    int64_t until = 0;
    size_t sent = 0;

    if (!coroutine_running || flags & MSG_DONTWAIT)
        return __real_send(fd, bytes, len, flags);
    if (loop_cancelled(fd)) {
        errno = ECANCELED;
        return -1;
    }
    loop_share(2 * SHARE); /* recv(2), where less is put aside, comes first */
    do {
        ssize_t n =
            may(fd, EPOLLOUT) ? __real_send(fd, from + sent, len - sent, flags) : -2;

        if (n == -1 && errno != EAGAIN)
            break;
        if (n >= 0)
            sent += (size_t)n;
        if (sent == len)
            return (ssize_t)sent;
        drained(fd, EPOLLOUT);
    } while (await(fd, EPOLLOUT, loop_descriptors[fd].send_ms, &until));
    return sent > 0 ? (ssize_t)sent : -1;
}

/* What the socket takes at once; where it takes nothing, it is waited for. */
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    int64_t until = 0;

    if (!coroutine_running || flags & MSG_DONTWAIT)
        return __real_sendmsg(fd, message, flags);
    if (loop_cancelled(fd)) {
        errno = ECANCELED;
        return -1;
    }
    loop_share(2 * SHARE);
    do {
        ssize_t n = may(fd, EPOLLOUT) ? __real_sendmsg(fd, message, flags) : -2;

        if (n >= 0 || (n == -1 && errno != EAGAIN))
            return n;
        drained(fd, EPOLLOUT);
    } while (await(fd, EPOLLOUT, loop_descriptors[fd].send_ms, &until));
    return -1;
}

int __wrap_connect(int fd, const struct sockaddr *to, socklen_t len)
{
    int64_t until = 0;
    socklen_t size = sizeof(int);
    int error = 0;

    if (!coroutine_running)
        return __real_connect(fd, to, len);
    if (loop_cancelled(fd)) {
        errno = ECANCELED;
        return -1;
    }
    if (__real_connect(fd, to, len) == 0)
        return 0;
    if (errno != EINPROGRESS || loop_descriptors[fd].nonblocking)
        return -1;
    drained(fd, EPOLLOUT);
    if (!await(fd, EPOLLOUT, loop_descriptors[fd].send_ms, &until)) {
        if (errno == EAGAIN)
            errno = EINPROGRESS; /* connect(2): so it says when SO_SNDTIMEO is over */
        return -1;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0)
        return 0;
    errno = error;
    return -1;
}

/* --- descriptors -------------------------------------------------------------------- */

/* A new one; or, beyond the table (somebody has raised the limit): -1. */
static int adopt(int fd, bool nonblocking)
{
    if (fd == -1)
        return -1;
    if (fd >= loop_max_fds) {
        __real_close(fd);
        errno = EMFILE;
        return -1;
    }
    loop_descriptors[fd] = (struct descriptor){ .nonblocking = nonblocking };
    return fd;
}

int __wrap_accept4(int fd, struct sockaddr *from, socklen_t *len, int flags)
{
    int64_t until = 0;

    if (!coroutine_running)
        return __real_accept4(fd, from, len, flags);
    if (loop_cancelled(fd)) {
        errno = ECANCELED;
        return -1;
    }
    loop_share(SHARE);
    do {
        int client =
            may(fd, EPOLLIN) ? __real_accept4(fd, from, len, flags | SOCK_NONBLOCK) : -2;

        if (client >= 0 || (client == -1 && errno != EAGAIN))
            return adopt(client, flags & SOCK_NONBLOCK);
        drained(fd, EPOLLIN);
    } while (await(fd, EPOLLIN, loop_descriptors[fd].recv_ms, &until));
    return -1;
}

int __wrap_socket(int domain, int type, int protocol)
{
    if (!coroutine_running)
        return __real_socket(domain, type, protocol);
    if (loop_cancelled(-1)) { /* nothing new is begun */
        errno = ECANCELED;
        return -1;
    }
    return adopt(__real_socket(domain, type | SOCK_NONBLOCK, protocol),
                 type & SOCK_NONBLOCK);
}

/* The number may be given out again, and nothing that is known may be left for whoever
 * gets it. epoll forgets a descriptor by itself: epoll(7), question 6. */
int __wrap_close(int fd)
{
    if (coroutine_running && fd >= 0 && fd < loop_max_fds) {
        assert(loop_descriptors[fd].waiter == NULL);
        loop_descriptors[fd] = (struct descriptor){ 0 };
    }
    return __real_close(fd);
}

/* The time-outs of a call that sleeps are ours: of the kernel's calls none does. */
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    const struct timeval *time = value;
    int ms;

    if (!coroutine_running || level != SOL_SOCKET ||
        (name != SO_RCVTIMEO && name != SO_SNDTIMEO))
        return __real_setsockopt(fd, level, name, value, len);
    ms = (int)(time->tv_sec * 1000 + (time->tv_usec + 999) / 1000);
    if (name == SO_RCVTIMEO)
        loop_descriptors[fd].recv_ms = ms;
    else
        loop_descriptors[fd].send_ms = ms;
    return 0;
}

/* --- time --------------------------------------------------------------------------- */

/* [calls.poll] */
/* For one descriptor, or for none. */
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    int fd = n > 0 ? fds->fd : -1;
    uint32_t events = n > 0 ? (uint32_t)fds->events : 0;

    if (!coroutine_running || timeout_ms == 0)
        return __real_poll(fds, n, timeout_ms);
    assert(n <= 1);
    if (fd != -1 && loop_descriptors[fd].watched &&
        loop_descriptors[fd].ready & (events | EPOLLERR | EPOLLHUP)) {
        if (__real_poll(fds, n, 0) != 0) /* the last word was old, perhaps */
            return 1;
        drained(fd, events);
    }
    errno = loop_wait(fd, events, timeout_ms < 0 ? TIMER_NEVER : loop_until(timeout_ms));
    if (errno == ETIMEDOUT)
        return 0;
    if (n > 0 && errno == ECANCELED)
        fds->revents = POLLERR; /* whoever looks closer is told */
    else if (errno != 0)
        return -1;
    else if (n > 0)
        fds->revents = (short)(loop_descriptors[fd].ready & (events | POLLERR | POLLHUP));
    return (int)n;
}

static int64_t ns_of(const struct timespec *time)
{
    return time->tv_sec * INT64_C(1000000000) + time->tv_nsec;
}

/* Late by a millisecond, never early. */
int __wrap_clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                           struct timespec *left)
{
    int64_t ns = ns_of(time), until;
    struct timespec now;
    int error;

    if (!coroutine_running)
        return __real_clock_nanosleep(clock, flags, time, left);
    if (flags & TIMER_ABSTIME) {
        clock_gettime(clock, &now);
        ns -= ns_of(&now);
    }
    if (ns <= 0)
        return 0;
    until = loop_until((ns + 999999) / 1000000);
    error = loop_wait(-1, 0, until);
    if (error == EINTR && left && !(flags & TIMER_ABSTIME)) {
        ns = (until - loop_until(0)) * 1000000;
        *left = (struct timespec){ ns / 1000000000, ns % 1000000000 };
    }
    return error == ETIMEDOUT ? 0 : error;
}
