/* floor.c - the least a server can do: the price of the kernel alone, to compare others
 * with.
 * Does not: parse, time out, keep what does not fit; never use it for anything but
 * measuring.
 *
 * Per turn of a connection one recv(2) and one send(2), epoll_wait(2) amortised over the
 * ready ones. It counts blank lines to know how many requests it was sent, and it closes
 * after each answer when started with --close; it looks at nothing else. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_EVENTS = 256, ACCEPT_BATCH = 64, SCRATCH = 65536, BACKLOG = 4096 };

/* As long as the answers of the stages, byte for byte. */
static const char answer_keep[] = "HTTP/1.1 200 OK\r\n"
                                  "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
                                  "Content-Type: text/html;charset=UTF-8\r\n"
                                  "Content-Length: 12\r\n\r\nhello world!";
static const char answer_close[] = "HTTP/1.1 200 OK\r\n"
                                   "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
                                   "Content-Type: text/html;charset=UTF-8\r\n"
                                   "Content-Length: 12\r\n"
                                   "Connection: close\r\n\r\nhello world!";

static char answers[SCRATCH]; /* the answer again and again: a batch is one send */
static size_t answer_len;
static bool close_after;

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

/* Requests end in a blank line. A request that is split between two reads is not counted:
 * the load generators of the benchmark send theirs whole. */
static size_t count_requests(const char *bytes, size_t len)
{
    const char *end = bytes + len;
    size_t n = 0;

    while ((bytes = memmem(bytes, (size_t)(end - bytes), "\r\n\r\n", 4)) != NULL) {
        bytes += 4;
        n++;
    }
    return n;
}

static void serve(int fd)
{
    static char input[SCRATCH];
    ssize_t n = recv(fd, input, sizeof(input), 0);
    size_t len;

    if (n <= 0) {
        close(fd);
        return;
    }
    len = count_requests(input, (size_t)n) * answer_len;
    if (len > sizeof(answers) || send(fd, answers, len, MSG_NOSIGNAL) != (ssize_t)len ||
        close_after)
        close(fd);
}

static void accept_clients(int epoll, int listener)
{
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

        if (fd == -1)
            return;
        must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
    }
}

static int listen_on_loopback(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;

    must(listener != -1, "socket");
    must(setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0,
         "TCP_NODELAY");
    must(bind(listener, (struct sockaddr *)&address, len) == 0, "bind");
    must(listen(listener, BACKLOG) == 0, "listen");
    must(getsockname(listener, (struct sockaddr *)&address, &len) == 0, "getsockname");
    printf("floor: listening on 127.0.0.1:%d (pid %d)\n", ntohs(address.sin_port),
           (int)getpid());
    fflush(stdout);
    return listener;
}

int main(int argc, char **argv)
{
    int listener = listen_on_loopback();
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = { .events = EPOLLIN, .data.fd = listener };
    struct epoll_event ready[MAX_EVENTS];
    const char *answer;

    close_after = argc > 1 && strcmp(argv[1], "--close") == 0;
    answer = close_after ? answer_close : answer_keep;
    answer_len = strlen(answer);
    for (size_t at = 0; at + answer_len <= sizeof(answers); at += answer_len)
        memcpy(answers + at, answer, answer_len);
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) == 0, "epoll_ctl");
    for (;;) {
        int n = epoll_wait(epoll, ready, MAX_EVENTS, -1);

        for (int i = 0; i < n; i++) {
            if (ready[i].data.fd == listener)
                accept_clients(epoll, listener);
            else
                serve(ready[i].data.fd);
        }
    }
}
