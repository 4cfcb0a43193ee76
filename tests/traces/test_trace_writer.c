/* The native trace, written: read back it is the same, and its file is whole or not there. */
#include "support_trace_files.h"
#include "base/base.h"
#include "traces/formats/writer.h"
#include "traces/workload/annotate.h"
#include "traces/workload/generate.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[] = "/tmp/espalier-writer-XXXXXX";
static char target[64];

static void make_directory(void)
{
    cr_assert(mkdtemp(directory));
    snprintf(target, sizeof target, "%s/t.jsonl", directory);
}

static int entries(void)
{
    int count = 0;
    DIR *list = opendir(directory);
    for (struct dirent *entry; (entry = readdir(list));)
        count += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
    closedir(list);
    return count;
}

static void remove_directory(void)
{
    unlink(target);
    cr_assert_eq(rmdir(directory), 0, "something was left in %s", directory);
}

TestSuite(trace_writer, .init = make_directory, .fini = remove_directory);

static void write_trace(const struct trace *trace, const char *path)
{
    struct trace_writer *writer;
    struct error err = {0};
    json_t *header = json_pack("{s:i}", "requests", (int)trace->count);
    cr_assert_eq(trace_writer_open(path, &writer, &err), ST_OK, "%s", err.text);
    for (size_t i = 0; i < trace->count; i++)
        cr_assert_eq(trace_writer_add(writer, &trace->requests[i], &err), ST_OK, "%s", err.text);
    cr_assert_eq(trace_writer_finish(writer, header, &err), ST_OK, "%s", err.text);
    json_decref(header);
}

static struct trace *read_target(void)
{
    struct trace *trace;
    struct error err = {0};
    struct trace_read_options options = {0};
    cr_assert_eq(trace_load(target, &options, &trace, NULL, &err), ST_OK, "%s", err.text);
    return trace;
}

Test(trace_writer, round_trip_of_the_presets)
{
    for (int i = 1; i <= 10; i++) {
        char name[8];
        struct workload_spec spec;
        struct trace *trace;
        struct error err = {0};
        snprintf(name, sizeof name, "W%d", i);
        cr_assert_eq(workload_preset(name, &spec, &err), ST_OK);
        cr_assert_eq(workload_generate(&spec, 3, 200, 5, &trace, &err), ST_OK, "%s", err.text);
        write_trace(trace, target);
        struct trace *again = read_target();
        expect_same_trace(trace, again);
        trace_free(trace);
        trace_free(again);
    }
}

/* Every field, and times that four decimals cannot say. */
Test(trace_writer, round_trip_of_every_field)
{
    static const double times[] = {
        0, 1e-4, 0.1 + 0.2, 1 / 3.0, 4314.579, 123456789.0001, 1e12, 999999999999.9999, 0x1p-40};
    struct trace *trace = trace_create();
    int32_t tokens[] = {48, 130, 96, 1000000, 7, 60};
    struct trace_prefix prefixes[] = {{17, 512}, {INT64_MAX, 500}};
    struct trace_stage stages[] = {
        {false, 1, tokens}, {true, 3, tokens + 1}, {true, 1, tokens + 4}, {false, 1, tokens + 5}};
    static const char *const names[] = {"chat", "", "a \"b\" \\ \n\t", "gr\xc3\xbc\xc3\x9f"};
    double last = 0;
    for (size_t i = 0; i < 36; i++) {
        last = fmax(last, times[i / 4]);
        struct trace_request request = {last,
                                        1155,
                                        (int32_t)i % 3,
                                        prefixes,
                                        (int32_t)i % 3,
                                        stages,
                                        1 + (int32_t)i % 4,
                                        i % 2 ? times[i / 4] : 0,
                                        i % 3 ? times[i / 4] : 0,
                                        names[i % 4]};
        trace_add(trace, &request);
    }
    write_trace(trace, target);
    struct trace *again = read_target();
    expect_same_trace(trace, again);
    trace_free(trace);
    trace_free(again);
}

Test(trace_writer, a_name_that_is_no_text_is_made_one)
{
    struct strbuf line = {0};
    int32_t tokens = 1;
    struct trace_stage stage = {false, 1, &tokens};
    struct trace_request request = {.prompt_tokens = 1,
                                    .stages = &stage,
                                    .stage_count = 1,
                                    .class_name = "a\xff"
                                                  "b"};
    trace_line(&request, &line);
    cr_assert_str_eq(strbuf_cstr(&line), "{\"arrival_ms\": 0, \"prompt_tokens\": 1, \"stages\": "
                                         "[1], \"class\": \"a?b\"}\n");
    strbuf_free(&line);
}

Test(trace_writer, nothing_appears_before_the_end_and_nothing_is_left)
{
    struct trace *trace = load_good("{\"arrival_ms\": 0, \"prompt_tokens\": 1, \"stages\": [1]}");
    struct trace_writer *writer;
    struct error err = {0};
    cr_assert_eq(trace_writer_open(target, &writer, &err), ST_OK, "%s", err.text);
    for (int i = 0; i < 50000; i++) /* more than is kept in memory */
        cr_assert_eq(trace_writer_add(writer, &trace->requests[0], &err), ST_OK);
    cr_assert_eq(entries(), 0);
    trace_writer_discard(writer);
    cr_assert_eq(entries(), 0);

    write_trace(trace, target);
    cr_assert_eq(trace_writer_open(target, &writer, &err), ST_OK, "%s", err.text);
    trace_writer_discard(writer);
    struct trace *kept = read_target();
    expect_same_trace(trace, kept);
    cr_assert_eq(entries(), 1);
    trace_free(trace);
    trace_free(kept);
}

Test(trace_writer, a_symbolic_link_stays_one)
{
    char link[64];
    struct stat stat;
    snprintf(link, sizeof link, "%s/link", directory);
    struct trace *trace = load_good("{\"arrival_ms\": 0, \"prompt_tokens\": 1, \"stages\": [1]}");
    write_trace(trace, target);
    cr_assert_eq(symlink(target, link), 0);
    write_trace(trace, link);
    cr_assert(!lstat(link, &stat) && S_ISLNK(stat.st_mode));
    unlink(link);
    trace_free(trace);
}

/* A device is written into, not replaced by a file. */
Test(trace_writer, what_is_no_file_stays_what_it_is)
{
    struct stat stat_now;
    struct error err = {0};
    struct trace_writer *writer;
    struct trace *trace = load_good("{\"arrival_ms\": 0, \"prompt_tokens\": 1, \"stages\": [1]}");
    write_trace(trace, "/dev/null");
    cr_assert(!stat("/dev/null", &stat_now) && S_ISCHR(stat_now.st_mode));
    cr_assert_eq(trace_writer_open("/nowhere/at/all", &writer, &err), ST_IO);
    cr_assert(strstr(err.text, "/nowhere/at/all: no file can be made in /nowhere/at"), "%s",
              err.text);
    cr_assert_eq(trace_writer_open(directory, &writer, &err), ST_IO);
    cr_assert(strstr(err.text, "Is a directory"), "%s", err.text);
    trace_free(trace);
}

Test(trace_writer, a_full_device_is_told_and_leaves_nothing)
{
    if (access("/dev/full", W_OK)) cr_skip_test("/dev/full is not there");
    struct trace_writer *writer;
    struct error err = {0};
    json_t *header = json_object();
    cr_assert_eq(trace_writer_open("/dev/full", &writer, &err), ST_OK, "%s", err.text);
    cr_assert_eq(trace_writer_finish(writer, header, &err), ST_IO);
    cr_assert(strstr(err.text, "/dev/full: No space left"), "%s", err.text);
    json_decref(header);
}

/* --- branches for a trace without */

Test(trace_writer, annotation)
{
    struct workload_spec spec = workload_default();
    struct trace *plain;
    struct error err = {0};
    cr_assert_eq(workload_generate(&spec, 10, 300, 1, &plain, &err), ST_OK);
    struct annotator a, b;
    spec.branching.share = 0.3;
    annotator_start(&a, &spec.branching, 4);
    annotator_start(&b, &spec.branching, 4);
    size_t branching = 0;
    for (size_t i = 0; i < plain->count; i++) {
        struct trace_request x = plain->requests[i], y = x;
        annotator_apply(&a, &x);
        annotator_apply(&b, &y);
        expect_same_request(&x, &y);
        cr_assert(x.arrival_ms == plain->requests[i].arrival_ms &&
                  x.prompt_tokens == plain->requests[i].prompt_tokens);
        branching += trace_request_branches(&x);
        if (!trace_request_branches(&x)) expect_same_request(&x, &plain->requests[i]);
        struct trace_request again = x;
        b.index--;
        annotator_apply(&b, &again);
        expect_same_request(&x, &again); /* one that branches keeps its branches */
    }
    double n = (double)plain->count;
    cr_assert_float_eq((double)branching / n, 0.3, 5 * 0.46 / sqrt(n));
    annotator_release(&a);
    annotator_release(&b);
    trace_free(plain);
}
