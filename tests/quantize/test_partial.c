/* A directory that appears whole or not at all, whatever stands in its way. */
#include "base/base.h"
#include "model/quantized_directory.h"
#include "quant/checkpoint/partial.h"
#include "tests/model/support_files.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A parent directory, and the target in it. */
struct place {
    char *parent, target[512];
};

static struct place make_place(void)
{
    struct place place = {.parent = make_directory()};
    snprintf(place.target, sizeof place.target, "%s/out", place.parent);
    return place;
}

static void remove_place(struct place *place)
{
    if (access(place->target, F_OK) == 0) remove_directory(must_strdup(place->target));
    remove_directory(place->parent);
}

static int entries(const char *path)
{
    int count = 0;
    DIR *list = opendir(path);
    cr_assert(list, "%s", path);
    while (readdir(list))
        count++;
    closedir(list);
    return count - 2;
}

static void expect_begin(const char *target, bool replace, struct partial *partial)
{
    struct error err = {0};
    cr_assert(partial_begin(target, replace, partial, &err) == ST_OK, "%s", err.text);
}

static void write_record(struct partial *partial, const char *text)
{
    struct error err = {0};
    cr_assert(partial_write(partial, QUANTIZATION_FILE, text, strlen(text), &err) == ST_OK, "%s",
              err.text);
}

static void expect_content(const char *target, const char *expected)
{
    char path[600], text[64] = "";
    snprintf(path, sizeof path, "%s/" QUANTIZATION_FILE, target);
    FILE *file = fopen(path, "rb");
    cr_assert(file, "%s", path);
    cr_assert(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    cr_expect_str_eq(text, expected);
}

static void write_out(const char *target, bool replace, const char *text)
{
    struct partial partial;
    struct error err = {0};
    expect_begin(target, replace, &partial);
    write_record(&partial, text);
    cr_assert(partial_commit(&partial, &err) == ST_OK, "%s", err.text);
    expect_content(target, text);
}

Test(partial, appears_with_its_files)
{
    struct place place = make_place();
    struct partial partial;
    struct error err = {0};
    char slashed[600];
    snprintf(slashed, sizeof slashed, "%s//", place.target);
    expect_begin(slashed, false, &partial);
    write_record(&partial, "one");
    cr_expect(access(place.target, F_OK) != 0 && entries(place.parent) == 1);
    cr_expect(json_is_string(json_object_get(partial.checksums, QUANTIZATION_FILE)));
    cr_assert(partial_commit(&partial, &err) == ST_OK, "%s", err.text);
    expect_content(place.target, "one");
    cr_expect_eq(entries(place.parent), 1);
    remove_place(&place);
}

Test(partial, an_abandoned_one_leaves_nothing)
{
    struct place place = make_place();
    struct partial partial;
    expect_begin(place.target, false, &partial);
    write_record(&partial, "one");
    partial_abandon(&partial);
    cr_expect_eq(entries(place.parent), 0);
    remove_place(&place);
}

Test(partial, an_empty_directory_is_filled)
{
    struct place place = make_place();
    cr_assert(mkdir(place.target, 0700) == 0);
    write_out(place.target, false, "one");
    remove_place(&place);
}

static void expect_no_begin_at(int line, const char *target, bool replace, const char *part)
{
    struct partial partial;
    struct error err = {0};
    expect_refusal_at(__FILE__, line, partial_begin(target, replace, &partial, &err), &err,
                      ST_INVALID, part);
}
#define expect_no_begin(...) expect_no_begin_at(__LINE__, __VA_ARGS__)

Test(partial, what_is_there_is_replaced_only_when_asked_and_when_it_is_ours)
{
    struct place place = make_place();
    write_out(place.target, false, "one");
    expect_no_begin(place.target, false, "is there and not empty");
    write_out(place.target, true, "two");
    cr_expect_eq(entries(place.parent), 1);
    write_in(place.target, "thesis.txt", "x", 1);
    expect_no_begin(place.target, true, "holds thesis.txt");
    expect_content(place.target, "two");
    remove_place(&place);
}

Test(partial, a_model_without_a_record_is_not_ours)
{
    struct place place = make_place();
    cr_assert(mkdir(place.target, 0700) == 0);
    write_in(place.target, "model.safetensors", "x", 1);
    write_in(place.target, "config.json", "x", 1);
    expect_no_begin(place.target, true, "holds a model without " QUANTIZATION_FILE);
    expect_no_begin("", false, "--out is empty");
    write_in(place.parent, "file", "x", 1);
    char file[600];
    snprintf(file, sizeof file, "%s/file", place.parent);
    expect_no_begin(file, true, "is there and no directory");
    remove_place(&place);
}

/* Somebody else fills the target between begin and commit. */
Test(partial, the_last_check_is_the_rename_itself)
{
    struct place place = make_place();
    struct partial partial;
    struct error err = {0};
    expect_begin(place.target, false, &partial);
    write_record(&partial, "one");
    cr_assert(mkdir(place.target, 0700) == 0);
    write_in(place.target, QUANTIZATION_FILE, "two", 3);
    expect_refusal(partial_commit(&partial, &err), &err, ST_INVALID, "made by somebody else");
    expect_content(place.target, "two");
    cr_expect_eq(entries(place.parent), 1);
    expect_begin(place.target, true, &partial);
    write_record(&partial, "three");
    write_in(place.target, "thesis.txt", "x", 1);
    expect_refusal(partial_commit(&partial, &err), &err, ST_INVALID, "holds thesis.txt");
    expect_content(place.target, "two");
    cr_expect_eq(entries(place.parent), 1);
    remove_place(&place);
}

/* Criterion runs a test beside a thread of its own, and in a child forked beside threads TSan puts
   a signal's handler off for ever. */
#ifdef __SANITIZE_THREAD__
#define SKIP_WITHOUT_SIGNALS() \
    cr_skip_test("TSan runs no handlers in a child forked beside threads")
#else
#define SKIP_WITHOUT_SIGNALS()
#endif

/* Runs a child that begins, writes a file, says so and waits; its standard error goes to `log`,
 * where there is one. */
static pid_t begin_in_child(const struct place *place, FILE *log)
{
    int ready[2];
    char byte;
    cr_assert(pipe(ready) == 0);
    pid_t child = fork();
    if (child == 0) {
        struct partial partial;
        struct error err = {0};
        if (log) dup2(fileno(log), STDERR_FILENO);
        if (partial_begin(place->target, false, &partial, &err) ||
            partial_write(&partial, "config.json", "{}", 2, &err) || write(ready[1], "x", 1) != 1)
            _exit(9);
        pause();
        _exit(8);
    }
    cr_assert(child > 0 && read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

static int wait_signal(pid_t child)
{
    int status;
    cr_assert(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void expect_words(FILE *log, const struct place *place)
{
    char expected[600], found[600] = "";
    snprintf(expected, sizeof expected, "espalier: interrupted; nothing was written to %s\n",
             place->target);
    rewind(log);
    found[fread(found, 1, sizeof found - 1, log)] = 0;
    cr_expect_str_eq(found, expected);
}

Test(partial, signals_take_it_away)
{
    SKIP_WITHOUT_SIGNALS();
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < COUNT_OF(signals); i++) {
        struct place place = make_place();
        FILE *log = tmpfile();
        signal(signals[i], SIG_DFL);
        pid_t child = begin_in_child(&place, log);
        cr_expect_eq(entries(place.parent), 1);
        kill(child, signals[i]);
        cr_expect_eq(wait_signal(child), signals[i]);
        cr_expect_eq(entries(place.parent), 0);
        expect_words(log, &place);
        fclose(log);
        remove_place(&place);
    }
}

/* Between the rename and the end of partial_commit. */
Test(partial, a_signal_behind_the_rename_takes_nothing_away)
{
    SKIP_WITHOUT_SIGNALS();
    struct place place = make_place();
    FILE *log = tmpfile();
    char path[600];
    pid_t child = begin_in_child(&place, log);
    snprintf(path, sizeof path, "%s.partial-%d", place.target, (int)child);
    cr_assert(rename(path, place.target) == 0);
    kill(child, SIGTERM);
    cr_expect_eq(wait_signal(child), SIGTERM);
    cr_expect_eq(entries(place.target), 1);
    cr_expect(fseek(log, 0, SEEK_END) == 0 && ftell(log) == 0, "words about nothing written");
    fclose(log);
    remove_place(&place);
}

Test(partial, what_kill_9_leaves_is_removed_and_a_living_one_is_not)
{
    SKIP_WITHOUT_SIGNALS();
    struct place place = make_place();
    pid_t dead = begin_in_child(&place, NULL), living = begin_in_child(&place, NULL);
    kill(dead, SIGKILL);
    cr_expect_eq(wait_signal(dead), SIGKILL);
    cr_expect_eq(entries(place.parent), 2);
    write_in(place.parent, "out.partial-12x", "", 0);
    write_out(place.target, false, "one");
    cr_expect_eq(entries(place.parent), 3, "the target, the living one, and the file");
    kill(living, SIGTERM);
    wait_signal(living);
    cr_expect_eq(entries(place.parent), 2);
    remove_place(&place);
}
