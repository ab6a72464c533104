/* close_listener.c - what is lost when one of two SO_REUSEPORT listeners is closed.
 * Does not: serve; it queues 100 connections, closes one listener in one of three ways,
 * and counts the clients that were reset. socket(7), listen(2). */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CLIENTS = 100, BACKLOG = 256, SETTLE_MS = 200 };

enum way { PLAIN_CLOSE, ACCEPT_FIRST, HELD_BY_ANOTHER, WAYS };

static const char *const descriptions[WAYS] = {
    "close(2)",
    "accept until EAGAIN, then close(2)",
    "close(2), while another process holds the socket",
};

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static int listen_reuseport(struct sockaddr_in *address)
{
    socklen_t len = sizeof(*address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int on = 1;

    must(fd != -1, "socket");
    must(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0, "SO_REUSEPORT");
    must(bind(fd, (struct sockaddr *)address, len) == 0, "bind");
    must(listen(fd, BACKLOG) == 0, "listen");
    must(getsockname(fd, (struct sockaddr *)address, &len) == 0, "getsockname");
    return fd;
}

static pid_t hold(void)
{
    pid_t pid = fork();

    must(pid != -1, "fork");
    if (pid == 0) {
        poll(NULL, 0, 5000); /* has the descriptors, as any child; ends by itself */
        _exit(0);
    }
    return pid;
}

static int count_resets(const int clients[])
{
    int resets = 0;

    poll(NULL, 0,
         SETTLE_MS); /* loopback delivers at once; this is for the reader's peace */
    for (int i = 0; i < CLIENTS; i++) {
        char byte;

        if (recv(clients[i], &byte, 1, MSG_DONTWAIT) == -1 && errno == ECONNRESET)
            resets++;
        close(clients[i]);
    }
    return resets;
}

static int lost(enum way way)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int going = listen_reuseport(&address);
    int staying = listen_reuseport(&address);
    int clients[CLIENTS], accepted[CLIENTS];
    int n = 0, resets;
    pid_t holder = 0;

    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM, 0);
        must(clients[i] != -1, "socket");
        must(connect(clients[i], (struct sockaddr *)&address, sizeof(address)) == 0,
             "connect");
    }
    if (way == HELD_BY_ANOTHER)
        holder = hold();
    while (way == ACCEPT_FIRST && n < CLIENTS &&
           (accepted[n] = accept(going, NULL, NULL)) != -1)
        n++;
    close(going);
    resets = count_resets(clients);
    while (n > 0)
        close(accepted[--n]);
    close(staying);
    if (holder) {
        kill(holder, SIGKILL);
        waitpid(holder, NULL, 0);
    }
    return resets;
}

int main(void)
{
    printf(
        "%d clients wait in the queues of two SO_REUSEPORT listeners; one is closed:\n\n",
        CLIENTS);
    for (enum way way = 0; way < WAYS; way++)
        printf("%3d reset   %s\n", lost(way), descriptions[way]);
    return 0;
}
