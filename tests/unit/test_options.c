/* test_options.c - the defaults, every option, and what is said about wrong ones.
 * Does not: open anything; each command line is read by a child of its own. */
#include "base/options.h"

#include <check.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

enum { ALL = OPTIONS_WORKERS | OPTIONS_MULTIPLEXER | OPTIONS_EPOLL, WORDS = 8 };

static char name[] = "server";

struct outcome {
    int status; /* of exit(3); -1: options_parse() returned */
    struct options opt;
    enum log_level level;
    char address[64];
    char out[16384], err[1024];
};

static void slurp(int fd, char *text, size_t size)
{
    size_t len = 0;
    ssize_t n;

    while (len < size - 1 && (n = read(fd, text + len, size - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    close(fd);
}

/* Read a command line in a child, so that it may exit. */
static struct outcome *parse(unsigned features, const char *const words[])
{
    static struct outcome *o;
    char *argv[WORDS + 2] = { name };
    int argc = 1, out[2], err[2], status;

    if (o == NULL) {
        o = mmap(NULL, sizeof(*o), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                 0);
        ck_assert_ptr_ne(o, MAP_FAILED);
    }
    *o = (struct outcome){ .status = -1 };
    for (; words[argc - 1]; argc++)
        argv[argc] = strdup(words[argc - 1]);
    ck_assert_int_eq(pipe(out), 0);
    ck_assert_int_eq(pipe(err), 0);
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ne(pid, -1);
    if (pid == 0) {
        dup2(out[1], STDOUT_FILENO);
        dup2(err[1], STDERR_FILENO);
        program_invocation_short_name = name;
        o->opt = options_parse(argc, argv, features);
        o->level = log_level;
        snprintf(o->address, sizeof(o->address), "%s", o->opt.address);
        _exit(77);
    }
    close(out[1]);
    close(err[1]);
    slurp(out[0], o->out, sizeof(o->out));
    slurp(err[0], o->err, sizeof(o->err));
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status), "%s %s: status %x", words[0], words[1],
                  (unsigned)status);
    if (WEXITSTATUS(status) != 77)
        o->status = WEXITSTATUS(status);
    for (int i = 1; i < argc; i++)
        free(argv[i]);
    return o;
}

START_TEST(defaults)
{
    struct outcome *o = parse(ALL, (const char *const[]){ NULL });
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    ck_assert_msg(o->status == -1, "%s", o->err);
    ck_assert_str_eq(o->address, "127.0.0.1");
    ck_assert_int_eq(o->opt.port, 8080);
    ck_assert_int_eq(o->opt.workers, cpus > MAX_WORKERS ? MAX_WORKERS : (int)cpus);
    ck_assert_int_eq(o->opt.backlog, 4096);
    ck_assert_int_eq(o->opt.max_connections, INT_MAX);
    ck_assert_int_eq(o->opt.keepalive_ms, 60000);
    ck_assert_int_eq(o->opt.request_timeout_ms, 10000);
    ck_assert_uint_eq(o->opt.max_body, 1048576);
    ck_assert_int_eq(o->opt.multiplexer, MULTIPLEXER_SELECT);
    ck_assert_int_eq(o->opt.accept, ACCEPT_REUSEPORT);
    ck_assert_int_eq(o->opt.trigger, TRIGGER_LEVEL);
    ck_assert_int_eq(o->level, LOG_INFO);
    ck_assert_str_eq(o->out, "");
    ck_assert_str_eq(o->err, "");
}
END_TEST

START_TEST(one_worker_where_there_are_none)
{
    struct outcome *o = parse(0, (const char *const[]){ NULL });

    ck_assert_int_eq(o->opt.workers, 1);
}
END_TEST

#define FIELD(name) offsetof(struct options, name), sizeof(((struct options *)NULL)->name)

static const struct accepted {
    const char *words[WORDS];
    size_t offset, size;
    long value;
} accepted[] = {
    { { "-p", "80" }, FIELD(port), 80 },
    { { "-p0" }, FIELD(port), 0 },
    { { "--port", "65535" }, FIELD(port), 65535 },
    { { "--port=1" }, FIELD(port), 1 },
    { { "-w", "1" }, FIELD(workers), 1 },
    { { "--workers=64" }, FIELD(workers), 64 },
    { { "-b", "1" }, FIELD(backlog), 1 },
    { { "--backlog", "65535" }, FIELD(backlog), 65535 },
    { { "-c", "1" }, FIELD(max_connections), 1 },
    { { "--max-connections=100000" }, FIELD(max_connections), 100000 },
    { { "-k", "0" }, FIELD(keepalive_ms), 0 },
    { { "--keepalive=5" }, FIELD(keepalive_ms), 5000 },
    { { "--keepalive", "86400" }, FIELD(keepalive_ms), 86400000 },
    { { "-t", "1" }, FIELD(request_timeout_ms), 1000 },
    { { "--request-timeout", "30" }, FIELD(request_timeout_ms), 30000 },
    { { "--max-body=0" }, FIELD(max_body), 0 },
    { { "--max-body", "123456" }, FIELD(max_body), 123456 },
    { { "--multiplexer=poll" }, FIELD(multiplexer), MULTIPLEXER_POLL },
    { { "--multiplexer", "select" }, FIELD(multiplexer), MULTIPLEXER_SELECT },
    { { "--accept=shared" }, FIELD(accept), ACCEPT_SHARED },
    { { "--accept=exclusive" }, FIELD(accept), ACCEPT_EXCLUSIVE },
    { { "--accept=reuseport" }, FIELD(accept), ACCEPT_REUSEPORT },
    { { "--trigger=edge" }, FIELD(trigger), TRIGGER_EDGE },
    { { "--trigger=level" }, FIELD(trigger), TRIGGER_LEVEL },
    { { "-p", "1", "-p", "2" }, FIELD(port), 2 },
    { {
          "-v",
          "-p",
          "3",
          "-w",
          "2",
          "--",
      },
      FIELD(port),
      3 },
};

START_TEST(accepted_option)
{
    const struct accepted *a = &accepted[_i];
    struct outcome *o = parse(ALL, a->words);
    long value = 0;

    ck_assert_msg(o->status == -1, "%s: %s", a->words[0], o->err);
    memcpy(&value, (const char *)&o->opt + a->offset,
           a->size); /* little-endian, as amd64 */
    if (a->size == sizeof(int)) {
        int i;

        memcpy(&i, (const char *)&o->opt + a->offset, sizeof(i));
        value = i;
    }
    ck_assert_msg(value == a->value, "%s %s: expected %ld, got %ld", a->words[0],
                  a->words[1] ? a->words[1] : "", a->value, value);
    ck_assert_str_eq(o->err, "");
}
END_TEST

START_TEST(address)
{
    static const char *const addresses[] = { "0.0.0.0", "::1", "::", "192.0.2.7" };

    for (int i = 0; i < 4; i++) {
        struct outcome *o = parse(0, (const char *const[]){ "-a", addresses[i], NULL });

        ck_assert_msg(o->status == -1, "%s: %s", addresses[i], o->err);
        ck_assert_str_eq(o->address, addresses[i]);
    }
}
END_TEST

START_TEST(levels)
{
    ck_assert_int_eq(parse(0, (const char *const[]){ "-v", NULL })->level, LOG_DEBUG);
    ck_assert_int_eq(parse(0, (const char *const[]){ "-q", NULL })->level, LOG_ERROR);
    ck_assert_int_eq(parse(0, (const char *const[]){ "--verbose", NULL })->level,
                     LOG_DEBUG);
    ck_assert_int_eq(parse(0, (const char *const[]){ "--quiet", NULL })->level,
                     LOG_ERROR);
}
END_TEST

/* Exit status 2, and one line that names the cause. */
static const struct refused {
    const char *words[WORDS];
    const char *named; /* in the line */
    unsigned features;
} refused[] = {
    { { "-p", "65536" }, "65536", ALL },
    { { "-p", "-1" }, "-1", ALL },
    { { "-p", "http" }, "http", ALL },
    { { "-p", "80x" }, "80x", ALL },
    { { "-p", "" }, "''", ALL },
    { { "-p", " 80" }, " 80", ALL },
    { { "-p", "\t80" }, "\t80", ALL },
    { { "-p", "80 " }, "80 ", ALL },
    { { "-p", "0x50" }, "0x50", ALL },
    { { "-p", "99999999999999999999" }, "99999999999999999999", ALL },
    { { "-w", "0" }, "'0'", ALL },
    { { "-w", "65" }, "65", ALL },
    { { "-w", "two" }, "two", ALL },
    { { "-b", "0" }, "'0'", ALL },
    { { "-b", "4294967297" }, "4294967297", ALL },
    { { "-c", "0" }, "'0'", ALL },
    { { "-k", "-1" }, "-1", ALL },
    { { "-k", "1.5" }, "1.5", ALL },
    { { "-k", "86401" }, "86401", ALL },
    { { "-t", "0" }, "'0'", ALL },
    { { "-t", "86401" }, "86401", ALL },
    { { "--max-body=-1" }, "-1", ALL },
    { { "--max-body=1G" }, "1G", ALL },
    { { "--max-body=9999999999" }, "9999999999", ALL },
    { { "-a", "localhost" }, "localhost", ALL },
    { { "--upstream=localhost:80" }, "localhost:80", ALL },
    { { "--upstream=127.0.0.1" }, "'127.0.0.1'", ALL },
    { { "--upstream=127.0.0.1:" }, "ADDRESS:PORT", ALL },
    { { "--upstream=127.0.0.1:0" }, ":0'", ALL },
    { { "--upstream=127.0.0.1:65536" }, "65536", ALL },
    { { "--upstream=127.0.0.1:+80" }, "+80", ALL },
    { { "--upstream=127.0.0.1:80 " }, "80 '", ALL },
    { { "--upstream=:80" }, "':80'", ALL },
    { { "--upstream=::1:80" }, "[::1]:9000", ALL },
    { { "--upstream=[::1]" }, "'[::1]'", ALL },
    { { "--upstream=[::1:80" }, "'[::1:80'", ALL },
    { { "--upstream=[127.0.0.1]:80" }, "[127.0.0.1]:80", ALL },
    { { "--upstream=" }, "''", ALL },
    { { "-a", "" }, "''", ALL },
    { { "-a", "256.0.0.1" }, "256.0.0.1", ALL },
    { { "--multiplexer=epoll" }, "epoll", ALL },
    { { "--accept=all" }, "all", ALL },
    { { "--trigger=" }, "''", ALL },
    { { "--nonsense" }, "--nonsense", ALL },
    { { "-Z" }, "-Z", ALL },
    { { "-p" }, "-p", ALL },
    { { "--port" }, "--port", ALL },
    { { "--verbose=1" }, "--verbose=1", ALL },
    { { "8080" }, "8080", ALL },
    { { "-v", "extra" }, "extra", ALL },
    { { "-w", "2" }, "-w", 0 },
    { { "--workers=2" }, "--workers", 0 },
    { { "--multiplexer=poll" }, "--multiplexer", OPTIONS_WORKERS },
    { { "--accept=shared" }, "--accept", OPTIONS_MULTIPLEXER },
    { { "--trigger=edge" }, "--trigger", OPTIONS_WORKERS | OPTIONS_MULTIPLEXER },
};

START_TEST(refused_option)
{
    const struct refused *r = &refused[_i];
    struct outcome *o = parse(r->features, r->words);
    char *end = strchr(o->err, '\n');

    ck_assert_msg(o->status == EXIT_USAGE, "%s %s: expected status 2, got %d, %s",
                  r->words[0], r->words[1] ? r->words[1] : "", o->status, o->err);
    ck_assert_msg(strstr(o->err, r->named) != NULL, "%s: %s is not named: %s",
                  r->words[0], r->named, o->err);
    ck_assert_msg(strncmp(o->err, "server: ", 8) == 0, "%s", o->err);
    ck_assert_msg(end != NULL && end[1] == '\0', "not one line: %s", o->err);
    ck_assert_str_eq(o->out, "");
}
END_TEST

START_TEST(help)
{
    static const char *const all[] = { "--address",   "--port",
                                       "--backlog",   "--max-connections",
                                       "--keepalive", "--request-timeout",
                                       "--max-body",  "--verbose",
                                       "--upstream",  "--reply-timeout",
                                       "--quiet",     "-a",
                                       "-p" };
    static const struct {
        const char *option;
        unsigned feature;
    } some[] = {
        { "--workers", OPTIONS_WORKERS },
        { "--multiplexer", OPTIONS_MULTIPLEXER },
        { "--accept", OPTIONS_EPOLL },
        { "--trigger", OPTIONS_EPOLL },
    };

    for (unsigned features = 0; features <= ALL; features++) {
        struct outcome *o = parse(features, (const char *const[]){ "--help", NULL });

        ck_assert_int_eq(o->status, 0);
        ck_assert_str_eq(o->err, "");
        for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
            ck_assert_msg(strstr(o->out, all[i]) != NULL, "no %s in %s", all[i], o->out);
        for (size_t i = 0; i < sizeof(some) / sizeof(*some); i++)
            ck_assert_msg((strstr(o->out, some[i].option) != NULL) ==
                              ((features & some[i].feature) != 0),
                          "features %u and %s: %s", features, some[i].option, o->out);
    }
}
END_TEST

START_TEST(version)
{
    struct outcome *o = parse(ALL, (const char *const[]){ "--version", NULL });

    ck_assert_int_eq(o->status, 0);
    ck_assert_str_eq(o->err, "");
    ck_assert_msg(strpbrk(o->out, "0123456789") != NULL, "%s", o->out);
}
END_TEST

START_TEST(descriptor_limit_is_raised)
{
    struct rlimit limit;
    char *argv[] = { name, NULL };

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlim_t hard = limit.rlim_max;
    limit.rlim_cur = hard < 100 ? hard : 100;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(options_max_fds(), (int)limit.rlim_cur);
    options_parse(1, argv, ALL);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_uint_eq(limit.rlim_cur, hard);
    ck_assert_int_eq(options_max_fds(), hard < 1 << 20 ? (int)hard : 1 << 20);
}
END_TEST

#define COUNT(table) ((int)(sizeof(table) / sizeof(*(table))))

int main(void)
{
    Suite *s = suite_create("options");
    TCase *t = tcase_create("options");

    tcase_set_timeout(t, 30);
    tcase_add_test(t, defaults);
    tcase_add_test(t, one_worker_where_there_are_none);
    tcase_add_loop_test(t, accepted_option, 0, COUNT(accepted));
    tcase_add_test(t, address);
    tcase_add_test(t, levels);
    tcase_add_loop_test(t, refused_option, 0, COUNT(refused));
    tcase_add_test(t, help);
    tcase_add_test(t, version);
    tcase_add_test(t, descriptor_limit_is_raised);
    suite_add_tcase(s, t);

    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
