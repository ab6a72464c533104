/* without_oneshot.c - stage 5 with its one cure for a race taken away: the kernel tells of
 * each change, EPOLLET, and not of one event only, EPOLLONESHOT. Edge-triggered, a request
 * that comes whole still causes one event; one that comes in pieces causes several, and each
 * hands the connection to another thread.
 * Does not: change any source of the stage. The linker puts this before epoll_ctl(2).
 * link: -Wl,--wrap=epoll_ctl */
#include <sys/epoll.h>

int __real_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event);

int __wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
    struct epoll_event edge = *event;

    if (edge.events & EPOLLONESHOT)
        edge.events = (edge.events & ~(unsigned)EPOLLONESHOT) | EPOLLET;
    return __real_epoll_ctl(epoll, op, fd, &edge);
}
