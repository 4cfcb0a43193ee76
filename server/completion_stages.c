/* An answer in stages: its plan and driver before it is submitted, and its records in the log. */
#include "base/alloc.h"
#include "base/base.h"
#include "server/completion_private.h"

#include <stdlib.h>

#define MAX_STAGE_NUMBER UINT16_MAX /* of a record */

/* --- before it is submitted */

bool completion_plan_stages(struct completion *c, struct api_error *error)
{
    const struct api_request *r = &c->request;
    const struct server *server = c->exchange->server;
    const struct server_limits *limits = &server->options.limits;
    const struct stage_source source = {
        .tokenizer = server->model.tokenizer,
        .stages = r->stages,
        .stage_count = r->stage_count,
        .grammar = r->grammar,
        .stops = r->stops,
        .stop_count = r->grammar ? r->stop_count : 0,
        .max_branches = limits->max_branches,
        .max_sequences = min_i32(limits->max_sequences, MAX_STAGE_NUMBER),
        .include_stop = r->include_stop,
        .parse_special = r->endpoint == API_COMPLETIONS,
    };
    struct error err = {0};
    enum status status = stage_plan_create(&source, &c->stages, &err);
    if (status == ST_NO_MEMORY) return refuse_memory(error);
    if (status)
        return refuse(error, REFUSAL_INVALID_VALUE, r->grammar ? "branching" : "stages", "%s",
                      err.text);
    if (!r->stage_count) return true;
    c->stop_sets = must_alloc(r->stage_count * sizeof *c->stop_sets);
    for (size_t i = 0; i < r->stage_count; i++)
        c->stop_sets[i] = (struct stop_set){r->stages[i].stops, r->stages[i].stop_count};
    return true;
}

bool completion_fit_stages(struct completion *c, struct part *part, size_t prompt_count,
                           struct api_error *error)
{
    const struct served_model *model = &c->exchange->server->model;
    struct scheduler_counters pool;
    engine_counters(model->engine, &pool);
    part->need = stage_plan_need(c->stages, (int64_t)prompt_count, part->max_tokens,
                                 (int64_t)pool.blocks_total * KV_BLOCK_SLOTS);
    if (part->need.positions > model->context)
        return refuse(error, REFUSAL_CONTEXT_LENGTH, "stages",
                      "This model's maximum context length is %d tokens. However, the longest path "
                      "through the stages may have %lld (%zu in the %s). Please reduce the length "
                      "of the %s, or max_tokens of the stages.",
                      model->context, (long long)part->need.positions, prompt_count,
                      completion_prompt_field(c), completion_prompt_field(c));
    if (part->need.blocks > pool.blocks_total)
        return refuse(error, REFUSAL_TOO_LARGE_FOR_CACHE, "stages",
                      "The KV cache has room for %lld tokens (%d blocks of %d), but the stages may "
                      "need %lld blocks at the same time. Please reduce the number of branches or "
                      "their max_tokens.",
                      (long long)pool.blocks_total * KV_BLOCK_SLOTS, pool.blocks_total,
                      KV_BLOCK_SLOTS, (long long)part->need.blocks);
    return true;
}

static void log_stage(struct part *part);

bool completion_drive_stages(struct completion *c, struct api_error *error)
{
    for (int32_t i = 0; i < c->part_count; i++) {
        struct part *part = &c->parts[i];
        const struct token_list *prompt = &c->prompts[i];
        part->driver =
            stage_driver_create(c->stages, &part->need, c->exchange->server->model.context,
                                prompt->ids, (int32_t)prompt->count, c->request.sample.seed);
        if (!part->driver) return refuse_memory(error);
        log_stage(part);
    }
    return true;
}

/* --- records, by the engine's thread (the first stage's before it knows of them) */

static struct token_record record_of(const struct part *part, enum record_kind kind, int32_t branch)
{
    return (struct token_record){.kind = (uint8_t)kind,
                                 .choice = part->first_choice,
                                 .stage = (uint16_t)stage_driver_view(part->driver)->number,
                                 .branch = (uint16_t)branch};
}

static void log_given(struct part *part, int32_t branch, const int32_t *ids, int32_t count,
                      uint32_t skip)
{
    for (int32_t i = 0; i < count; i++) {
        struct token_record record = record_of(part, RECORD_GIVEN, branch);
        record.token = ids[i];
        record.skip = i ? 0 : skip;
        token_log_append(&part->completion->log, record, NULL);
    }
}

static void log_stage(struct part *part)
{
    const struct stage_view *view = stage_driver_view(part->driver);
    part->reason = FINISH_STOP;
    part->completion->branching |= view->parallel;
    for (int32_t i = 0; i < view->count; i++)
        part->watches[i] = (struct sequence_watch){0};
    if (view->hidden) return;
    struct token_record record = record_of(part, RECORD_STAGE, view->count);
    record.stops = view->stops;
    record.parallel = view->parallel;
    token_log_append(&part->completion->log, record, NULL);
    for (int32_t i = 0; i < view->count; i++)
        log_given(part, i, view->branches[i].prompt, view->branches[i].prompt_count,
                  i ? 0 : view->skip);
}

static int32_t branch_of(const struct part *part, int32_t index)
{
    return index - stage_driver_view(part->driver)->first_index;
}

static enum token_verdict on_token(void *context, int32_t index, const struct token_score *sampled,
                                   bool ends)
{
    struct part *part = context;
    int32_t branch = branch_of(part, index);
    completion_time_token(part, branch);
    struct token_record record = record_of(part, RECORD_TOKEN, branch);
    enum token_verdict verdict =
        stage_driver_token(part->driver, index, sampled->token, ends, &record.skip);
    record.ends = ends;
    completion_log_score(part->completion, record, sampled);
    return verdict;
}

static void on_finish(void *context, int32_t index, struct sequence_ending *ending)
{
    struct part *part = context;
    struct completion *c = part->completion;
    bool hidden = stage_driver_view(part->driver)->hidden;
    int32_t branch = branch_of(part, index);
    completion_time_finish(part, branch, ending->reason);
    uint32_t shown;
    struct token_record record = record_of(part, RECORD_END, branch);
    enum finish_reason reason = stage_driver_finish(part->driver, index, ending, &shown);
    if (hidden) return;
    if (reason > part->reason) part->reason = reason;
    log_given(part, branch, ending->appended, ending->appended_count, shown);
    record.reason = (uint8_t)reason;
    token_log_append(&c->log, record, NULL);
    if (c->request.stream) exchange_notify(c->exchange);
}

static bool on_next(void *context, struct stage_params *stage)
{
    struct part *part = context;
    if (!stage_driver_next(part->driver, stage)) return false;
    log_stage(part);
    return true;
}

static void on_done(void *context, const struct request_stats *stats)
{
    struct part *part = context;
    struct completion *c = part->completion;
    struct stage_flags flags = stage_driver_flags(part->driver);
    c->timings.malformed_branching |= flags.malformed;
    c->timings.empty_outline |= flags.empty_outline;
    c->timings.outline_beyond += flags.outline_beyond;
    if (stats->reason >= FINISH_ABORT) part->reason = stats->reason;
    if (stage_driver_failed(part->driver)) part->reason = FINISH_ERROR;
    if (part->reason > c->worst) c->worst = part->reason;
    token_log_append(&c->log,
                     (struct token_record){.kind = RECORD_FINISH,
                                           .choice = part->first_choice,
                                           .reason = (uint8_t)part->reason},
                     NULL);
    completion_done(part, stats);
}

struct request_events completion_stage_events(struct part *part)
{
    return (struct request_events){part, NULL, on_token, on_finish, on_next, on_done};
}
