#include "server/generate.h"

#include <stdio.h>
#include <stdlib.h>

/* What the request's events write to. */
struct output {
    const struct tokenizer *tokenizer;
    struct detokenizer detokenizer;
    struct strbuf piece, text;
    struct token_list tokens;
    struct request_stats stats;
    enum finish_reason reason;
    bool quiet, done;
};

static enum token_verdict on_token(void *context, int32_t index, const struct token_score *sampled,
                                   bool ends)
{
    struct output *out = context;
    int32_t token = sampled->token;
    (void)index;
    token_list_append(&out->tokens, token);
    if (ends) return TOKEN_KEEP; /* the EOS itself is not part of the text */
    strbuf_clear(&out->piece);
    detokenizer_push(&out->detokenizer, out->tokenizer, token, false, &out->piece);
    strbuf_append(&out->text, strbuf_cstr(&out->piece), out->piece.length);
    if (!out->quiet) {
        fwrite(strbuf_cstr(&out->piece), 1, out->piece.length, stdout);
        fflush(stdout);
    }
    return TOKEN_KEEP;
}

static void on_finish(void *context, int32_t index, struct sequence_ending *ending)
{
    struct output *out = context;
    (void)index;
    out->reason = ending->reason;
    strbuf_clear(&out->piece);
    detokenizer_finish(&out->detokenizer, &out->piece);
    strbuf_append(&out->text, strbuf_cstr(&out->piece), out->piece.length);
    if (!out->quiet) fwrite(strbuf_cstr(&out->piece), 1, out->piece.length, stdout);
}

static void on_done(void *context, const struct request_stats *stats)
{
    struct output *out = context;
    out->stats = *stats;
    out->done = true;
}

static enum status run_request(const struct generation *g, struct output *out, struct error *err)
{
    int32_t room = model_context(g->model) - (int32_t)g->prompt.count;
    struct request_params params = generation_params(g);
    params.n = 1;
    params.max_tokens = g->options->max_tokens ? (int32_t)g->options->max_tokens : max_i32(room, 1);
    params.events = (struct request_events){out, NULL, on_token, on_finish, NULL, on_done};
    struct scheduler_options options = scheduler_options_default();
    struct scheduler *scheduler;
    uint64_t id;
    enum status status =
        scheduler_create(&options, model_executor(g->model), clock_monotonic(), &scheduler, err);
    if (status) return status;
    status = scheduler_add(scheduler, &params, &id, err);
    while (!status && !out->done)
        scheduler_tick(scheduler);
    scheduler_free(scheduler);
    if (!status && out->reason == FINISH_ERROR)
        return fail(err, ST_INTERNAL, "the engine failed while generating");
    return status;
}

enum status generate_plain(const struct generation *g, struct error *err)
{
    struct output out = {.quiet = g->options->json, .tokenizer = model_tokenizer(g->model)};
    enum status status = run_request(g, &out, err);
    if (!status && g->options->json)
        generation_print_json(generation_json(g, &out.stats, &out.text, &out.tokens, out.reason));
    if (!status && !g->options->json) generation_summary(g, &out.stats);
    free(out.tokens.ids);
    strbuf_free(&out.piece);
    strbuf_free(&out.text);
    return status;
}
