/* A file for `espalier replay --from`: refused with words, or figures that can be made and written.
 */
#include "tests/fuzz/support_input.h"
#include "traces/replay/record_file.h"
#include "traces/replay/summary.h"

#include <stdlib.h>

struct run {
    struct summary_builder *builder;
    json_t *header, *end;
};

static void end_run(struct run *run)
{
    if (!run->builder) return;
    struct summary *summary = summary_end(run->builder);
    json_t *document = json_deep_copy(run->header);
    char *notices = summary_notices(summary, run->header, run->end);
    char *limits = summary_limits(run->header);
    summary_json(summary, notices, run->end, document);
    char *text = json_dumps(document, RESULTS_JSON_FLAGS);
    invariant(text && notices && limits, "figures without words");
    free(limits);
    free(text);
    free(notices);
    json_decref(document);
    json_decref(run->header);
    json_decref(run->end);
    summary_free(summary);
    *run = (struct run){0};
}

static enum status on_header(void *context, json_t *header, struct error *err)
{
    struct run *run = context;
    (void)err;
    end_run(run);
    run->header = json_deep_copy(header);
    run->builder = summary_begin(SLO_ENVELOPE);
    return ST_OK;
}

static void on_flight(void *context, const struct flight *flight)
{
    summary_add(((struct run *)context)->builder, flight);
}

static void on_end(void *context, json_t *end)
{
    struct run *run = context;
    json_decref(run->end);
    run->end = json_deep_copy(end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run run = {0};
    struct error err = {0};
    struct record_reader reader = {on_header, on_flight, on_end, &run};
    enum status status = record_file_read(file_in_memory(data, size), &reader, &err);
    invariant((status != ST_OK) == (err.text[0] != 0), "a refusal without words, or words without");
    end_run(&run);
    return 0;
}
