#include "base/base.h"
#include "base/paths.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static void enter_folder(void)
{
    strcpy(folder, "/tmp/espalier-paths-XXXXXX");
    cr_assert(mkdtemp(folder) && !chdir(folder) && !mkdir("sub", 0700));
    int fd = open("there", O_CREAT | O_WRONLY, 0600);
    cr_assert(fd >= 0 && !close(fd) && !symlink("../there", "sub/link") && !link("there", "hard"));
}

static void leave_folder(void)
{
    cr_assert(!unlink("sub/link") && !unlink("hard") && !unlink("there") && !rmdir("sub"));
    cr_assert(!chdir("/") && !rmdir(folder));
}

TestSuite(paths, .init = enter_folder, .fini = leave_folder);

static enum status check(const char *first, bool first_written, const char *second)
{
    const struct path_use uses[] = {{"one", first, first_written}, {"two", second, true}};
    struct error err = {0};
    enum status status = paths_check(uses, 2, &err);
    cr_assert(!status || (strstr(err.text, "--one ") && strstr(err.text, "--two ")), "%s",
              err.text);
    return status;
}

Test(paths, one_file_by_several_names)
{
    cr_assert_eq(check("there", false, "there"), ST_USAGE);
    cr_assert_eq(check("there", false, "./sub/../there"), ST_USAGE);
    cr_assert_eq(check("there", false, "sub/link"), ST_USAGE);
    cr_assert_eq(check("hard", true, "sub/link"), ST_USAGE);
}

Test(paths, what_is_not_there_yet)
{
    cr_assert_eq(check("new", true, "new"), ST_USAGE);
    cr_assert_eq(check("./new", true, "sub/../new"), ST_USAGE);
    cr_assert_eq(check("new", true, "sub/new"), ST_OK);
    cr_assert_eq(check("new", true, "newer"), ST_OK);
    cr_assert_eq(check("new", true, "no/new"), ST_OK); /* opening it will fail */
}

Test(paths, different_ones_and_what_cannot_be_lost)
{
    cr_assert_eq(check("there", false, "new"), ST_OK);
    cr_assert_eq(check(NULL, false, "there"), ST_OK);
    cr_assert_eq(check("/dev/null", true, "/dev/null"), ST_OK);
    const struct path_use read[] = {{"one", "there", false}, {"two", "there", false}};
    cr_assert_eq(paths_check(read, 2, NULL), ST_OK);
}

Test(paths, standard_input_has_a_file_too)
{
    int fd = open("there", O_RDONLY);
    cr_assert(fd >= 0 && dup2(fd, STDIN_FILENO) == STDIN_FILENO && !close(fd));
    cr_assert_eq(check("-", false, "hard"), ST_USAGE);
    cr_assert_eq(check("-", false, "new"), ST_OK);
}
