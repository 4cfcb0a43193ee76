#include "support_trace_files.h"
#include "base/base.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct loaded load_bytes(const char *bytes, size_t length, struct trace_read_options options)
{
    struct loaded loaded = {0};
    char path[] = "/tmp/espalier-trace-XXXXXX";
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    for (size_t done = 0; done < length;) {
        ssize_t wrote = write(fd, bytes + done, length - done);
        cr_assert_gt(wrote, 0);
        done += (size_t)wrote;
    }
    close(fd);
    loaded.status = trace_load(path, &options, &loaded.trace, &loaded.counts, &loaded.err);
    unlink(path);
    cr_assert_eq(loaded.status == ST_OK, loaded.trace != NULL);
    return loaded;
}

struct loaded load_text(const char *text, struct trace_read_options options)
{
    return load_bytes(text, strlen(text), options);
}

struct trace *load_good(const char *text)
{
    struct loaded loaded = load_text(text, (struct trace_read_options){0});
    cr_assert_eq(loaded.status, ST_OK, "%s", loaded.err.text);
    return loaded.trace;
}

void expect_same_request(const struct trace_request *a, const struct trace_request *b)
{
    cr_assert_eq(a->arrival_ms, b->arrival_ms, "%.17g %.17g", a->arrival_ms, b->arrival_ms);
    cr_assert_eq(a->prompt_tokens, b->prompt_tokens);
    cr_assert_eq(a->cached_tokens, b->cached_tokens);
    cr_assert_eq(a->ttft_ms, b->ttft_ms);
    cr_assert_eq(a->tpot_ms, b->tpot_ms);
    cr_assert_str_eq(a->class_name, b->class_name);
    cr_assert_eq(a->prefix_count, b->prefix_count);
    for (int32_t i = 0; i < a->prefix_count; i++) {
        cr_assert_eq(a->prefixes[i].id, b->prefixes[i].id);
        cr_assert_eq(a->prefixes[i].tokens, b->prefixes[i].tokens);
    }
    cr_assert_eq(a->stage_count, b->stage_count);
    for (int32_t i = 0; i < a->stage_count; i++) {
        const struct trace_stage *x = &a->stages[i], *y = &b->stages[i];
        cr_assert_eq(x->parallel, y->parallel);
        cr_assert_eq(x->branch_count, y->branch_count);
        for (int32_t k = 0; k < x->branch_count; k++)
            cr_assert_eq(x->branch_tokens[k], y->branch_tokens[k]);
    }
}

void expect_same_trace(const struct trace *a, const struct trace *b)
{
    cr_assert_eq(a->count, b->count, "%zu %zu requests", a->count, b->count);
    for (size_t i = 0; i < a->count; i++)
        expect_same_request(&a->requests[i], &b->requests[i]);
}
