/* unsafe.c - handlers that do what one in a coroutine must not, for the tests: they stand
 * in the place of /upstream in build/tests/stage7_unsafe, and in no other program.
 * Does not: hand any request on. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "app/gateway.h"
#include "conn/http1.h"

void __wrap_gateway_relay(struct conn *c, const struct request *req);

static void nap(void)
{
    struct timespec time = { 0, 20000000 };

    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL) == EINTR)
        continue;
}

/* What follows is wrong on purpose. NOLINTBEGIN(clang-analyzer-*) */

/* So many bytes of stack. */
static long deep(long bytes)
{
    char some[1024];
    long more = 0;

    __asm__ volatile(""
                     :
                     : "r"(some)
                     : "memory"); /* it is used, for all the compiler knows */
    if (bytes > (long)sizeof(some))
        more = deep(bytes - (long)sizeof(some));
    __asm__ volatile("" : : "r"(some) : "memory");
    return more + (long)sizeof(some);
}

/* Functions of their own, or the compiler would see, too. */
__attribute__((noinline)) static void fill(volatile char *at, long n)
{
    for (long i = 0; i < n; i++)
        at[i] = (char)i;
}

static volatile int *kept;

__attribute__((noinline)) static void keep(volatile int *at)
{
    kept = at;
}

/* Beyond the end of an array of 16. */
static long beyond(long n)
{
    char some[16];

    fill(some, n);
    return some[0];
}

/* A variable that is no more. */
static long scope(long n)
{
    if (n > 0) {
        volatile int here = (int)n;

        keep(&here);
    }
    return kept ? *kept : 0;
}

/* A variable that was never set. */
static long unset(long n)
{
    int some[16];
    int *volatile at = some; /* or the compiler would see, too */

    return at[n % 16] > 1000 ? 1 : 2; /* cppcheck-suppress uninitvar */
}

/* A file that has nothing to say yet: open(2) and read(2) wait for it. */
static long file(long n)
{
    int fd = open(getenv("UNSAFE_FIFO"), O_RDONLY | O_CLOEXEC);
    char byte = (char)n;

    if (read(fd, &byte, 1) == -1)
        perror("read");
    close(fd);
    return byte;
}

/* NOLINTEND(clang-analyzer-*) */

/* A name server that takes its time: 127.0.0.1, this port. */
static long name(long port)
{
    const struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    int error;

    res_init();
    _res.nscount = 1;
    _res.nsaddr_list[0] = (struct sockaddr_in){ .sin_family = AF_INET,
                                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                                .sin_port = htons((uint16_t)port) };
    _res.retrans = _res.retry = 1;
    error = getaddrinfo("silent.invalid-for-us.example.", "80", &hints, &found);
    if (error == 0)
        freeaddrinfo(found);
    return error;
}

static const struct {
    const char *word;
    long (*run)(long n);
} deeds[] = { { "deep", deep },   { "beyond", beyond }, { "scope", scope },
              { "unset", unset }, { "file", file },     { "name", name } };

/* /upstream?do=WORD&n=NUMBER */
void __wrap_gateway_relay(struct conn *c, const struct request *req)
{
    char word[16] = "", number[24] = "";
    char text[64];
    int len = 0;

    http_query(req->query, "do", word, sizeof(word) - 1);
    http_query(req->query, "n", number, sizeof(number) - 1);
    nap(); /* others have run in between */
    for (size_t i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++)
        if (strncmp(word, deeds[i].word, strlen(deeds[i].word)) == 0)
            len = snprintf(text, sizeof(text), "%s gave %ld\n", deeds[i].word,
                           deeds[i].run(strtol(number, NULL, 10)));
    http_reply(c, req, len > 0 ? 200 : 404, SLICE("text/plain"), SLICE(""),
               (struct slice){ text, (size_t)len });
}
