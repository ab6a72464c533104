/* test_buf.c - buf.c grows by doubling, stops at its limit, gives memory back.
 * Does not: let malloc(3) fail. */
#include "base/buf.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct buf b;

static void tear_down(void)
{
    buf_free(&b);
}

START_TEST(all_zero_is_empty)
{
    ck_assert_ptr_null(b.base);
    buf_free(&b);
    buf_consume(&b, 0);
    ck_assert_ptr_null(b.base);
    ck_assert(buf_append(&b, "", 0, 0));
    ck_assert_uint_eq(b.len, 0);
}
END_TEST

START_TEST(append_and_consume)
{
    ck_assert(buf_append(&b, "hello", 5, 100));
    ck_assert(buf_append(&b, ", world", 7, 100));
    ck_assert_uint_eq(b.len, 12);
    ck_assert_mem_eq(b.base, "hello, world", 12);
    buf_consume(&b, 0);
    ck_assert_mem_eq(b.base, "hello, world", 12);
    buf_consume(&b, 7);
    ck_assert_uint_eq(b.len, 5);
    ck_assert_mem_eq(b.base, "world", 5);
    buf_consume(&b, 5);
    ck_assert_uint_eq(b.len, 0);
    ck_assert_uint_eq(b.cap, 0);
    ck_assert_ptr_null(b.base);
    ck_assert(buf_append(&b, "x", 1, 100)); /* and it can be used again */
    ck_assert_mem_eq(b.base, "x", 1);
}
END_TEST

START_TEST(grows_by_doubling)
{
    int moves = 0;
    uint32_t cap = 0;

    for (size_t i = 0; i < 1000000; i++) {
        if (!buf_append(&b, &(char){ (char)(i % 251) }, 1, 1 << 20))
            ck_abort_msg("no room for byte %zu", i);
        if (b.cap < b.len)
            ck_abort_msg("%u bytes in use, %u allocated", b.len, b.cap);
        if (b.cap != cap)
            moves++;
        cap = b.cap;
    }
    ck_assert_int_le(moves, 20);
    ck_assert_uint_le(b.cap, 1 << 20);
    for (size_t i = 0; i < b.len; i++)
        if (b.base[i] != (char)(i % 251))
            ck_abort_msg("byte %zu is %d", i, b.base[i]);
}
END_TEST

/* At the limit, one byte more is refused and nothing has changed. */
static const struct {
    uint32_t have;
    size_t room, limit;
    bool fits;
} limits[] = {
    { 0, 1, 1, true },
    { 0, 1, 0, false },
    { 0, 1024, 1024, true },
    { 0, 1025, 1024, false },
    { 5, 5, 10, true },
    { 5, 6, 10, false },
    { 1000, 24, 1024, true },
    { 1000, 25, 1024, false },
    { 3000, 1000, 4000, true },
    { 3000, 1001, 4000, false },
    { 10, 0, 10, true },
    { 10, 1, 5, false },
    { 10, SIZE_MAX, 1 << 20, false },
    { 10, SIZE_MAX - 9, 1 << 20, false },
    { 10, SIZE_MAX - 10, 1 << 20, false },
    { 10, UINT32_MAX, 1 << 20, false },
    { 10, (size_t)UINT32_MAX + 1, 1 << 20, false },
    { 10, 1000, UINT32_MAX, true },
};

START_TEST(limit)
{
    static const char bytes[4096] = "bytes";
    size_t have = limits[_i].have, room = limits[_i].room, most = limits[_i].limit;

    ck_assert(buf_append(&b, bytes, have, 4096));
    struct buf before = b;
    bool fits = buf_reserve(&b, room, most);
    ck_assert_msg(fits == limits[_i].fits, "%zu bytes and room for %zu of %zu: %d", have,
                  room, most, fits);
    ck_assert_uint_eq(b.len, have);
    if (fits)
        ck_assert_msg(b.cap >= have + room && b.cap <= (most > 4096 ? most : 4096),
                      "%u allocated for %zu + %zu, limit %zu", b.cap, have, room, most);
    else
        ck_assert(b.base == before.base && b.cap == before.cap);
    if (have > 0)
        ck_assert_mem_eq(b.base, bytes, have);
    if (room <= sizeof(bytes)) {
        ck_assert_int_eq(buf_append(&b, bytes, room, most), limits[_i].fits);
        ck_assert_uint_eq(b.len, have + (limits[_i].fits ? room : 0));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("buf");
    TCase *t = tcase_create("buf");

    tcase_add_checked_fixture(t, NULL, tear_down);
    tcase_add_test(t, all_zero_is_empty);
    tcase_add_test(t, append_and_consume);
    tcase_add_test(t, grows_by_doubling);
    tcase_add_loop_test(t, limit, 0, sizeof(limits) / sizeof(*limits));
    suite_add_tcase(s, t);

    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
