/* one.c - one test of a program alone: TEST_ONE=NAME in the environment, make one.
 * Does not: choose cases; Check's CK_RUN_CASE does. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

void __real__tcase_add_test(TCase *tc, const TTest *test, int signal, int status,
                            int start, int end);
void __wrap__tcase_add_test(TCase *tc, const TTest *test, int signal, int status,
                            int start, int end);

/* The linker puts it before Check's own, --wrap in ld(1), which tcase_add_test() and its
 * kin call. */
void __wrap__tcase_add_test(TCase *tc, const TTest *test, int signal, int status,
                            int start, int end)
{
    const char *one = getenv("TEST_ONE");

    if (one == NULL || strcmp(one, test->name) == 0)
        __real__tcase_add_test(tc, test, signal, status, start, end);
}
