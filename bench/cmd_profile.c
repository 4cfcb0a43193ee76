/* espalier profile: a step-latency profile of this engine on this machine, for espalier simulate.
 */
#include "bench/commands.h"
#include "bench/prediction.h"
#include "bench/profile_record.h"
#include "model/load_options.h"
#include "model/step_prior.h"
#include "quant/checkpoint/load_cache.h"
#include "traces/results/results.h"
#include "traces/simulate/profile.h"

#include "base/base.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JSON_FLAGS (JSON_INDENT(2) | JSON_REAL_PRECISION(9))
#define NAME_MOST  63   /* of a profile's file */
#define POOR_FIT   0.10 /* median error of a fit that says little of the engine */

struct profile_options {
    struct load_words load;
    const char *record, *name, *steps;
    double seconds;
    int64_t max_rows, chunk, seed;
    bool processor_time, json;
};

/* Gemm nodes hold what is fixed, too: a fit cannot tell the two apart. */
static json_t *fit_json(const struct profile_options *o, const struct model *model,
                        const struct executor_capacity *capacity, const struct profile_fit *fit)
{
    json_t *points = json_array();
    for (int32_t i = 0; i < fit->node_count; i++)
        json_array_append_new(points, json_pack("[ff]", fit->nodes[i], fit->node_us[i]));
    struct strbuf about = {0}, name = {0};
    strbuf_text(&name, o->name ? o->name : model_config(model)->name);
    strbuf_truncate(&name, NAME_MOST);
    strbuf_format(&about,
                  "%s, %s weights, %s, recorded by espalier " ESPALIER_VERSION
                  " from %lld steps; median error %.1f %%%s, %lld steps left out",
                  model_config(model)->name, weight_format_name(model_weights(model)),
                  model_backend_name(model), (long long)fit->samples, fit->median_error * 100,
                  fit->median_error > POOR_FIT ? " (poor: was the machine busy?)" : "",
                  (long long)fit->left_out);
    json_t *json = json_pack("{si so so s{ss so} sf sf sf sf ss sI si si si si}",
                             "espalier_profile", 1, "name", results_text(strbuf_cstr(&name)),
                             "about", results_text(strbuf_cstr(&about)), "gemm", "form", "points",
                             "points", points, "row_us", fit->row_us, "context_us", fit->context_us,
                             "prefill_context_us", fit->prefill_context_us, "noise",
                             fmin(fit->noise, PROFILE_NOISE_MOST), "shared_prefix", "blocks",
                             "kv_tokens", (json_int_t)capacity->block_count * KV_BLOCK_SLOTS,
                             "max_rows", (int)min_i32(capacity->max_rows, (int32_t)o->max_rows),
                             "max_tokens", (int)capacity->max_tokens, "max_context",
                             (int)capacity->max_context, "vocab", (int)capacity->vocab);
    strbuf_free(&about);
    strbuf_free(&name);
    invariant(json, "the profile's JSON could not be made");
    return json;
}

/* Beside the fit, which sees all steps before it says anything. */
static void print_prediction(const struct model *model, const struct recorded_steps *steps)
{
    struct step_prior prior = model_step_prior(model);
    struct prediction_errors errors = prediction_compare(steps->samples, steps->count, &prior);
    printf("the predictor of serve, learning as they ran: %.1f %% off on average",
           errors.learned_all * 100);
    if (errors.compared > 0)
        printf("; on the %lld steps that had others like them %.1f %%, where the best constants "
               "have %.1f %%",
               (long long)errors.compared, errors.learned * 100, errors.constants * 100);
    printf("\n\n");
}

static void print_fit(const struct profile_options *o, const struct model *model,
                      const struct profile_fit *fit, const struct recorded_steps *steps)
{
    printf("%lld steps, %lld left out as disturbed; median error %.1f %%, noise %.1f %%\n",
           (long long)fit->samples, (long long)fit->left_out, fit->median_error * 100,
           fit->noise * 100);
    print_prediction(model, steps);
    printf("  tokens in a step   ms\n");
    for (int32_t i = 0; i < fit->node_count; i++)
        printf("  %16.0f %8.3f\n", fit->nodes[i], fit->node_us[i] / 1e3);
    printf("  + %.2f us a decode row, %.4f us a slot of context, %.5f us a token and slot of "
           "prefill\n\nWritten to %s: espalier simulate --profile %s\n",
           fit->row_us, fit->context_us, fit->prefill_context_us, o->record, o->record);
}

/* Complete, or not there. Without JSON: only whether it could be. */
static enum status write_file(const char *path, const json_t *json, struct error *err)
{
    struct strbuf partial = {0};
    strbuf_format(&partial, "%s.partial", path);
    FILE *file = fopen(partial.data, "w");
    bool written = file && (!json || json_dumpf(json, file, JSON_FLAGS) == 0);
    if (file && fclose(file) != 0) written = false;
    if (written && json) written = rename(partial.data, path) == 0;
    enum status status = ST_OK;
    if (!written) status = fail(err, ST_IO, "--record %s: %s", path, strerror(errno));
    if (file && (!written || !json)) remove(partial.data);
    strbuf_free(&partial);
    return status;
}

/* One line a step, in the order in which they ran. */
static enum status write_steps(const char *path, const struct recorded_steps *steps,
                               struct error *err)
{
    FILE *file = fopen(path, "w");
    if (!file) return fail(err, ST_IO, "--steps %s: %s", path, strerror(errno));
    fputs("decode_rows,prefill_tokens,context_read,prefill_attention,us\n", file);
    for (int64_t i = 0; i < steps->count; i++) {
        const struct step_sample *sample = &steps->samples[i];
        fprintf(file, "%d,%d,%lld,%.0f,%.0f\n", (int)sample->load.decode_rows,
                (int)sample->load.prefill_tokens, (long long)sample->load.context_read,
                sample->load.prefill_attention, sample->us);
    }
    bool written = !ferror(file);
    if (fclose(file) != 0 || !written)
        return fail(err, ST_IO, "--steps %s: %s", path, strerror(errno));
    return ST_OK;
}

static void warn_of_poor_fit(const struct profile_fit *fit)
{
    if (fit->median_error <= POOR_FIT) return;
    log_warn("the median error of the fit is %.1f %%; below %.0f %% is expected. Other work on the "
             "machine is the usual cause: record again when it does nothing else",
             fit->median_error * 100, POOR_FIT * 100);
}

static enum status finish(const struct profile_options *o, const struct model *model,
                          const struct executor_capacity *capacity,
                          const struct recorded_steps *steps, struct error *err)
{
    struct profile_fit fit;
    enum status status = profile_fit(steps->samples, steps->count, &fit, err);
    if (status) return status;
    json_t *json = fit_json(o, model, capacity, &fit);
    status = write_file(o->record, json, err);
    if (!status && o->json) {
        json_dumpf(json, stdout, JSON_FLAGS);
        putchar('\n');
    } else if (!status) {
        print_fit(o, model, &fit, steps);
    }
    json_decref(json);
    fflush(stdout);
    if (!status) warn_of_poor_fit(&fit);
    return status;
}

static enum status record(const struct profile_options *o, struct error *err)
{
    struct model_options options = model_options_default();
    struct model *model;
    enum status status = load_options_resolve(&o->load, &options, err);
    if (!status) status = write_file(o->record, NULL, err);
    if (status) return status;
    options.max_rows = (int32_t)o->max_rows;
    options.max_tokens = (int32_t)(o->chunk + o->max_rows);
    options.progress = true;
    status = load_cache_model(&options, &model, err);
    if (status) return status;

    struct executor executor = model_executor(model);
    struct executor_capacity capacity;
    struct recorded_steps steps;
    executor.ops->capacity(executor.self, &capacity);
    struct record_options recording = {.executor = executor,
                                       .clock = o->processor_time ? clock_processor()
                                                                  : clock_monotonic(),
                                       .shared = SHARED_BLOCKS,
                                       .max_rows = (int32_t)o->max_rows,
                                       .prefill_chunk = (int32_t)o->chunk,
                                       .seconds = o->seconds,
                                       .seed = (uint64_t)o->seed};
    status = profile_record(&recording, &steps, err);
    if (!status && o->steps) status = write_steps(o->steps, &steps, err);
    if (!status) status = finish(o, model, &capacity, &steps, err);
    free(steps.samples);
    model_free(model);
    return status;
}

static bool name_allowed(const char *name)
{
    json_t *text = json_string(name);
    json_decref(text);
    return text && *name && strlen(name) <= NAME_MOST;
}

int command_profile(int argc, char **argv)
{
    static const struct command_help help = {
        "espalier profile",
        "espalier profile --model models/SmolLM2-135M-Instruct.Q4_1.gguf --record profile.json",
        "Runs the engine under a random load, records how long its steps take, and fits the "
        "profile that espalier simulate --profile FILE reads (docs/workloads.md)."};
    struct profile_options o = {
        .load = load_words_default(), .seconds = 30, .max_rows = 64, .chunk = 512, .seed = 1};
    struct option_spec table[9 + LOAD_OPTION_COUNT] = {
        {"record", OPT_STRING, &o.record, "FILE", "where the profile goes", 0, 0},
        {"steps", OPT_STRING, &o.steps, "FILE", "write every step to it too (CSV)", 0, 0},
        {"name", OPT_STRING, &o.name, "NAME", "its name (default: the model's)", 0, 0},
        {"seconds", OPT_REAL, &o.seconds, "S",
         "how long to record (default 30; longer until there are 300 steps)", 0, 0},
        {"max-rows", OPT_INT, &o.max_rows, "N", "most rows of a step (default 64)", 1, 4096},
        {"prefill-chunk", OPT_INT, &o.chunk, "N", "prompt tokens of a step (default 512)", 1,
         1 << 16},
        {"seed", OPT_INT, &o.seed, "N", "of the load (default 1)", 0, INT64_MAX},
        {"processor-time", OPT_FLAG, &o.processor_time, NULL,
         "measure that in place of the time that passes: with --threads 1, for a look at a machine "
         "that does\nother work too",
         0, 0},
        {"json", OPT_FLAG, &o.json, NULL, "print the profile, one JSON document", 0, 0},
    };
    size_t count = 9 + load_options_table(&o.load, table + 9);
    int parsed = options_parse(&help, table, count, argc, argv);
    if (parsed) return parsed > 0 ? 0 : 2;
    struct error err = {0};
    enum status status = ST_OK;
    if (!o.record)
        status = fail(&err, ST_USAGE, "--record FILE is needed: where the profile goes");
    else if (!(o.seconds > 0 && o.seconds <= 86400))
        status =
            fail(&err, ST_USAGE, "--seconds is %g; more than 0 up to 86400 is allowed", o.seconds);
    else if (o.name && !name_allowed(o.name))
        status = fail(&err, ST_USAGE, "--name is \"%.80s\"; a text of 1 to %d bytes is allowed",
                      o.name, NAME_MOST);
    if (!status) status = record(&o, &err);
    if (status) log_error("%s", err.text);
    return status == ST_OK ? 0 : status == ST_USAGE ? 2 : 1;
}
