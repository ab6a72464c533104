/* test_coroutines.c - what is particular to coroutines: who is let in, who waits for whom,
 * what becomes of a handler whose client goes, and of one that goes too deep.
 * Does not: look into a coroutine; test_coroutine.c does. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/harness_control.h"

enum { CROWD = 50 };

static struct server s, upstream;
static struct client *crowd; /* 2 * CROWD of them */
static struct client a, b;
static struct response r;

static const struct mode upstream_mode = { "slow", "bench/slow_upstream", "", 0, "loop",
                                           INT_MAX };

static void upstream_start(void)
{
    const struct mode *stage = mode;

    mode = &upstream_mode;
    server_start(&upstream, "");
    mode = stage;
}

static void start_before_upstream(const char *args)
{
    char words[256];

    upstream_start();
    snprintf(words, sizeof words, "--upstream 127.0.0.1:%d %s", upstream.port, args);
    server_start(&s, words);
}

static long long upstream_count(const char *key)
{
    fetch(&upstream, "GET", "/counts", &r, 200);
    return json_number(r.body, key);
}

static long long count(const char *key)
{
    fetch(&s, "GET", "/stats", &r, 200);
    return json_number(r.body, key);
}

static void say(struct client *c, const char *target)
{
    client_say(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);
}

static void ask(struct client *c, const char *target)
{
    say(c, target);
    client_expect(c, &r, 200);
}

/* ---- stage 1's code ---- */

/* The function behind the anchor, without what changes nothing. */
static char *serve_of(const char *stage)
{
    static const char anchor[] = "/* [stage1.serve] */\n";
    const char *source = getenv("SOURCE_DIR");
    char path[PATH_MAX], text[16384];
    char *from, *end;
    FILE *file;

    snprintf(path, sizeof path, "%s/%s/main.c", source ? source : ".", stage);
    file = fopen(path, "re");
    ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    from = strstr(text, anchor);
    ck_assert_ptr_nonnull(from);
    end = strstr(from, "\n}\n");
    ck_assert_ptr_nonnull(end);
    end[3] = '\0';
    return strdup(from);
}

/* Byte for byte. */
START_TEST(serve_is_stage_1s)
{
    char *first = serve_of(harness_mode("stage1")->stage), *ours = serve_of(mode->stage);

    ck_assert_uint_gt(strlen(first), 200);
    ck_assert_str_eq(first, ours);
    free(first);
    free(ours);
}
END_TEST

/* ---- the client goes ---- */

/* 50 wait for the upstream and 50 in a handler that sleeps a minute. They reset; and all is
 * given up: the upstream's connections, and the coroutines. */
START_TEST(cancelled_by_a_reset)
{
    start_before_upstream("");
    for (int i = 0; i < 2 * CROWD; i++) {
        client_open(&crowd[i], &s);
        say(&crowd[i], i < CROWD ? "/upstream?ms=5000" : "/sleep?ms=60000");
    }
    eventually(upstream_count("waiting") == CROWD, PATIENCE_MS);
    for (int i = CROWD; i < 2 * CROWD; i++)
        client_settle(&crowd[i]);
    for (int i = 0; i < 2 * CROWD; i++)
        client_reset(&crowd[i]);
    eventually(upstream_count("waiting") == 0, 2000);
    ck_assert_int_eq(upstream_count("left"), CROWD);
    eventually(upstream_count("open") == 0, 1000); /* who counts is not counted */
    eventually(count("connections") <= 1, 1000);   /* here it is */
    server_stop(&s);
    server_stop(&upstream);
}
END_TEST

/* The same in the middle of an answer whose rest does not come, which is waited for on its way
 * out. */
START_TEST(cancelled_within_a_body)
{
    start_before_upstream("");
    for (int i = 0; i < CROWD; i++) {
        client_open(&crowd[i], &s);
        say(&crowd[i], "/upstream?n=1000&fault=stall");
    }
    for (int i = 0; i < CROWD; i++)
        eventually(recv(crowd[i].fd, crowd[i].in, 1, MSG_PEEK | MSG_DONTWAIT) == 1,
                   PATIENCE_MS);
    ck_assert_int_eq(upstream_count("open"), CROWD);
    for (int i = 0; i < CROWD; i++)
        client_reset(&crowd[i]);
    eventually(upstream_count("open") == 0, 2000);
    eventually(count("connections") <= 1, 1000);
    server_stop(&s);
    server_stop(&upstream);
}
END_TEST

/* One that only shuts its side waits for its answer still. */
START_TEST(not_cancelled_by_a_half_close)
{
    start_before_upstream("");
    client_open(&a, &s);
    client_open(&b, &s);
    say(&a, "/upstream?ms=300");
    say(&b, "/sleep?ms=300");
    shutdown(a.fd, SHUT_WR);
    shutdown(b.fd, SHUT_WR);
    client_expect(&a, &r, 200);
    client_expect(&b, &r, 200);
    client_expect_end(&a, PATIENCE_MS);
    client_expect_end(&b, PATIENCE_MS);
    client_close(&a);
    client_close(&b);
    server_stop(&s);
    server_stop(&upstream);
}
END_TEST

/* ---- who is let in ---- */

static void expect_status(const char *text)
{
    struct outcome o;

    command(&o, "status --port %d", s.port);
    ck_assert_int_eq(o.status, 0);
    ck_assert_msg(strstr(o.out, text) != NULL, "no '%s' in %s", text, o.out);
}

static void check_limit(const char *args)
{
    server_start(&s, args);
    for (int i = 0; i < 2; i++) {
        client_open(&crowd[i], &s);
        ask(&crowd[i], "/");
    }
    client_open(&a, &s);
    say(&a, "/");
    client_expect_silence(&a, 200);
    expect_status("full");
    client_close(&crowd[0]);
    client_expect(&a, &r, 200);
    client_close(&crowd[1]);
    client_close(&a);
    eventually(count("connections") == 1, PATIENCE_MS);
    server_stop(&s);
}

/* Two coroutines: the third client waits in the kernel's queue until one ends. */
START_TEST(coroutines_limit)
{
    check_limit("-w 1 --coroutines 2");
}
END_TEST

START_TEST(connections_limit)
{
    check_limit("-w 1 --max-connections 2");
}
END_TEST

/* While nobody is let in, the server stops as ever. */
START_TEST(stops_while_full)
{
    server_start(&s, "-w 1 --coroutines 1");
    client_open(&a, &s);
    ask(&a, "/");
    client_open(&b, &s);
    client_expect_silence(&b, 100);
    server_stop(&s);
    client_close(&a);
    client_close(&b);
}
END_TEST

/* ---- who waits for whom ---- */

/* Nobody takes the turn from a handler that computes. That is the model's limit. */
START_TEST(one_that_computes_holds_all)
{
    server_start(&s, "-w 1");
    client_open(&a, &s);
    client_open(&b, &s);
    ask(&b, "/");
    say(&a, "/burn?ms=400");
    client_settle(&a);
    say(&b, "/");
    client_expect_silence(&b, 100);
    client_expect(&b, &r, 200);
    client_expect(&a, &r, 200);
    client_close(&a);
    client_close(&b);
    server_stop(&s);
}
END_TEST

/* A hundred that sleep in their handlers hold nobody. */
START_TEST(those_that_wait_hold_nobody)
{
    server_start(&s, "-w 1");
    for (int i = 0; i < 2 * CROWD; i++) {
        client_open(&crowd[i], &s);
        say(&crowd[i], "/sleep?ms=500");
    }
    for (int i = 0; i < 2 * CROWD; i++)
        client_settle(&crowd[i]);
    for (int i = 0; i < 5; i++)
        fetch(&s, "GET", "/", &r, 200);
    for (int i = 0; i < 2 * CROWD; i++)
        ck_assert_int_eq(recv(crowd[i].fd, crowd[i].in, 1, MSG_PEEK | MSG_DONTWAIT), -1);
    expect_status("  100   0    0     0 ready"); /* wait, t/o, rest, exit */
    for (int i = 0; i < 2 * CROWD; i++) {
        client_expect(&crowd[i], &r, 200);
        client_close(&crowd[i]);
    }
    server_stop(&s);
}
END_TEST

/* Requests without end, and whoever sends them reads the answers as fast. */
static _Noreturn void flood(const struct server *server)
{
    static const char get[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    static char requests[1000 * (sizeof get - 1)], answers[1 << 18];
    size_t at = 0;
    int fd;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (size_t i = 0; i < 1000; i++)
        memcpy(requests + i * (sizeof get - 1), get, sizeof get - 1);
    fd = connect_to(server);
    for (;;) {
        ssize_t n =
            send(fd, requests + at, sizeof requests - at, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0)
            at = (at + (size_t)n) % sizeof requests;
        while (recv(fd, answers, sizeof answers, MSG_DONTWAIT) > 0)
            continue;
    }
}

/* Four of them beside one that asks now and then. */
START_TEST(endless_pipelines_share)
{
    enum { FLOODS = 4 };
    pid_t floods[FLOODS];
    int64_t slowest = 0;

    server_start(&s, "-w 1");
    for (int i = 0; i < FLOODS; i++) {
        floods[i] = fork();
        if (floods[i] == 0)
            flood(&s);
    }
    eventually(count("requests") > 10000, PATIENCE_MS);
    for (int i = 0; i < 20; i++) {
        int64_t began = clock_ms(), took;

        fetch(&s, "GET", "/", &r, 200);
        took = clock_ms() - began;
        slowest = took > slowest ? took : slowest;
    }
    for (int i = 0; i < FLOODS; i++) {
        kill(floods[i], SIGKILL);
        waitpid(floods[i], NULL, 0);
    }
    ck_assert_msg(slowest < scaled_ms(1000), "the slowest waited %d ms", (int)slowest);
    server_stop(&s);
}
END_TEST

/* A bit more of a body of letters; seen: bytes of it so far. */
static void read_some(struct client *c, size_t *seen)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz";
    struct pollfd p = { c->fd, POLLIN, 0 };
    char bytes[30000];
    ssize_t n;

    ck_assert_int_eq(poll(&p, 1, scaled_ms(PATIENCE_MS)), 1);
    n = recv(c->fd, bytes, sizeof bytes, 0);
    ck_assert_int_gt(n, 0);
    for (ssize_t at = 0; at < n; at++, ++*seen)
        if (bytes[at] != alphabet[*seen % 26])
            ck_abort_msg("byte %zu is '%c'", *seen, bytes[at]);
}

static void read_head(struct client *c)
{
    struct pollfd p = { c->fd, POLLIN, 0 };
    char last[4] = "";

    while (memcmp(last, "\r\n\r\n", 4) != 0) {
        memmove(last, last + 1, 3);
        ck_assert_int_eq(poll(&p, 1, scaled_ms(PATIENCE_MS)), 1);
        ck_assert_int_eq(recv(c->fd, last + 3, 1, 0), 1);
    }
}

/* They read by turns, one faster than the other, so each is waited for in the middle of a
 * piece, and that piece stood where the others' are made. */
START_TEST(slow_readers_get_their_own)
{
    enum { READERS = 6, BYTES = 12000000 }; /* far more than a socket holds */
    size_t seen[READERS] = { 0 };

    server_start(&s, "-w 1");
    for (int i = 0; i < READERS; i++) {
        crowd[i] = (struct client){ .fd = connect_small(&s) };
        say(&crowd[i], "/bytes?n=12000000");
    }
    for (int i = 0; i < READERS; i++)
        read_head(&crowd[i]);
    while (seen[0] < BYTES) {
        for (int i = 0; i < READERS; i++)
            for (int times = 0; times <= i && seen[i] < BYTES; times++)
                read_some(&crowd[i], &seen[i]);
    }
    for (int i = 0; i < READERS; i++)
        client_close(&crowd[i]);
    server_stop(&s);
}
END_TEST

/* ---- a stopping server ---- */

/* Requests that wait upstream are answered by the old program while the new one serves. */
START_TEST(reload_with_requests_upstream)
{
    char words[64], target[32];

    upstream_start();
    program_copy(); /* what is started from now on is the copy */
    snprintf(words, sizeof words, "--upstream 127.0.0.1:%d --stop-timeout 30",
             upstream.port);
    server_start(&s, words);
    snprintf(target, sizeof target, "/upstream?ms=%d", scaled_ms(1500));
    for (int i = 0; i < CROWD; i++) {
        client_open(&crowd[i], &s);
        say(&crowd[i], target);
    }
    eventually(upstream_count("waiting") == CROWD, PATIENCE_MS);
    program_greet("hello again!");
    expect_reload(&s);
    fetch(&s, "GET", "/", &r, 200);
    ck_assert_str_eq(r.body, "hello again!");
    for (int i = 0; i < CROWD; i++) {
        client_expect(&crowd[i], &r, 200);
        ck_assert(!r.keep_alive);
        client_close(&crowd[i]);
    }
    ck_assert_int_eq(upstream_count("requests"), CROWD);
    server_stop(&s);
    server_stop(&upstream);
}
END_TEST

/* ---- in handlers that are not to be served to anybody: unsafe.c ---- */

/* The stage with them. */
static void unsafe_start(const char *args)
{
    static struct mode unsafe;
    const struct mode *stage = mode;

    unsafe = *mode;
    unsafe.stage = "tests/stage7_unsafe";
    mode = &unsafe;
    server_start(&s, args);
    mode = stage;
}

/* It has complained, as it should. */
static void unsafe_end(void)
{
    kill(s.pid, SIGTERM);
    ck_assert_int_ne(server_wait(&s, STOP_TIMEOUT_MS + 1500), -1);
    server_gone(&s);
}

static bool log_has(const char *text)
{
    return strstr(server_log(&s), text) != NULL;
}

static pid_t worker_of(struct client *c)
{
    ask(c, "/whoami");
    return (pid_t)json_number(r.body, "pid");
}

/* Two clients with two workers. */
static void open_two(void)
{
    client_open(&a, &s);
    client_open(&b, &s);
    while (worker_of(&a) == worker_of(&b)) {
        client_close(&b);
        client_open(&b, &s);
    }
}

/* It is told by name, and only its own worker dies of it. */
START_TEST(overflow)
{
    unsafe_start("-w 2");
    open_two();
    say(&a, "/upstream?do=deep&n=1000000");
    client_expect_close(&a, PATIENCE_MS);
    eventually(log_has("has overflowed its stack of 65536 bytes; give it more with "
                       "--stack\n"),
               PATIENCE_MS);
    ck_assert(log_has(": the coroutine of client "));
    ck_assert(worker_of(&b) > 0);
    eventually(count("restarts") == 1, PATIENCE_MS);
    for (int i = 0; i < 20; i++)
        fetch(&s, "GET", "/", &r, 200);
    client_close(&a);
    client_close(&b);
    unsafe_end();
}
END_TEST

/* The same handler, and room for it. */
START_TEST(stack_option)
{
    unsafe_start("-w 1 --stack 1000000");
    fetch(&s, "GET", "/upstream?do=deep&n=300000", &r, 200);
    eventually((fetch(&s, "GET", "/", &r, 200), count("requests") > 20), PATIENCE_MS);
    unsafe_end();
}
END_TEST

/* How deep it went is seen when its connection ends. */
START_TEST(deepest_is_told)
{
    struct outcome o;
    long long deepest = 0;

    server_start(&s, "-w 1");
    for (int i = 0; i < 40; i++)
        fetch(&s, "GET", "/stats", &r, 200);
    eventually((command(&o, "status --port %d", s.port),
                strstr(o.out, "deepest stack ") != NULL),
               PATIENCE_MS);
    deepest = atoll(strstr(o.out, "deepest stack ") + strlen("deepest stack "));
    ck_assert_int_ge(deepest, 4096);
    ck_assert_int_le(deepest, 65536);
    server_stop(&s);
}
END_TEST

/* A file, and a name server: libc waits by itself there, and so does everybody. */
START_TEST(a_file_stops_all)
{
    int fd = -1;

    ck_assert_int_eq(mkfifo(in_folder("fifo"), 0600), 0);
    setenv("UNSAFE_FIFO", in_folder("fifo"), 1);
    unsafe_start("-w 1");
    client_open(&a, &s);
    client_open(&b, &s);
    say(&a, "/upstream?do=file");
    eventually((fd = open(in_folder("fifo"), O_WRONLY | O_NONBLOCK | O_CLOEXEC)) != -1,
               PATIENCE_MS);
    say(&b, "/");
    client_expect_silence(&b, 200);
    ck_assert_int_eq(write(fd, "x", 1), 1);
    close(fd);
    client_expect(&a, &r, 200);
    client_expect(&b, &r, 200);
    client_close(&a);
    client_close(&b);
    unsafe_end();
}
END_TEST

START_TEST(a_name_stops_all)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int silent = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct pollfd asked = { silent, POLLIN, 0 };
    socklen_t len = sizeof address;
    char target[64];

    ck_assert_int_eq(bind(silent, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(getsockname(silent, (struct sockaddr *)&address, &len), 0);
    unsafe_start("-w 1");
    client_open(&a, &s);
    client_open(&b, &s);
    snprintf(target, sizeof target, "/upstream?do=name&n=%d", ntohs(address.sin_port));
    say(&a, target);
    ck_assert_int_eq(poll(&asked, 1, scaled_ms(PATIENCE_MS)), 1); /* never answered */
    say(&b, "/");
    client_expect_silence(&b, 200);
    client_expect(&b, &r, 200); /* when getaddrinfo(3) has given up */
    client_expect(&a, &r, 200);
    client_close(&a);
    client_close(&b);
    unsafe_end();
    close(silent);
}
END_TEST

/* ---- who watches memory, sees it in a coroutine, too ---- */

static void check_found(const char *target, const char *found)
{
    setenv("ASAN_OPTIONS", "detect_stack_use_after_return=0", 1);
    unsafe_start("-w 1");
    client_open(&a, &s);
    say(&a, target);
    eventually(log_has(found), PATIENCE_MS);
    client_close(&a);
    unsafe_end();
}

#ifdef __SANITIZE_ADDRESS__
START_TEST(sanitizer_sees_an_overflow)
{
    check_found("/upstream?do=beyond&n=17", "stack-buffer-overflow");
}
END_TEST

START_TEST(sanitizer_sees_a_scope)
{
    check_found("/upstream?do=scope&n=1", "stack-use-after-scope");
}
END_TEST
#endif

START_TEST(valgrind_sees_what_was_not_set)
{
    if (harness_wrapped())
        check_found("/upstream?do=unset&n=1", "ninitialised value");
    else
        skip("not under valgrind");
}
END_TEST

static void set_up(void)
{
    crowd = calloc((size_t)2 * CROWD, sizeof *crowd);
    ck_assert_ptr_nonnull(crowd);
}

static void tear_down(void)
{
    free(crowd);
}

static void add_all(TCase *tc)
{
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, serve_is_stage_1s);
    tcase_add_test(tc, cancelled_by_a_reset);
    tcase_add_test(tc, cancelled_within_a_body);
    tcase_add_test(tc, not_cancelled_by_a_half_close);
    tcase_add_test(tc, coroutines_limit);
    tcase_add_test(tc, connections_limit);
    tcase_add_test(tc, stops_while_full);
    tcase_add_test(tc, one_that_computes_holds_all);
    tcase_add_test(tc, those_that_wait_hold_nobody);
    tcase_add_test(tc, endless_pipelines_share);
    tcase_add_test(tc, slow_readers_get_their_own);
    tcase_add_test(tc, reload_with_requests_upstream);
    tcase_add_test(tc, overflow);
    tcase_add_test(tc, stack_option);
    tcase_add_test(tc, deepest_is_told);
    tcase_add_test(tc, a_file_stops_all);
    tcase_add_test(tc, a_name_stops_all);
#ifdef __SANITIZE_ADDRESS__
    tcase_add_test(tc, sanitizer_sees_an_overflow);
    tcase_add_test(tc, sanitizer_sees_a_scope);
#endif
    tcase_add_test(tc, valgrind_sees_what_was_not_set);
}

int main(void)
{
    static const struct control_case cases[] = { { "stage7-own", add_all },
                                                 { "stage7-shared", add_all } };

    return control_run("coroutines", cases, sizeof cases / sizeof *cases, 30);
}
