/* The figures of a record: the same flights through the same summary. */
#include "traces/replay/record_file.h"
#include "traces/replay/session.h"

struct replaying {
    const struct replay_options *options;
    struct replay_runs *runs;
    struct summary_builder *builder; /* of the last run; NULL: it is complete */
};

static void end_replaying(struct replaying *replaying)
{
    if (!replaying->builder) return;
    replaying->runs->list[replaying->runs->count - 1].summary = summary_end(replaying->builder);
    replaying->builder = NULL;
}

static enum status take_header(void *context, json_t *header, struct error *err)
{
    struct replaying *replaying = context;
    (void)err;
    end_replaying(replaying);
    replay_runs_add(replaying->runs, json_deep_copy(header));
    replaying->builder = summary_begin(replaying->options->kind);
    return ST_OK;
}

/* With another limit the same run is judged anew. */
static void take_flight(void *context, const struct flight *flight)
{
    struct replaying *replaying = context;
    const struct replay_options *o = replaying->options;
    struct flight judged = *flight;
    if (o->slo_ttft_given) judged.slo.ttft_us = o->settings.slo.ttft_us;
    if (o->slo_tpot_given) judged.slo.tpot_us = o->settings.slo.tpot_us;
    summary_add(replaying->builder, &judged);
}

static void take_end(void *context, json_t *end)
{
    struct replaying *replaying = context;
    struct replay_run *run = &replaying->runs->list[replaying->runs->count - 1];
    json_decref(run->end);
    run->end = json_deep_copy(end);
}

enum status session_from(const struct replay_options *options, struct replay_runs *runs,
                         struct error *err)
{
    struct replaying replaying = {.options = options, .runs = runs};
    struct record_reader reader = {take_header, take_flight, take_end, &replaying};
    enum status status = record_file_read(options->from, &reader, err);
    end_replaying(&replaying);
    return status;
}
