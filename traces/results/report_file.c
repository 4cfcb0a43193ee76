/* The page of --report as a file: there as a whole, or as it was before. */
#include "traces/results/report.h"

#include "base/base.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A regular file, there or not, is replaced as a whole; anything else is written into. */
static bool is_replaced(const char *path)
{
    struct stat found;
    return stat(path, &found) || S_ISREG(found.st_mode);
}

/* Under which name it is written first, beside what the path or its symbolic link names. Caller
 * frees both. */
static char *part_of(const char *path, char **target)
{
    struct strbuf part = {0};
    char *resolved = realpath(path, NULL);
    *target = resolved ? resolved : must_strdup(path);
    strbuf_format(&part, "%s.part-%d", *target, (int)getpid());
    return strbuf_take(&part);
}

static enum status not_written(const char *path, int problem, struct error *err)
{
    return fail(err, ST_IO, "--report %s: %s", path, strerror(problem));
}

/* `page` NULL: an empty file. 0, or errno. */
static int write_page(const char *path, const char *page)
{
    FILE *file = fopen(path, "wb");
    if (!file) return errno;
    int problem = page && fputs(page, file) == EOF ? errno : 0;
    if (fclose(file) && !problem) problem = errno;
    return problem;
}

enum status report_check(const char *path, struct error *err)
{
    if (access(path, F_OK) == 0 && access(path, W_OK)) return not_written(path, errno, err);
    struct stat found;
    if (stat(path, &found) == 0 && S_ISDIR(found.st_mode)) return not_written(path, EISDIR, err);
    if (!is_replaced(path)) return ST_OK;
    char *target, *part = part_of(path, &target);
    int problem = write_page(part, NULL);
    if (!problem) unlink(part);
    free(part);
    free(target);
    return problem ? not_written(path, problem, err) : ST_OK;
}

static int replace(const char *path, const char *page)
{
    char *target, *part = part_of(path, &target);
    int problem = write_page(part, page);
    if (!problem && rename(part, target)) problem = errno;
    if (problem) unlink(part);
    free(part);
    free(target);
    return problem;
}

enum status report_write(const struct report *report, const char *path, struct error *err)
{
    char *page = report_html(report);
    int problem = is_replaced(path) ? replace(path, page) : write_page(path, page);
    free(page);
    return problem ? not_written(path, problem, err) : ST_OK;
}
