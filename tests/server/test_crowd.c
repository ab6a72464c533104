/* test_crowd.c - bench/crowd: does each behaviour behave, and does every request end up
 * under the one right heading? Against stages, and servers that fail on purpose.
 * Does not: measure how fast anything is. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/harness.h"

static struct mode stage1, stage3, stage4;

/* ---- crowd ---- */

struct crowd {
    pid_t pid;
    int in;            /* owned: writing end of its stdin */
    int out;           /* owned: reading end of its stdout */
    char ready[2048];  /* its first line */
    char report[8192]; /* its last line */
};

static const char *crowd_program(void)
{
    static char path[PATH_MAX + 32];
    const char *given = getenv("BUILD_DIR");
    char own[PATH_MAX];
    ssize_t n;

    if (given) {
        snprintf(path, sizeof path, "%s/bench/crowd", given);
        return path;
    }
    n = readlink("/proc/self/exe", own, sizeof own - 1);
    ck_assert_int_gt(n, 0);
    own[n] = '\0';
    *strrchr(own, '/') = '\0'; /* the program, */
    *strrchr(own, '/') = '\0'; /* and tests/ */
    snprintf(path, sizeof path, "%s/bench/crowd", own);
    return path;
}

/* Split `words` at spaces, behind the program's name. */
static void split(char *words, const char *argv[], int cap)
{
    int n = 0;

    argv[n++] = crowd_program();
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " ")) {
        ck_assert_int_lt(n, cap - 1);
        argv[n++] = word;
    }
    argv[n] = NULL;
}

/* The next line of stdout, without its end. */
static void read_line(const struct crowd *w, char *line, size_t cap)
{
    int64_t end = clock_ms() + scaled_ms(15000);
    size_t n = 0;

    for (;;) {
        struct pollfd p = { w->out, POLLIN, 0 };
        int64_t left = end - clock_ms();

        ck_assert_msg(left > 0 && poll(&p, 1, (int)left) == 1, "crowd says nothing");
        ck_assert_uint_lt(n, cap);
        ck_assert_msg(read(w->out, line + n, 1) == 1, "crowd ended early");
        if (line[n] == '\n')
            break;
        n++;
    }
    line[n] = '\0';
}

static _Noreturn void become_crowd(const char *const argv[], int in, int out)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    execv(argv[0], (char *const *)argv);
    perror(argv[0]);
    _exit(127);
}

/* Start it, and read that it is ready. */
static void crowd_start(struct crowd *w, int port, const char *args)
{
    char words[512];
    const char *argv[40];
    int in[2], out[2];

    snprintf(words, sizeof words, "--port %d %s", port, args);
    split(words, argv, 40);
    ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    w->pid = fork();
    ck_assert_int_ge(w->pid, 0);
    if (w->pid == 0)
        become_crowd(argv, in[0], out[1]);
    close(in[0]);
    close(out[1]);
    w->in = in[1];
    w->out = out[0];
    read_line(w, w->ready, sizeof w->ready);
    ck_assert_msg(strncmp(w->ready, "ready {", 7) == 0, "first line: %s", w->ready);
}

static long long count(const struct crowd *w, const char *key)
{
    long long n = json_number(w->report, key);

    ck_assert_msg(n >= 0, "no %s in %s", key, w->report);
    return n;
}

/* A number of one of the histograms. */
static long long times(const struct crowd *w, const char *histogram, const char *key)
{
    const char *at = strstr(w->report, histogram);

    ck_assert_ptr_nonnull(at);
    return json_number(at, key);
}

#define ck_count(w, key, n)                                                              \
    ck_assert_msg(count(w, key) == (n), "%s is %lld, not %lld: %s", key, count(w, key),  \
                  (long long)(n), (w)->report)

/* What is true of every report. */
static void check_sums(const struct crowd *w)
{
    static const char *const failures[] = { "timeout",      "reset",      "closed",
                                            "wrong_status", "wrong_body", "raced",
                                            "after_close" };
    long long failed = 0;

    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++)
        failed += json_number(strstr(w->report, "\"failures\""), failures[i]);
    ck_count(w, "failed", failed);
    ck_count(w, "offered",
             count(w, "established") + count(w, "refused_at_connect") +
                 count(w, "connect_failed") + count(w, "connecting"));
    if (!strstr(w->report, "\"behaviour\":\"reset\""))
        ck_count(w, "requests", count(w, "served") + failed + count(w, "unfinished"));
    ck_assert_int_eq(times(w, "total_us", "count"), count(w, "served"));
    ck_assert_int_eq(times(w, "connect_us", "count"), count(w, "established"));
}

/* Its report has been read; read its end. */
static void crowd_end(struct crowd *w)
{
    int status;
    char more;

    ck_assert_int_eq(read(w->out, &more, 1), 0);
    ck_assert_int_eq(waitpid(w->pid, &status, 0), w->pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "crowd: status %x",
                  status);
    close(w->in);
    close(w->out);
    check_sums(w);
}

/* Read its report and its end. */
static void crowd_finish(struct crowd *w)
{
    read_line(w, w->report, sizeof w->report);
    crowd_end(w);
}

static void crowd_run(struct crowd *w, int port, const char *args)
{
    crowd_start(w, port, args);
    crowd_finish(w);
}

/* Start a stage, let a crowd loose on it, stop it. */
static void crowd_on(const struct mode *stage, const char *server_args, struct crowd *w,
                     const char *args)
{
    struct response r;
    struct server s;

    mode = stage;
    server_start(&s, server_args);
    crowd_run(w, s.port, args);
    fetch(&s, "GET", "/", &r, 200);
    server_stop(&s);
}

/* ---- servers that fail on purpose ---- */

#define HEAD(length, more) "HTTP/1.1 200 OK\r\nContent-Length: " length "\r\n" more "\r\n"
#define RIGHT              HEAD("12", "") "hello world!"
#define RIGHT_CLOSE        HEAD("12", "Connection: close\r\n") "hello world!"

/* Play a server for one connection, nth of all; the caller closes it. */
typedef void act(int fd, int nth);

static void say(int fd, const char *text)
{
    send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/* Wait for n more requests in all. False: the client has gone. */
static bool hear(int fd, int n)
{
    char c;
    int newlines = 0;

    while (n > 0) {
        if (recv(fd, &c, 1, 0) != 1)
            return false;
        if (c == '\n' && ++newlines == 2) {
            n--;
            newlines = 0;
        } else if (c != '\r' && c != '\n') {
            newlines = 0;
        }
    }
    return true;
}

static int listen_on_loopback(int *port, int backlog)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(listener, backlog), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    *port = ntohs(address.sin_port);
    return listener;
}

/* One connection at a time; dies with the test. Returns the port. */
static int play(act *scene)
{
    int port;
    int listener = listen_on_loopback(&port, 64);

    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int nth = 0;; nth++) {
            int fd = accept(listener, NULL, NULL);

            scene(fd, nth);
            close(fd);
        }
    }
    close(listener);
    return port;
}

/* ---- holders ---- */

START_TEST(silent)
{
    struct crowd w;

    crowd_on(&stage4, "", &w, "--behaviour silent --connections 50 --seconds 0.5");
    ck_assert_int_eq(json_number(w.ready, "established"), 50);
    ck_count(&w, "established", 50);
    ck_count(&w, "open", 50);
    ck_count(&w, "served", 0);
    ck_count(&w, "requests", 0);
    ck_count(&w, "bytes_written", 0);
    ck_count(&w, "closed_by_server", 0);
}
END_TEST

/* select(2) cannot hold more than 1,024 descriptors: the rest is refused, and crowd knows
 * by the time it is ready. */
START_TEST(silent_refused)
{
    struct crowd w;
    struct server s;

    mode = &stage3;
    server_start(&s, "");
    crowd_run(&w, s.port, "--behaviour silent --connections 1100 --seconds 0.9");
    ck_count(&w, "established", 1100);
    ck_assert_int_gt(count(&w, "refused"), 1100 - 1024);
    ck_count(&w, "answered_503", count(&w, "refused"));
    ck_count(&w, "closed_by_server", count(&w, "refused"));
    ck_count(&w, "open", 1100 - count(&w, "refused"));
    ck_assert_int_eq(times(&w, "closed_after_ms", "count"), count(&w, "refused"));
    if (!harness_wrapped())
        ck_assert_int_eq(json_number(w.ready, "refused"), count(&w, "refused"));
    server_stop(&s);
}
END_TEST

/* A listener on which nobody accepts, with a full queue. */
static int full_listener(int *port)
{
    struct server self = { 0 };
    int listener = listen_on_loopback(port, 1);
    struct tcp_info info = { 0 };
    socklen_t len = sizeof info;

    self.port = *port;
    connect_to(&self);
    connect_to(&self);
    eventually(getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
                   info.tcpi_unacked == 2,
               PATIENCE_MS);
    return listener;
}

/* Who finds no room in the queue is neither established nor refused. */
START_TEST(full_queue)
{
    struct crowd w;
    int port;
    int listener = full_listener(&port);

    crowd_run(&w, port, "--behaviour silent --connections 5 --seconds 1.2");
    ck_count(&w, "connecting", 5);
    ck_count(&w, "established", 0);
    ck_count(&w, "refused", 0);
    ck_assert_int_eq(json_number(w.ready, "connecting"), 5);
    crowd_run(&w, port, "--behaviour probe --requests 2 --timeout 0.2");
    ck_count(&w, "connect_failed", 2);
    ck_count(&w, "requests", 0);
    ck_assert_ptr_nonnull(strstr(w.report, "\"connect_error\":\"Connection timed out\""));
    close(listener);
}
END_TEST

START_TEST(half)
{
    struct crowd w;

    crowd_on(&stage4, "-t 1", &w, "--behaviour half --connections 30 --seconds 8");
    ck_count(&w, "established", 30);
    ck_count(&w, "answered_408", 30);
    ck_count(&w, "closed_by_server", 30);
    ck_count(&w, "requests", 0);
    ck_assert_int_ge(times(&w, "closed_after_ms", "min"), 900);
    ck_assert_int_eq(times(&w, "closed_after_ms", "count"), 30);
}
END_TEST

START_TEST(drip_too_slow)
{
    struct crowd w;

    crowd_on(&stage4, "-t 1", &w,
             "--behaviour drip --connections 30 --seconds 8 --interval 90");
    ck_count(&w, "answered_408", 30);
    ck_count(&w, "closed_by_server", 30);
    ck_count(&w, "served", 0);
    ck_assert_int_ge(count(&w, "bytes_written"), 30 * 5);
    ck_assert_int_le(count(&w, "bytes_written"), 30 * 30);
}
END_TEST

START_TEST(drip_fast_enough)
{
    struct crowd w;

    crowd_on(&stage4, "", &w,
             "--behaviour drip --connections 5 --seconds 0.8 --interval 2");
    ck_assert_int_ge(count(&w, "served"), 5);
    ck_count(&w, "failed", 0);
    ck_count(&w, "open", 5);
}
END_TEST

START_TEST(idle)
{
    struct crowd w;

    crowd_on(&stage4, "", &w, "--behaviour idle --connections 30 --seconds 0.4");
    ck_count(&w, "served", 30);
    ck_count(&w, "open", 30);
    ck_count(&w, "closed_by_server", 0);
    crowd_on(&stage4, "-k 1", &w, "--behaviour idle --connections 30 --seconds 8");
    ck_count(&w, "served", 30);
    ck_count(&w, "failed", 0);
    ck_count(&w, "closed_idle", 30);
    ck_count(&w, "closed_by_server", 30);
    ck_assert_int_ge(times(&w, "closed_after_ms", "min"), 900);
}
END_TEST

START_TEST(slow_read)
{
    struct crowd w;

    crowd_on(
        &stage4, "", &w,
        "--behaviour slow-read --connections 10 --path /bytes?n=4000000 --rate 100000 "
        "--seconds 1");
    ck_count(&w, "requests", 10);
    ck_count(&w, "unfinished", 10);
    ck_assert_int_ge(count(&w, "bytes_read"), 10 * 60000);
    ck_assert_int_le(count(&w, "bytes_read"), 10 * 110000);
    crowd_on(&stage4, "", &w,
             "--behaviour slow-read --connections 4 --path /bytes?n=50000 --rate 200000 "
             "--seconds 1 --interval 20");
    ck_assert_int_ge(count(&w, "served"), 4);
    ck_count(&w, "failed", 0);
}
END_TEST

START_TEST(never_read)
{
    struct crowd w;

    crowd_on(
        &stage4, "", &w,
        "--behaviour never-read --connections 20 --path /bytes?n=4000000 --seconds 0.5");
    ck_count(&w, "requests", 20);
    ck_count(&w, "unfinished", 20);
    ck_count(&w, "bytes_read", 0);
    ck_count(&w, "open", 20);
    crowd_on(&stage4, "-k 1", &w, "--behaviour never-read --connections 20 --seconds 8");
    ck_count(&w, "closed_by_server", 20);
    ck_count(&w, "bytes_read", 0);
}
END_TEST

/* ---- loops ---- */

START_TEST(reset)
{
    struct crowd w;

    crowd_on(&stage4, "", &w, "--behaviour reset --connections 10 --seconds 0.5");
    ck_assert_int_gt(count(&w, "requests"), 10);
    ck_count(&w, "requests", count(&w, "established"));
    ck_count(&w, "bytes_read", 0);
}
END_TEST

/* More than one source address has ports for. */
START_TEST(many_sources)
{
    struct crowd w;

    if (harness_wrapped())
        return;
    crowd_on(&stage4, "", &w,
             "--behaviour reset --connections 50 --requests 20100 --seconds 25");
    ck_count(&w, "connect_failed", 0);
    ck_count(&w, "refused", 0);
    ck_assert_int_ge(count(&w, "established"), 20010);
}
END_TEST

START_TEST(probe)
{
    struct crowd w;

    crowd_on(&stage4, "", &w,
             "--behaviour probe --requests 10 --interval 20 --seconds 9");
    ck_count(&w, "served", 10);
    ck_count(&w, "offered", 10);
    ck_count(&w, "failed", 0);
    ck_assert_int_le(times(&w, "connect_us", "p50"), times(&w, "first_byte_us", "p50"));
    ck_assert_int_le(times(&w, "first_byte_us", "max"), times(&w, "total_us", "max"));
}
END_TEST

/* A silent client holds stage 1: who comes later is connected, and waits. */
START_TEST(probe_of_a_blocked_server)
{
    struct client holder;
    struct server s;
    struct crowd w;

    mode = &stage1;
    server_start(&s, "");
    client_open(&holder, &s);
    crowd_run(&w, s.port, "--behaviour probe --requests 3 --timeout 0.3 --seconds 9");
    ck_count(&w, "established", 3);
    ck_count(&w, "timeout", 3);
    ck_count(&w, "served", 0);
    client_close(&holder);
    crowd_run(&w, s.port, "--behaviour probe --requests 3 --seconds 9");
    ck_count(&w, "served", 3);
    server_stop(&s);
}
END_TEST

static const char *const loops[] = {
    "--behaviour short --requests 301",
    "--behaviour keep-alive --requests 3001",
    "--behaviour pipelined --requests 5003 --depth 7",
    "--behaviour keep-alive --requests 30 --interval 20",
    "--behaviour pipelined --requests 60 --depth 1 --path /sleep?ms=1",
    "--behaviour short --requests 40 --path /bytes?n=300000",
    "--behaviour keep-alive --requests 40 --path /bytes?n=300000",
    "--behaviour drip --requests 20 --interval 3",
};

/* Every request served, and not one more than was asked for. */
START_TEST(exactly)
{
    struct crowd w;
    char args[256];

    snprintf(args, sizeof args, "%s --connections 8 --seconds 9", loops[_i]);
    crowd_on(&stage4, "", &w, args);
    ck_count(&w, "served", atoi(strstr(args, "--requests ") + 11));
    ck_count(&w, "failed", 0);
    ck_count(&w, "unfinished", 0);
    ck_count(&w, "surplus", 0);
}
END_TEST

START_TEST(for_some_time)
{
    static const char *const behaviour[] = { "short", "keep-alive", "pipelined" };
    struct crowd w;
    char args[128];

    snprintf(args, sizeof args, "--behaviour %s --connections 16 --seconds 0.4",
             behaviour[_i]);
    crowd_on(&stage4, "", &w, args);
    ck_assert_int_gt(count(&w, "served"), 16);
    ck_count(&w, "failed", 0);
    ck_count(&w, "unfinished", 0);
    ck_count(&w, "connect_failed", 0);
}
END_TEST

/* A server that closes after each answer and says so loses nothing. */
START_TEST(announced_close)
{
    struct crowd w;

    crowd_on(&stage4, "-k 0", &w,
             "--behaviour keep-alive --connections 4 --requests 100 --seconds 9");
    ck_count(&w, "served", 100);
    ck_count(&w, "failed", 0);
    ck_count(&w, "announced_close", 100);
    ck_assert_int_ge(count(&w, "established"), 100);
}
END_TEST

/* An answer that takes long is served all the same. */
START_TEST(late)
{
    static const struct {
        const char *words;
        long late;
    } cases[] = {
        { "--requests 6 --path /sleep?ms=60 --late 0.05", 6 },
        { "--requests 6 --path /sleep?ms=60 --late 9", 0 },
        { "--requests 6 --path /sleep?ms=60", 0 },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct crowd w;
        char words[128];

        snprintf(words, sizeof(words), "--behaviour keep-alive %s", cases[i].words);
        crowd_on(&stage4, "", &w, words);
        ck_count(&w, "served", 6);
        ck_count(&w, "late", cases[i].late);
    }
}
END_TEST

START_TEST(over_ipv6)
{
    struct crowd w;

    crowd_on(&stage3, "-a ::1", &w,
             "--address ::1 --behaviour keep-alive --connections 4 --requests 100");
    ck_count(&w, "served", 100);
}
END_TEST

START_TEST(server_killed)
{
    struct server s;
    struct crowd w;
    int status;

    mode = &stage3;
    server_start(&s, "");
    crowd_start(
        &w, s.port,
        "--behaviour keep-alive --connections 20 --seconds 0.8 --path /sleep?ms=5");
    pause_ms(200);
    kill(-s.pid, SIGKILL);
    crowd_finish(&w);
    ck_assert_int_gt(count(&w, "served"), 0);
    ck_assert_int_gt(count(&w, "failed"), 0);
    /* None twice on a connection. One or the other may have come anew in the moment in
     * which its old connection was reset already, and the listener not yet closed. */
    ck_assert_int_le(count(&w, "failed"), count(&w, "established"));
    ck_assert_int_ge(count(&w, "refused"), 20);
    ck_assert_int_eq(waitpid(s.pid, &status, 0), s.pid);
}
END_TEST

/* ---- the account, against servers that fail on purpose ---- */

static void wrong_body(int fd, int nth)
{
    (void)nth;
    if (hear(fd, 1))
        say(fd, HEAD("12", "") "hello w0rld!");
}

static void too_much(int fd, int nth)
{
    (void)nth;
    if (hear(fd, 1))
        say(fd, RIGHT "x");
}

static void twice(int fd, int nth)
{
    (void)nth;
    if (hear(fd, 1))
        say(fd, RIGHT RIGHT);
}

static void wrong_status(int fd, int nth)
{
    (void)nth;
    while (hear(fd, 1))
        say(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\nhello world!");
}

static void not_http(int fd, int nth)
{
    (void)nth;
    if (hear(fd, 1))
        say(fd, "220 mail.example.org ESMTP\r\n");
}

static void unavailable(int fd, int nth)
{
    (void)nth;
    if (hear(fd, 1))
        say(fd, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n"
                "Connection: close\r\n\r\n");
}

static void no_answer(int fd, int nth)
{
    (void)nth;
    hear(fd, 1);
}

static void half_an_answer(int fd, int nth)
{
    (void)nth;
    if (hear(fd, 1))
        say(fd, HEAD("12", "") "hello");
}

static void reset_answer(int fd, int nth)
{
    struct linger linger = { .l_onoff = 1, .l_linger = 0 };

    (void)nth;
    hear(fd, 1);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

static void hold(int fd, int nth)
{
    (void)nth;
    hear(fd, 2);
}

/* Answers the first, takes the second, goes. */
static void race(int fd, int nth)
{
    (void)nth;
    if (hear(fd, 1))
        say(fd, RIGHT);
    hear(fd, 1);
}

/* As race(), but some of the second answer came. */
static void late_close(int fd, int nth)
{
    race(fd, nth);
    say(fd, "HTTP/1.1 2");
}

static void close_idle(int fd, int nth)
{
    (void)nth;
    if (hear(fd, 1))
        say(fd, RIGHT);
}

/* A 408 to a connection that is just idle is allowed: RFC 9110 section 15.5.9. */
static void idle_408(int fd, int nth)
{
    (void)nth;
    if (hear(fd, 1))
        say(fd, RIGHT);
    pause_ms(20);
    say(fd,
        "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

/* Two of four, then the end. */
static void close_in_batch(int fd, int nth)
{
    (void)nth;
    if (hear(fd, 4))
        say(fd, RIGHT RIGHT_CLOSE);
}

static void die_in_batch(int fd, int nth)
{
    (void)nth;
    if (hear(fd, 4))
        say(fd, RIGHT RIGHT);
}

static void crumbs(int fd, int nth)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n" RIGHT;

    (void)nth;
    while (hear(fd, 1)) {
        for (const char *c = text; *c; c++) {
            send(fd, c, 1, MSG_NOSIGNAL);
            if (*c == '\n' || *c == 'l')
                pause_ms(1);
        }
    }
}

static const struct {
    act *scene;
    const char *args;
    int served;
    const char
        *heading; /* where the requests that were not served are counted, or NULL */
    int there;
} scenes[] = {
    { wrong_body, "--behaviour short --requests 5", 0, "wrong_body", 5 },
    { too_much, "--behaviour short --requests 5", 0, "wrong_body", 5 },
    { twice, "--behaviour keep-alive --requests 5", 0, "wrong_body", 5 },
    { wrong_body, "--behaviour short --requests 5 --any-body", 5, NULL, 0 },
    { wrong_status, "--behaviour keep-alive --requests 5", 0, "wrong_status", 5 },
    { not_http, "--behaviour keep-alive --requests 5", 0, "wrong_status", 5 },
    { unavailable, "--behaviour keep-alive --requests 5", 0, "wrong_status", 5 },
    { unavailable, "--behaviour short --requests 5", 0, "refused", 5 },
    { no_answer, "--behaviour short --requests 5", 0, "closed", 5 },
    { no_answer, "--behaviour keep-alive --requests 5", 0, "closed", 5 },
    { half_an_answer, "--behaviour short --requests 5", 0, "closed", 5 },
    { reset_answer, "--behaviour short --requests 5", 0, "reset", 5 },
    { reset_answer, "--behaviour short --requests 5", 0, "reset_by_server", 5 },
    { hold, "--behaviour keep-alive --requests 2 --timeout 0.1", 0, "timeout", 2 },
    { hold, "--behaviour short --requests 2 --timeout 0.1", 0, "timeout", 2 },
    { race, "--behaviour keep-alive --requests 6", 3, "raced", 3 },
    { late_close, "--behaviour keep-alive --requests 6", 3, "closed", 3 },
    { close_idle, "--behaviour keep-alive --requests 5 --interval 30", 5, "raced", 0 },
    { idle_408, "--behaviour keep-alive --requests 3 --interval 60", 3, "surplus", 0 },
    { close_in_batch, "--behaviour pipelined --requests 8 --depth 4", 4, "after_close",
      4 },
    { die_in_batch, "--behaviour pipelined --requests 8 --depth 4", 4, "closed", 4 },
    { crumbs, "--behaviour keep-alive --requests 5", 5, NULL, 0 },
};

START_TEST(account)
{
    struct crowd w;
    char args[256];
    int requests = atoi(strstr(scenes[_i].args, "--requests ") + 11);

    snprintf(args, sizeof args, "%s --connections 1 --seconds 9", scenes[_i].args);
    crowd_run(&w, play(scenes[_i].scene), args);
    ck_count(&w, "requests", requests);
    ck_count(&w, "served", scenes[_i].served);
    ck_count(&w, "failed", requests - scenes[_i].served);
    if (scenes[_i].heading)
        ck_count(&w, scenes[_i].heading, scenes[_i].there);
}
END_TEST

/* Ended between two requests, with or without a word: no failure. The end of the last
 * connection may come too late to be seen. */
START_TEST(closed_while_idle)
{
    struct crowd w;

    crowd_run(&w, play(close_idle), "--behaviour keep-alive --requests 5 --interval 30");
    ck_count(&w, "served", 5);
    ck_assert_int_ge(count(&w, "closed_idle"), 4);
    crowd_run(&w, play(idle_408), "--behaviour keep-alive --requests 3 --interval 90");
    ck_count(&w, "served", 3);
    ck_assert_int_ge(count(&w, "closed_idle"), 2);
    ck_count(&w, "answered_408", count(&w, "closed_idle"));
}
END_TEST

/* The program changes while it serves: old and new answers are both right. */
static void change(int fd, int nth)
{
    if (hear(fd, 1))
        say(fd, nth < 3 ? HEAD("3", "") "old" : HEAD("4", "") "new!");
}

START_TEST(several_right_answers)
{
    struct crowd w;

    crowd_run(&w, play(change),
              "--behaviour short --requests 8 --expect old --expect new!");
    ck_count(&w, "served", 8);
    ck_assert_ptr_nonnull(strstr(w.report, "\"answers\":[3,5]"));
    crowd_run(&w, play(change), "--behaviour short --requests 8 --path /what");
    ck_count(&w, "served", 3); /* the first one seen is the right one */
    ck_count(&w, "wrong_body", 5);
}
END_TEST

/* ---- beginning and end ---- */

START_TEST(ends_at_eof)
{
    struct server s;
    struct crowd w;

    mode = &stage4;
    server_start(&s, "");
    crowd_start(&w, s.port, "--behaviour idle --connections 5 --until-eof --seconds 60");
    ck_assert_int_eq(write(w.in, "go on\n", 6), 6);
    close(w.in);
    w.in = -1;
    crowd_finish(&w);
    ck_count(&w, "served", 5);
    ck_assert_int_lt(count(&w, "seconds"), 10);
    server_stop(&s);
}
END_TEST

/* On SIGTERM nothing new is asked, and what is under way gets its answer. */
START_TEST(ends_on_signal)
{
    struct server s;
    struct crowd w;

    mode = &stage4;
    server_start(&s, "");
    crowd_start(
        &w, s.port,
        "--behaviour keep-alive --connections 5 --seconds 60 --path /sleep?ms=30");
    pause_ms(100);
    kill(w.pid, _i == 0 ? SIGTERM : SIGINT);
    crowd_finish(&w);
    ck_assert_int_gt(count(&w, "served"), 0);
    ck_count(&w, "failed", 0);
    ck_count(&w, "unfinished", 0);
    server_stop(&s);
}
END_TEST

/* The second signal does not wait. */
START_TEST(ends_at_once)
{
    struct crowd w;

    crowd_start(&w, play(hold), "--behaviour keep-alive --connections 1 --seconds 60");
    kill(w.pid, SIGTERM);
    pause_ms(50);
    kill(w.pid, SIGTERM);
    crowd_finish(&w);
    ck_count(&w, "requests", 1);
    ck_count(&w, "unfinished", 1);
    ck_assert_int_lt(count(&w, "seconds"), 4);
}
END_TEST

/* The account grows from line to line, up to what the report says. */
START_TEST(samples)
{
    long long at_ms = 0, served = 0;
    struct server s;
    struct crowd w;
    int n = 0;

    mode = &stage4;
    server_start(&s, "");
    crowd_start(&w, s.port, "-b keep-alive -n 5 --seconds 0.55 --sample 100");
    for (;; n++) {
        read_line(&w, w.report, sizeof w.report);
        if (strncmp(w.report, "sample {", 8) != 0)
            break;
        ck_assert_int_ge(count(&w, "monotonic_ms"), at_ms + (n > 0 ? 50 : 0));
        ck_assert_int_gt(count(&w, "served"), served);
        ck_count(&w, "failed", 0);
        ck_count(&w, "not_connected", 0);
        at_ms = count(&w, "monotonic_ms");
        served = count(&w, "served");
    }
    ck_assert_int_ge(n, 3);
    ck_assert_int_le(n, 6);
    ck_assert_int_ge(count(&w, "served"), served);
    crowd_end(&w);
    server_stop(&s);
}
END_TEST

START_TEST(nobody_listens)
{
    struct crowd w;

    crowd_run(&w, 1, "--behaviour probe --requests 3 --interval 10");
    ck_count(&w, "refused_at_connect", 3);
    ck_count(&w, "served", 0);
    ck_assert_int_eq(json_number(w.ready, "refused"), 1);
    crowd_run(&w, 1, "--behaviour silent --connections 3");
    ck_count(&w, "refused", 3);
}
END_TEST

static const struct {
    const char *args;
    const char *named; /* in what it says */
} mistakes[] = {
    { "--port 80 --behaviour silent --address 192.0.2.1", "loopback" },
    { "--port 80 --behaviour silent --address 0.0.0.0", "loopback" },
    { "--port 80 --behaviour silent --address ::", "loopback" },
    { "--port 80 --behaviour silent --address localhost", "literal" },
    { "--port 80 --behaviour polite", "drip, idle" },
    { "--port 80", "--behaviour" },
    { "--behaviour idle", "--port" },
    { "--port 0 --behaviour idle", "--port" },
    { "--port 80 --behaviour idle --seconds never", "--seconds" },
    { "--port 80 --behaviour idle --path index.html", "--path" },
    { "--port 80 --behaviour idle --connections -3", "--connections" },
    { "--port 80 --behaviour idle --colour", "--colour" },
    { "--port 80 --behaviour idle --rate", "--rate" },
    { "--port 80 --behaviour idle again", "'again'" },
};

START_TEST(usage)
{
    struct outcome o;
    char words[256];
    const char *argv[40];

    snprintf(words, sizeof words, "%s", mistakes[_i].args);
    split(words, argv, 40);
    program_run(&o, argv);
    ck_assert_int_eq(o.status, 2);
    ck_assert_str_eq(o.out, "");
    ck_assert_msg(strstr(o.err, mistakes[_i].named) != NULL, "it says: %s", o.err);
    ck_assert_ptr_eq(strchr(o.err, '\n'), o.err + strlen(o.err) - 1);
}
END_TEST

START_TEST(help)
{
    struct outcome o;
    const char *argv[] = { crowd_program(), "--help", NULL };

    program_run(&o, argv);
    ck_assert_int_eq(o.status, 0);
    ck_assert_ptr_nonnull(strstr(o.out, "--behaviour"));
    ck_assert_ptr_nonnull(strstr(o.out, "never-read"));
}
END_TEST

/* ---- the runner: the cases wait more than they work, so they run side by side ---- */

#define LENGTH(table) ((int)(sizeof(table) / sizeof((table)[0])))

static void add_holders(TCase *tc)
{
    tcase_add_test(tc, silent);
    tcase_add_test(tc, silent_refused);
    tcase_add_test(tc, full_queue);
    tcase_add_test(tc, half);
    tcase_add_test(tc, drip_too_slow);
    tcase_add_test(tc, drip_fast_enough);
    tcase_add_test(tc, idle);
    tcase_add_test(tc, slow_read);
    tcase_add_test(tc, never_read);
}

static void add_loops(TCase *tc)
{
    tcase_add_test(tc, reset);
    tcase_add_test(tc, many_sources);
    tcase_add_test(tc, probe);
    tcase_add_test(tc, probe_of_a_blocked_server);
    tcase_add_loop_test(tc, exactly, 0, LENGTH(loops));
    tcase_add_loop_test(tc, for_some_time, 0, 3);
    tcase_add_test(tc, announced_close);
    tcase_add_test(tc, late);
    tcase_add_test(tc, over_ipv6);
    tcase_add_test(tc, server_killed);
}

static void add_account(TCase *tc)
{
    tcase_add_loop_test(tc, account, 0, LENGTH(scenes));
    tcase_add_test(tc, closed_while_idle);
    tcase_add_test(tc, several_right_answers);
}

static void add_ends(TCase *tc)
{
    tcase_add_test(tc, ends_at_eof);
    tcase_add_loop_test(tc, ends_on_signal, 0, 2);
    tcase_add_test(tc, ends_at_once);
    tcase_add_test(tc, samples);
    tcase_add_test(tc, nobody_listens);
    tcase_add_loop_test(tc, usage, 0, LENGTH(mistakes));
    tcase_add_test(tc, help);
}

static const struct {
    const char *name;
    void (*add)(TCase *tc);
} cases[] = {
    { "holders", add_holders },
    { "loops", add_loops },
    { "account", add_account },
    { "ends", add_ends },
};

static _Noreturn void run_case(int i, int out)
{
    Suite *suite = suite_create("crowd");
    TCase *tc = tcase_create(cases[i].name);
    SRunner *runner = srunner_create(suite);
    int failed;

    dup2(out, STDOUT_FILENO);
    tcase_set_timeout(tc, scaled_ms(30));
    cases[i].add(tc);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    exit(failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

static void show(int file)
{
    char text[4096];
    ssize_t n;

    lseek(file, 0, SEEK_SET);
    while ((n = read(file, text, sizeof text)) > 0)
        fwrite(text, 1, (size_t)n, stdout);
    fflush(stdout);
}

int main(void)
{
    int result = EXIT_SUCCESS;
    pid_t pids[LENGTH(cases)];
    int outs[LENGTH(cases)];

    stage1 = *harness_mode("stage1");
    stage3 = *harness_mode("stage3-select");
    stage4 = *harness_mode("stage4-reuseport");
    stage4.args = "-w 1";
    stage4.workers = 1;
    for (int i = 0; i < LENGTH(cases); i++) {
        outs[i] = memfd_create(cases[i].name, MFD_CLOEXEC);
        pids[i] = fork();
        if (pids[i] == 0)
            run_case(i, outs[i]);
    }
    for (int i = 0; i < LENGTH(cases); i++) {
        int status = -1;

        if (pids[i] == -1 || waitpid(pids[i], &status, 0) == -1 || status != 0)
            result = EXIT_FAILURE;
        show(outs[i]);
    }
    return result;
}
