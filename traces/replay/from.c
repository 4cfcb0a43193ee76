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

/* The object at `key`, a new one where the record, which may be anybody's, has none. */
static json_t *object_at(json_t *header, const char *key)
{
    json_t *object = json_object_get(header, key);
    if (json_is_object(object)) return object;
    object = json_object();
    json_object_set_new(header, key, object);
    return object;
}

/* In the place of what the run was told, and among what was judged anew. */
static void set_limit(json_t *header, const char *key, int64_t us)
{
    double ms = (double)us / 1e3;
    json_object_set_new(object_at(header, "slo"), key, json_real(ms));
    json_object_set_new(object_at(object_at(header, "judged_anew"), "slo"), key, json_real(ms));
}

static void set_both(json_t *header, const char *key, const char *search_key, json_t *value)
{
    json_object_set(json_object_get(header, "search"), search_key, value);
    json_object_set(object_at(header, "judged_anew"), key, value);
    json_object_set_new(header, key, value);
}

/* Puts what --from was told in the place of what the run was told, and its command beside the
 * run's. */
static void judge_anew(const struct replay_options *o, json_t *header)
{
    json_t *recorded = json_object_get(header, "command");
    json_object_del(header, "judged_anew"); /* a record has neither */
    json_object_del(header, "recorded_command");
    if (recorded) json_object_set(header, "recorded_command", recorded);
    json_object_set_new(header, "command", results_text(o->command));
    if (o->slo_ttft_given) set_limit(header, "ttft_ms", o->settings.slo.ttft_us);
    if (o->slo_tpot_given) set_limit(header, "tpot_ms", o->settings.slo.tpot_us);
    if (o->kind_given)
        set_both(header, "slo_kind", "slo_kind", json_string(slo_kind_name(o->kind)));
    if (o->attainment_given)
        set_both(header, "attainment_target", "attainment", json_real(o->attainment));
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
