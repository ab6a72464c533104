/* test_clients.c - curl, ab and wrk against every stage: clients that others wrote.
 * Does not: measure; the figures of ab and wrk are bench/'s. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/harness.h"

static struct server shared;
static struct outcome o;
static char url[128];

static void start_shared(void)
{
    server_start(&shared, "");
}

static void stop_shared(void)
{
    const char *problem = server_end(&shared);

    if (problem)
        harness_complain(problem);
}

/* Run a client to its end; it must succeed. words: split at spaces; URL becomes that of
 * `target`. */
static void run_client(const char *package, const char *words, const char *target)
{
    static char room[1024];
    const char *argv[32];
    int argc = 0;

    snprintf(room, sizeof room, "%s", words);
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", shared.port, target);
    for (char *word = strtok(room, " "); word; word = strtok(NULL, " ")) {
        ck_assert_int_lt(argc, 31);
        argv[argc++] = strcmp(word, "URL") == 0 ? url : word;
    }
    argv[argc] = NULL;
    program_run(&o, argv);
    ck_assert_msg(o.status != 127, "%s is missing: install the Debian package %s",
                  argv[0], package);
    ck_assert_msg(o.status == 0, "%s: status %d: %s%s", words, o.status, o.err, o.out);
}

static void curl(const char *words, const char *target)
{
    char line[512];

    snprintf(line, sizeof line, "curl -sS --fail --max-time %d %s URL",
             scaled_ms(10000) / 1000, words);
    run_client("curl", line, target);
}

static void check_says(const char *text)
{
    ck_assert_msg(strstr(o.out, text) != NULL, "\"%s\" not in: %.2000s", text, o.out);
}

/* ---- curl ---- */

START_TEST(curl_get)
{
    curl("-i", "/");
    check_says("HTTP/1.1 200 OK\r\n");
    check_says("hello world!");
    curl("--http1.0 -i", "/");
    check_says("Connection: close\r\n");
    check_says("hello world!");
    curl("-I", "/bytes?n=1234");
    check_says("Content-Length: 1234\r\n");
    ck_assert(strstr(o.out, "abc") == NULL);
    curl("--path-as-is --get --data-urlencode ms=1", "/sleep");
    check_says("1 ms");
}
END_TEST

START_TEST(curl_uploads)
{
    curl("-i -d name=value", "/echo");
    check_says("application/x-www-form-urlencoded");
    check_says("name=value");
    curl("-X PUT -d name=value -H Transfer-Encoding:chunked", "/echo");
    ck_assert_str_eq(o.out, "name=value");
    curl("--http1.0 -d name=value", "/echo");
    ck_assert_str_eq(o.out, "name=value");
}
END_TEST

/* A file of 900 KiB goes up, after "Expect: 100-continue", and comes back. */
static void check_upload(const char *words)
{
    enum { LARGE = 900 * 1024 };
    char path[] = "/tmp/upload-XXXXXX", line[256];
    int fd = mkstemp(path);
    char *text = malloc(LARGE);

    ck_assert_int_ge(fd, 0);
    memset(text, 'x', LARGE);
    ck_assert_int_eq(write(fd, text, LARGE), LARGE);
    snprintf(line, sizeof line, "%s --data-binary @%s -o %s.back -v -w %%{size_download}",
             words, path, path);
    curl(line, "/echo");
    ck_assert_str_eq(o.out, "921600");
    unlink(path);
    strcpy(line, path);
    strcat(line, ".back");
    unlink(line);
    close(fd);
    free(text);
}

START_TEST(curl_uploads_much)
{
    check_upload("-H Expect:100-continue --expect100-timeout 5");
    ck_assert_msg(strstr(o.err, "HTTP/1.1 100 Continue"), "%.2000s", o.err);
    check_upload("-H Expect: -H Transfer-Encoding:chunked");
    check_upload("--http1.0");
}
END_TEST

START_TEST(curl_keeps_the_connection)
{
    /* Two URLs, one connection: the second answer needed no other. */
    curl("-o /dev/null -w <%{num_connects}> URL", "/whoami");
    check_says("<1>");
    check_says("\"requests\":2");
    check_says("<0>");
}
END_TEST

/* ---- ab ---- */

static const struct {
    const char *words, *target;
    int requests;
    bool keep_alive;
} benches[] = {
    { "ab -q -n 200 -c 4 URL", "/", 200, false },
    { "ab -q -n 200 -k -c %d URL", "/", 200, true },
    { "ab -q -n 50 -k -c %d URL", "/bytes?n=100000", 50, true },
};

/* A keep-alive client holds a process of stages 1 and 2 until it leaves: no more clients than
 * these serve at once. */
static int keep_alive_clients(int most)
{
    return mode->at_once < most ? mode->at_once : most;
}

/* The number in ab's or wrk's line "label ... N". */
static long figure(const char *label)
{
    const char *at = strstr(o.out, label);

    ck_assert_msg(at != NULL, "no \"%s\" in: %s", label, o.out);
    return strtol(at + strlen(label), NULL, 10);
}

START_TEST(ab_has_no_failures)
{
    char line[128];

    snprintf(line, sizeof line, benches[_i].words, keep_alive_clients(4));
    run_client("apache2-utils", line, benches[_i].target);
    ck_assert_int_eq(figure("Failed requests:"), 0);
    ck_assert_int_eq(figure("Complete requests:"), benches[_i].requests);
    ck_assert_msg(strstr(o.out, "Non-2xx") == NULL, "%s", o.out);
    ck_assert_msg(strstr(o.out, "Write errors") == NULL, "%s", o.out);
    if (benches[_i].keep_alive)
        ck_assert_int_eq(figure("Keep-Alive requests:"), benches[_i].requests);
}
END_TEST

/* ---- wrk ---- */

START_TEST(wrk_has_no_errors)
{
    char line[128];

    if (harness_wrapped()) {
        skip("wrk against valgrind's servers takes too long");
        return;
    }
    snprintf(line, sizeof line, "wrk -t1 -c%d -d1s --timeout 10s URL",
             keep_alive_clients(8));
    run_client("wrk", line, "/");
    ck_assert_msg(strstr(o.out, "Socket errors") == NULL, "%s", o.out);
    ck_assert_msg(strstr(o.out, "Non-2xx") == NULL, "%s", o.out);
    ck_assert_msg(strstr(o.out, "requests in") != NULL, "%s", o.out);
    ck_assert_msg(strstr(o.out, "  0 requests in") == NULL, "%s", o.out);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_unchecked_fixture(tc, start_shared, stop_shared);
    tcase_add_test(tc, curl_get);
    tcase_add_test(tc, curl_uploads);
    tcase_add_test(tc, curl_uploads_much);
    tcase_add_test(tc, curl_keeps_the_connection);
    tcase_add_loop_test(tc, ab_has_no_failures, 0, sizeof benches / sizeof benches[0]);
    tcase_add_test(tc, wrk_has_no_errors);
}

int main(void)
{
    return harness_run("clients", add_tests, 20);
}
