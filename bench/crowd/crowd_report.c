/* crowd_report.c - see crowd_report.h.
 * Does not: use a JSON library: the lines hold only numbers and known words. */
#include "crowd_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "crowd_run.h"

/* ,"key":{...}; per: how many of the histogram's units make one of the report's. */
static void print_times(const char *key, const struct histogram *h, double per)
{
    printf(",\"%s\":{\"count\":%" PRIu64, key, h->count);
    if (h->count > 0)
        printf(",\"min\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"max\":%.1f",
               (double)h->min / per, histogram_quantile(h, 0.5) / per,
               histogram_quantile(h, 0.9) / per, histogram_quantile(h, 0.99) / per,
               (double)h->max / per);
    else
        printf(",\"min\":null,\"p50\":null,\"p90\":null,\"p99\":null,\"max\":null");
    putchar('}');
}

static void print_count(const char *key, uint64_t n)
{
    printf(",\"%s\":%" PRIu64, key, n);
}

/* What the first and the last line begin with. */
static void print_connections(const struct counts *n)
{
    printf("{\"behaviour\":\"%s\",\"connections\":%d", run.opt.traits->name,
           run.opt.connections);
    print_count("offered", n->offered);
    print_count("established", n->established);
    print_count("refused", n->refused);
    print_count("refused_at_connect", n->refused_at_connect);
    print_count("connect_failed", n->connect_failed);
    print_count("connecting", n->connecting);
    if (n->connect_errno != 0)
        printf(",\"connect_error\":\"%s\"", strerror(n->connect_errno));
    print_count("open", n->open);
    print_count("closed_by_server", n->closed_by_server);
}

void report_count(void)
{
    struct counts *n = &run.counts;

    n->connecting = 0;
    n->open = 0;
    for (int i = 0; i < run.opt.connections; i++) {
        n->connecting += run.clients[i].state == CLIENT_CONNECTING;
        n->open += run.clients[i].state == CLIENT_OPEN;
    }
}

void report_ready(void)
{
    report_count();
    printf("ready ");
    print_connections(&run.counts);
    printf(",\"settled\":%d,\"seconds\":%.3f}\n", run.settled,
           (double)(now_ns() - run.began_ns) / 1e9);
    fflush(stdout);
}

static uint64_t all_failures(const struct counts *n)
{
    uint64_t failed = 0;

    for (int i = 0; i < FAILURES; i++)
        failed += n->failures[i];
    return failed;
}

void report_sample(void)
{
    const struct counts *n = &run.counts;

    printf("sample {\"monotonic_ms\":%.1f", (double)now_ns() / 1e6);
    print_count("served", n->served);
    print_count("failed", all_failures(n));
    print_count("not_connected", n->refused_at_connect + n->connect_failed);
    puts("}");
    fflush(stdout);
}

static void print_requests(const struct counts *n)
{
    static const char *const names[FAILURES] = { "timeout",      "reset",      "closed",
                                                 "wrong_status", "wrong_body", "raced",
                                                 "after_close" };

    print_count("requests", n->requests);
    print_count("served", n->served);
    print_count("late", n->late);
    print_count("failed", all_failures(n));
    for (int i = 0; i < FAILURES; i++)
        printf("%s\"%s\":%" PRIu64, i == 0 ? ",\"failures\":{" : ",", names[i],
               n->failures[i]);
    putchar('}');
    print_count("unfinished", n->unfinished);
    print_count("closed_idle", n->closed_idle);
    print_count("announced_close", n->announced_close);
    print_count("surplus", n->surplus);
    print_count("answered_503", n->answered_503);
    print_count("answered_408", n->answered_408);
    print_count("reset_by_server", n->reset_by_server);
}

/* How often each of the answers named by --expect came. */
static void print_expected(void)
{
    fputs(",\"answers\":[", stdout);
    for (int i = 0; i < run.opt.n_expected; i++)
        printf("%s%" PRIu64, i > 0 ? "," : "", run.opt.expected[i].seen);
    putchar(']');
}

void report_end(void)
{
    int64_t end = now_ns();
    struct rusage used;

    getrusage(RUSAGE_SELF, &used);
    for (int i = 0; i < run.opt.connections; i++)
        run.counts.unfinished += run.clients[i].outstanding;
    print_connections(&run.counts);
    print_requests(&run.counts);
    print_expected();
    print_count("bytes_read", run.counts.bytes_read);
    print_count("bytes_written", run.counts.bytes_written);
    printf(",\"seconds\":%.3f,\"load_seconds\":%.3f,\"cpu_seconds\":%.3f",
           (double)(end - run.began_ns) / 1e9,
           (double)(run.stopped_ns - run.began_ns) / 1e9,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
               (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    print_times("connect_us", &run.connect, 1e3);
    print_times("first_byte_us", &run.first_byte, 1e3);
    print_times("total_us", &run.total, 1e3);
    print_times("closed_after_ms", &run.closed_after, 1e6);
    puts("}");
    fflush(stdout);
}
