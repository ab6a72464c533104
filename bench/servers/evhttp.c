/* evhttp.c - the server that libevent's users get for free, as a peer of the stages: the
 * same greeting under the same kind of head, one process.
 * Does not: share code with the stages, or take options but --port. */
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 4096, IDLE_SECONDS = 60, MS_MAX = 60000, BYTES_MAX = 64 << 20 };

static struct event_base *base;

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

/* The number that `key` has in the query, 0 to max; -1: none, and 400 was answered. */
static long number(struct evhttp_request *req, const char *key, long max)
{
    const char *query = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(req));
    struct evkeyvalq pairs = { 0 };
    const char *value = NULL;
    char *end = NULL;
    long n = -1;

    if (query && evhttp_parse_query_str(query, &pairs) == 0) {
        value = evhttp_find_header(&pairs, key);
        n = value ? strtol(value, &end, 10) : -1;
        if (value && (end == value || *end != '\0' || n > max))
            n = -1;
        evhttp_clear_headers(&pairs);
    }
    if (n < 0)
        evhttp_send_error(req, 400, NULL);
    return n < 0 ? -1 : n;
}

static void hello(struct evhttp_request *req, void *arg)
{
    struct evbuffer *body = evbuffer_new();

    (void)arg;
    must(body != NULL, "evbuffer_new");
    evbuffer_add(body, "hello world!", 12);
    evhttp_send_reply(req, 200, "OK", body);
    evbuffer_free(body);
}

/* Blocks, as the stages' handler does: the same work for all. */
static void sleep_ms(struct evhttp_request *req, void *arg)
{
    long ms = number(req, "ms", MS_MAX);
    struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
    struct evbuffer *body;

    (void)arg;
    if (ms == -1)
        return;
    nanosleep(&time, NULL);
    body = evbuffer_new();
    must(body != NULL, "evbuffer_new");
    evbuffer_add_printf(body, "slept %ld ms\n", ms);
    evhttp_send_reply(req, 200, "OK", body);
    evbuffer_free(body);
}

/* evhttp wants all of a body at once. */
static void bytes(struct evhttp_request *req, void *arg)
{
    long n = number(req, "n", BYTES_MAX);
    struct evbuffer_iovec room;
    struct evbuffer *body;

    (void)arg;
    if (n == -1)
        return;
    body = evbuffer_new();
    must(body != NULL && (n == 0 || evbuffer_reserve_space(body, n, &room, 1) == 1),
         "evbuffer");
    if (n > 0) {
        for (long i = 0; i < n; i++)
            ((char *)room.iov_base)[i] = (char)('a' + i % 26);
        room.iov_len = (size_t)n;
        evbuffer_commit_space(body, &room, 1);
    }
    evhttp_send_reply(req, 200, "OK", body);
    evbuffer_free(body);
}

static void on_signal(evutil_socket_t signal, short what, void *arg)
{
    (void)signal;
    (void)what;
    (void)arg;
    event_base_loopexit(base, NULL);
}

/* --port N, or --port=N; 0 and none: any free one. */
static in_port_t port_option(int argc, char **argv)
{
    const char *value = "0";

    if (argc == 3 && strcmp(argv[1], "--port") == 0) {
        value = argv[2];
    } else if (argc == 2 && strncmp(argv[1], "--port=", 7) == 0) {
        value = argv[1] + 7;
    } else if (argc > 1) {
        fprintf(stderr, "usage: %s [--port N]\n", argv[0]);
        exit(2);
    }
    return (in_port_t)strtoul(value, NULL, 10);
}

/* Our own listener, for a backlog and TCP_NODELAY as the stages have them. */
static int listen_on_loopback(in_port_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;

    must(listener != -1, "socket");
    must(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0,
         "SO_REUSEADDR");
    must(setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0,
         "TCP_NODELAY");
    must(bind(listener, (struct sockaddr *)&address, len) == 0, "bind");
    must(listen(listener, BACKLOG) == 0, "listen");
    must(getsockname(listener, (struct sockaddr *)&address, &len) == 0, "getsockname");
    printf("evhttp: listening on 127.0.0.1:%d (pid %d, workers 1)\n",
           ntohs(address.sin_port), (int)getpid());
    fflush(stdout);
    return listener;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    must(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
}

int main(int argc, char **argv)
{
    in_port_t port = port_option(argc, argv);
    struct event *terminate;
    struct event *interrupt;
    struct evhttp *http;

    raise_descriptor_limit();
    signal(SIGPIPE,
           SIG_IGN); /* libevent writes with writev(2), which has no MSG_NOSIGNAL */
    base = event_base_new();
    http = base ? evhttp_new(base) : NULL;
    must(http != NULL, "evhttp_new");
    evhttp_set_default_content_type(http, "text/html;charset=UTF-8");
    evhttp_set_timeout(http, IDLE_SECONDS);
    must(evhttp_set_cb(http, "/", hello, NULL) == 0, "evhttp_set_cb");
    must(evhttp_set_cb(http, "/sleep", sleep_ms, NULL) == 0, "evhttp_set_cb");
    must(evhttp_set_cb(http, "/bytes", bytes, NULL) == 0, "evhttp_set_cb");
    terminate = evsignal_new(base, SIGTERM, on_signal, NULL);
    interrupt = evsignal_new(base, SIGINT, on_signal, NULL);
    must(terminate && evsignal_add(terminate, NULL) == 0, "SIGTERM");
    must(interrupt && evsignal_add(interrupt, NULL) == 0, "SIGINT");
    must(evhttp_accept_socket(http, listen_on_loopback(port)) == 0,
         "evhttp_accept_socket");
    event_base_dispatch(base);
    evhttp_free(http);
    event_free(terminate);
    event_free(interrupt);
    event_base_free(base);
    return 0;
}
