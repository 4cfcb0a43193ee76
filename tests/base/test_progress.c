/* Progress where standard error is no terminal: the test's time is told to the bar by moving its
 * past. */
#include "base/progress.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char *written; /* all lines, of fd 2 */

/* What `work` writes to standard error, through a file: no terminal wherever the test runs. */
static const char *lines_of(void (*work)(struct progress *bar))
{
    static char text[4096];
    int before = dup(STDERR_FILENO);
    FILE *file = tmpfile();
    cr_assert(file && before >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    struct progress bar;
    progress_begin(&bar, "packing weights", 100);
    work(&bar);
    progress_end(&bar);
    dup2(before, STDERR_FILENO);
    close(before);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    return written = text;
}

static void pass(struct progress *bar, int seconds)
{
    bar->started_us -= (int64_t)seconds * 1000000;
    bar->told_us -= (int64_t)seconds * 1000000;
}

static int count(char c)
{
    int found = 0;
    for (const char *at = written; *at; at++)
        found += *at == c;
    return found;
}

static void quick(struct progress *bar)
{
    for (int i = 0; i <= 100; i++)
        progress_update(bar, i);
}

Test(progress, short_work_says_nothing)
{
    cr_assert_str_eq(lines_of(quick), "");
}

static void minute_each(struct progress *bar)
{
    for (int i = 0; i <= 100; i++) {
        progress_update(bar, i);
        pass(bar, 60);
    }
}

Test(progress, long_work_says_each_tenth)
{
    lines_of(minute_each);
    cr_assert_eq(count('\n'), 9, "%s", written);
    cr_assert(!strncmp(written, "espalier: packing weights: 10 %, 5400 s left\n", 44), "%s",
              written);
    cr_assert(strstr(written, ": 90 %, 600 s left\n"), "%s", written);
    cr_assert_eq(count('\r') + count(033), 0);
}

static void second_each(struct progress *bar)
{
    for (int i = 0; i <= 100; i += 4) {
        progress_update(bar, i);
        pass(bar, 1);
    }
}

Test(progress, not_more_than_a_line_in_ten_seconds)
{
    lines_of(second_each); /* 26 seconds */
    cr_assert_eq(count('\n'), 2, "%s", written);
    cr_assert(strstr(written, ": 40 %, 15 s left\n"), "%s", written);
    cr_assert(strstr(written, ": 80 %, 5 s left\n"), "%s", written);
}

static void overdone(struct progress *bar)
{
    pass(bar, 60);
    progress_update(bar, -5);
    progress_update(bar, 1000);
}

Test(progress, counts_beyond_the_total_are_the_total)
{
    cr_assert_str_eq(lines_of(overdone), "", "the end says itself");
}
