#include "base/base.h"
#include "server/generate.h"
#include "server/generate_answer.h"
#include "server/generate_screen.h"

#include <signal.h>
#include <stdlib.h>

/* One answer being made: what the request's events write to. */
struct run {
    const struct generation *g;
    const struct stage_file *file;
    struct stage_plan *plan;
    struct stage_need need;
    struct stage_driver *driver;
    struct answer answer;
    struct screen *screen;
    struct request_stats stats;
    bool done;
};

/* --- events */

/* The stage that runs, or NULL: it is hidden. */
static struct answer_stage *stage_of(struct run *run)
{
    const struct stage_view *view = stage_driver_view(run->driver);
    return view->hidden ? NULL : &run->answer.stages[run->answer.count - 1];
}

static void append_text(struct run *run, int32_t index, const char *text, size_t length)
{
    int32_t branch = index - stage_driver_view(run->driver)->first_index;
    strbuf_append(&stage_of(run)->branches[branch].text, text, length);
    screen_text(run->screen, branch, text, length);
}

/* What is given to a branch, but for the bytes that the stage before showed. */
static void append_given(struct run *run, const struct stage_view *view, int32_t branch)
{
    const struct branch_params *params = &view->branches[branch];
    struct answer_branch *shown = &stage_of(run)->branches[branch];
    struct strbuf text = {0};
    for (int32_t i = 0; i < params->prompt_count; i++)
        token_list_append(&shown->tokens, params->prompt[i]);
    shown->given = shown->tokens.count;
    tokenizer_decode(model_tokenizer(run->g->model), params->prompt, (size_t)params->prompt_count,
                     false, &text);
    strbuf_drop_front(&text, branch ? 0 : min_i32((int32_t)view->skip, (int32_t)text.length));
    append_text(run, view->first_index + branch, strbuf_cstr(&text), text.length);
    strbuf_free(&text);
}

static void begin_stage(struct run *run)
{
    const struct stage_view *view = stage_driver_view(run->driver);
    if (view->hidden) return;
    answer_add_stage(&run->answer, view->parallel, view->count);
    screen_begin(run->screen, &run->answer);
    for (int32_t i = 0; i < view->count; i++)
        append_given(run, view, i);
}

static void append_driven(struct run *run, int32_t index)
{
    size_t length;
    const char *text = stage_driver_text(run->driver, &length);
    append_text(run, index, text, length);
}

static enum token_verdict on_token(void *context, int32_t index, const struct token_score *sampled,
                                   bool ends)
{
    struct run *run = context;
    struct answer_stage *stage = stage_of(run);
    int32_t branch = index - stage_driver_view(run->driver)->first_index;
    uint32_t cut;
    enum token_verdict verdict = stage_driver_token(run->driver, index, sampled->token, ends, &cut);
    token_list_append(&stage->branches[branch].tokens, sampled->token);
    append_driven(run, index);
    return verdict;
}

static void on_finish(void *context, int32_t index, struct sequence_ending *ending)
{
    struct run *run = context;
    struct answer_stage *stage = stage_of(run);
    uint32_t shown;
    enum finish_reason reason = stage_driver_finish(run->driver, index, ending, &shown);
    if (!stage) return;
    append_driven(run, index);
    struct answer_branch *branch =
        &stage->branches[index - stage_driver_view(run->driver)->first_index];
    branch->ended = true;
    branch->reason = reason;
    if (reason >= FINISH_ABORT) return;
    branch->tokens.count = branch->given + (size_t)ending->kept;
    for (int32_t i = 0; i < ending->appended_count; i++)
        token_list_append(&branch->tokens, ending->appended[i]);
}

static bool on_next(void *context, struct stage_params *stage)
{
    struct run *run = context;
    if (!stage_driver_next(run->driver, stage)) return false;
    begin_stage(run);
    return true;
}

static void on_done(void *context, const struct request_stats *stats)
{
    struct run *run = context;
    run->stats = *stats;
    run->done = true;
}

/* --- before any work */

static enum status make_plan(struct run *run, struct error *err)
{
    const struct api_request *r = &run->file->request;
    const struct stage_source source = {
        .tokenizer = model_tokenizer(run->g->model),
        .stages = r->stages,
        .stage_count = r->stage_count,
        .grammar = r->grammar,
        .max_branches = run->file->limits.max_branches,
        .max_sequences = run->file->limits.max_sequences,
        .parse_special = !run->g->chat,
    };
    enum status status = stage_plan_create(&source, &run->plan, err);
    return status ? fail_prefix(err, "%s", run->file->name) : ST_OK;
}

static enum status check_room(const struct run *run, int32_t context, int32_t blocks,
                              struct error *err)
{
    const struct stage_need *need = &run->need;
    const char *name = run->file->name;
    if (need->positions > context)
        return fail(err, ST_INVALID,
                    "%s: the longest path through the stages may have %lld tokens (%zu in the "
                    "prompt); at most %d are allowed: give fewer max_tokens, or a --context or "
                    "--kv-memory with more room where the model has it",
                    name, (long long)need->positions, run->g->prompt.count, context);
    if (need->blocks > blocks)
        return fail(err, ST_INVALID,
                    "%s: the stages may need %lld blocks of %d tokens at the same time; the KV "
                    "cache has %d: give fewer branches or max_tokens, or more --kv-memory",
                    name, (long long)need->blocks, KV_BLOCK_SLOTS, blocks);
    return ST_OK;
}

/* A model that forks by itself may write until the context ends. */
static int32_t grammar_tokens(const struct run *run, int32_t context)
{
    const struct generate_options *o = run->g->options;
    return o->max_tokens ? (int32_t)o->max_tokens
                         : max_i32(1, context - (int32_t)run->g->prompt.count);
}

static enum status make_driver(struct run *run, const struct scheduler *scheduler,
                               struct error *err)
{
    const struct token_list *prompt = &run->g->prompt;
    int32_t context = scheduler_max_length(scheduler, 1);
    struct scheduler_counters pool;
    scheduler_counters(scheduler, &pool);
    run->need = stage_plan_need(run->plan, (int64_t)prompt->count, grammar_tokens(run, context),
                                (int64_t)pool.blocks_total * KV_BLOCK_SLOTS);
    enum status status = check_room(run, context, pool.blocks_total, err);
    if (status) return status;
    run->driver = stage_driver_create(run->plan, &run->need, context, prompt->ids,
                                      (int32_t)prompt->count, (uint64_t)run->g->options->seed);
    if (!run->driver) return fail(err, ST_NO_MEMORY, "there is no memory for the answer");
    return ST_OK;
}

/* --- the work */

static volatile sig_atomic_t caught;

static void catch_signal(int number)
{
    caught = number;
}

/* On a terminal the first signal ends the answer between two steps, so that the screen is left in
 * order; a second one ends the process as ever. */
static void heed_signals(bool heed)
{
    struct sigaction action = {.sa_handler = heed ? catch_signal : SIG_DFL};
    action.sa_flags = heed ? (int)SA_RESETHAND | SA_RESTART : 0;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static enum status tick(struct run *run, struct scheduler *scheduler, struct error *err)
{
    begin_stage(run);
    enum status status = screen_show(run->screen, err);
    while (!status && !run->done && !caught) {
        scheduler_tick(scheduler);
        status = screen_show(run->screen, err);
    }
    return status ? status : screen_end(run->screen, err);
}

static enum status submit(struct run *run, struct scheduler *scheduler, struct error *err)
{
    enum status status = make_driver(run, scheduler, err);
    if (status) return status;
    uint64_t id;
    struct request_params params = generation_params(run->g);
    stage_driver_first(run->driver, &params);
    params.events = (struct request_events){run, NULL, on_token, on_finish, on_next, on_done};
    status = scheduler_add(scheduler, &params, &id, err);
    return status ? fail_prefix(err, "%s", run->file->name) : ST_OK;
}

static enum status make_answer(struct run *run, struct error *err)
{
    struct scheduler_options options = scheduler_options_default();
    struct scheduler *scheduler;
    enum status status = scheduler_create(&options, model_executor(run->g->model),
                                          clock_monotonic(), &scheduler, err);
    if (status) return status;
    status = submit(run, scheduler, err);
    bool columns = screen_has_columns(run->screen);
    if (columns) heed_signals(true);
    if (!status) status = tick(run, scheduler, err);
    if (columns) heed_signals(false);
    scheduler_free(scheduler);
    if (status || caught) return status;
    if (run->stats.reason == FINISH_ERROR || stage_driver_failed(run->driver))
        return fail(err, ST_INTERNAL, "the engine failed while generating");
    return ST_OK;
}

/* --- what is said at the end */

static void print_json(const struct run *run)
{
    struct strbuf text = {0};
    struct token_list tokens = {0};
    struct stage_flags flags = stage_driver_flags(run->driver);
    answer_join(&run->answer, &text, &tokens);
    json_t *doc = generation_json(run->g, &run->stats, &text, &tokens, answer_reason(&run->answer));
    json_t *timings = json_object_get(doc, "timings");
    if (flags.malformed) json_object_set_new(timings, "malformed_branching", json_true());
    if (flags.empty_outline) json_object_set_new(timings, "empty_outline", json_true());
    if (flags.outline_beyond)
        json_object_set_new(timings, "outline_beyond", json_integer(flags.outline_beyond));
    json_object_set_new(doc, "stages", answer_json(&run->answer));
    generation_print_json(doc);
    strbuf_free(&text);
    free(tokens.ids);
}

static void print_summary(const struct run *run)
{
    struct stage_flags flags = stage_driver_flags(run->driver);
    generation_summary(run->g, &run->stats);
    if (flags.malformed)
        log_warn("tags were not nested as the grammar says, so that they stayed text");
    if (flags.empty_outline) log_warn("an outline had no items, so that its stage was skipped");
    if (flags.outline_beyond)
        log_warn("%d items of an outline were more than its max and got no branch",
                 flags.outline_beyond);
}

enum status generate_stages(const struct generation *g, const struct stage_file *file,
                            int *interrupted, struct error *err)
{
    struct run run = {.g = g, .file = file, .screen = screen_create(g->options->json)};
    enum status status = make_plan(&run, err);
    if (!status) status = make_answer(&run, err);
    *interrupted = caught;
    if (!status && caught) {
        putchar('\n');
        fflush(stdout);
    } else if (!status) {
        g->options->json ? print_json(&run) : print_summary(&run);
    }
    screen_free(run.screen);
    answer_release(&run.answer);
    stage_driver_free(run.driver);
    stage_plan_free(run.plan);
    return status;
}
