#include "traces/simulate/cells.h"

#include "base/base.h"

#define END_SHARE 5  /* at most a fifth of the run at either end is not scored */
#define FEW       50 /* requests that a seed scores */

static int64_t warm_of(const struct setting *setting, int64_t duration_us)
{
    int64_t most = duration_us / END_SHARE;
    return setting->warm_us < most ? setting->warm_us : most;
}

static struct simulation_options options_of(const struct setting *setting, double load,
                                            int32_t seed, const struct source_run *run)
{
    int64_t duration_us = setting->closed ? setting->duration_us : run->duration_us;
    int64_t warm_us = warm_of(setting, duration_us);
    return (struct simulation_options){
        .profile = setting->profile,
        .policy = setting->policy,
        .prefill_chunk = setting->chunk,
        .chunk_by_slo = setting->chunk_by_slo,
        .step_target_us = setting->slo.tpot_us,
        .predictor_bias = setting->predictor_bias,
        .admission = setting->admission,
        .seed = rng_at(setting->seed, (uint64_t)seed),
        .slo = setting->slo,
        .kind = setting->kind,
        .rate_scale = run->rate_scale,
        .concurrency = setting->closed ? (int32_t)load : 0,
        .duration_us = duration_us,
        .first = run->first,
        .warm_us = warm_us,
        .until_us = duration_us - (setting->closed ? 0 : warm_us),
    };
}

/* Of an open-loop run, about. */
static bool are_few(const struct source_run *run, const struct simulation_options *options)
{
    if (!run->trace || run->duration_us == 0) return true;
    double share = (double)(options->until_us - options->warm_us) / (double)run->duration_us;
    return (double)run->trace->count * share < FEW;
}

/* Runs unless the rate is so low that nobody comes: then *result stays empty. */
static enum status run_options(const struct source_run *run,
                               const struct simulation_options *options,
                               struct simulation_result *result, struct error *err)
{
    *result = (struct simulation_result){0};
    return run->trace ? simulation_run(options, run->trace, result, err) : ST_OK;
}

enum status setting_run(const struct setting *setting, double load, int32_t seed,
                        double give_up_below, struct cell *cell, struct error *err)
{
    struct source_run run;
    struct simulation_result result;
    enum status status = source_run(setting->source, seed, setting->closed ? 0 : load, &run, err);
    if (status) return status;
    struct simulation_options options = options_of(setting, load, seed, &run);
    options.give_up_below = setting->closed || are_few(&run, &options) ? 0 : give_up_below;
    options.brief = true;
    status = run_options(&run, &options, &result, err);
    source_run_release(&run);
    *cell = (struct cell){.gave_up = result.gave_up,
                          .virtual_s = (double)result.virtual_us / 1e6,
                          .arrivals_s = setting->closed ? 0 : (double)run.duration_us / 1e6};
    if (!result.results) return status;
    cell->requests = result.results->all.requests;
    for (int kind = 0; kind < SLO_KINDS; kind++)
        cell->slo[kind] = result.results->all.slo[kind];
    results_free(result.results);
    return status;
}

static void record_step(void *context, int64_t end_us, int64_t latency_us, int32_t width,
                        const struct step_load *load)
{
    struct recording *recording = context;
    (void)load;
    series_add(recording->width, end_us, width);
    series_add(recording->step_ms, end_us, (double)latency_us / 1e3);
}

static void record_progress(void *context, double share)
{
    struct recording *recording = context;
    recording->progress(recording->context, share);
}

enum status setting_record(const struct setting *setting, double load, int32_t seed,
                           struct recording *recording, struct error *err)
{
    struct source_run run;
    struct simulation_result result;
    enum status status = source_run(setting->source, seed, setting->closed ? 0 : load, &run, err);
    if (status) return status;
    struct simulation_options options = options_of(setting, load, seed, &run);
    options.builder = recording->builder;
    options.on_step = recording->width ? record_step : NULL;
    options.on_progress = recording->progress ? record_progress : NULL;
    options.context = recording;
    status = run_options(&run, &options, &result, err);
    source_run_release(&run);
    recording->scored_s += result.scored_s;
    recording->not_scored += result.not_scored;
    if (options.warm_us > recording->warm_us) recording->warm_us = options.warm_us;
    recording->virtual_s += (double)result.virtual_us / 1e6;
    return status;
}
