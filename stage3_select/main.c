/* stage 3 - one process, select(2) or poll(2): many clients, never asleep in one of them.
 * Does not: use a second cpu, or stay cheap when most of its clients are idle. */
#include <stdlib.h>
#include <sys/select.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/options.h"
#include "base/stop.h"
#include "clients.h"
#include "conn/conn.h"
#include "net/net.h"
#include "process/control.h"

enum { ACCEPT_BATCH = 64 };

static struct options opt;
static struct clients clients;

/* [stage3.serve] */
/* Do for one client what can be done now, then go back to the loop. */
static void serve(struct conn *c)
{
    if (c->want == WANT_READ)
        conn_fill(c);
    else if (c->want == WANT_WRITE)
        conn_drain(c);
    if (c->want == WANT_CLOSE) {
        clients.by_fd[c->fd] = NULL;
        while (clients.max_fd > clients.listener && clients.by_fd[clients.max_fd] == NULL)
            clients.max_fd--;
        conn_close(c);
    }
}

/* [stage3.accept] */
static void accept_clients(void)
{
    for (int i = 0; i < ACCEPT_BATCH && conn_count < opt.max_connections; i++) {
        int fd = accept4(clients.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= clients.size)
            net_refuse(fd); /* FD_SET(3) would write outside the set */
        else if (fd != -1) {
            clients.by_fd[fd] = conn_open(fd);
            if (fd > clients.max_fd)
                clients.max_fd = fd;
        } else if (!net_accept_failed())
            break;
    }
}

/* [stage3.loop] */
static void event_loop(void)
{
    while (!stopping || conn_count > 0) {
        bool paused = net_paused();
        int timeout_ms = paused ? NET_PAUSE_MS : conn_timeout_ms();
        bool knock = false;
        struct conn *c;
        int n;

        clients.accepting = !stopping && !paused && conn_count < opt.max_connections;
        if (opt.multiplexer == MULTIPLEXER_SELECT)
            n = wait_select(&clients, timeout_ms);
        else
            n = wait_poll(&clients, timeout_ms);
        for (int i = 0; i < n; i++) {
            if (clients.ready[i] == clients.listener)
                knock = true;
            else
                serve(clients.by_fd[clients.ready[i]]);
        }
        if (knock)
            accept_clients(); /* last: a reused fd number is not among the ready ones */
        while ((c = conn_expired()))
            serve(c);
    }
}

int main(int argc, char **argv)
{
    opt = options_parse(argc, argv, OPTIONS_MULTIPLEXER);
    control(&opt);
    conn_setup(&opt, false);
    clients.listener = net_listen(&opt, SOCK_NONBLOCK);
    clients.max_fd = clients.listener;
    clients.size = opt.multiplexer == MULTIPLEXER_SELECT ? FD_SETSIZE : options_max_fds();
    clients.by_fd = calloc((size_t)clients.size, sizeof(*clients.by_fd));
    clients.ready = calloc((size_t)clients.size, sizeof(*clients.ready));
    if (clients.by_fd == NULL || clients.ready == NULL)
        die(EXIT_SYSTEM, "no memory for %d clients; lower ulimit -n", clients.size);
    control_ready(&opt, 0);
    event_loop();
    control_end();
    return 0;
}
