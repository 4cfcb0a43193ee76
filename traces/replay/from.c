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

/* Puts what --from was told in the place of what the run was told. */
static void judge_anew(const struct replay_options *o, json_t *header)
{
    json_t *slo = json_object_get(header, "slo"), *search = json_object_get(header, "search");
    const struct slo_target *limits = &o->settings.slo;
    if (o->slo_ttft_given)
        json_object_set_new(slo, "ttft_ms", json_real((double)limits->ttft_us / 1e3));
    if (o->slo_tpot_given)
        json_object_set_new(slo, "tpot_ms", json_real((double)limits->tpot_us / 1e3));
    if (o->kind_given) {
        json_object_set_new(header, "slo_kind", json_string(slo_kind_name(o->kind)));
        json_object_set_new(search, "slo_kind", json_string(slo_kind_name(o->kind)));
    }
    if (o->attainment_given) {
        json_object_set_new(header, "attainment_target", json_real(o->attainment));
        json_object_set_new(search, "attainment", json_real(o->attainment));
    }
}

static enum slo_kind kind_of(const json_t *header)
{
    enum slo_kind kind = SLO_MEAN;
    const char *name = json_string_value(json_object_get(header, "slo_kind"));
    if (name) slo_kind_parse(name, &kind);
    return kind;
}

/* Only the runs of a search belong together. */
static enum status take_header(void *context, json_t *header, struct error *err)
{
    struct replaying *replaying = context;
    struct replay_runs *runs = replaying->runs;
    header = json_deep_copy(header);
    judge_anew(replaying->options, header);
    end_replaying(replaying);
    replay_runs_add(runs, header);
    replaying->builder = summary_begin(kind_of(header));
    if (runs->count == 1 || (runs->list[0].rate > 0 && runs->list[runs->count - 1].rate > 0))
        return ST_OK;
    return fail(err, ST_BAD_FILE,
                "%s: found a second run, expected one, or those of a search: are these several "
                "records one behind the other?",
                replaying->options->from);
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
