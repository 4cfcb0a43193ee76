#include "traces/simulate/cells.h"

#include "base/base.h"

#define END_SHARE 5 /* at most a fifth of the run at either end is not scored */

struct collector {
    struct results_builder *record;
    int64_t from_us, until_us;
};

static void on_step(void *context, int64_t end_us, int64_t latency_us, int32_t width,
                    const struct step_load *load)
{
    struct collector *collector = context;
    (void)load;
    if (end_us >= collector->from_us && end_us < collector->until_us)
        results_add_step(collector->record, latency_us, width, 0);
}

static void on_record(void *context, const struct request_record *record)
{
    results_add(((struct collector *)context)->record, record);
}

static int64_t warm_of(const struct setting *setting, int64_t duration_us)
{
    int64_t most = duration_us / END_SHARE;
    return setting->warm_us < most ? setting->warm_us : most;
}

static void note_cell(struct cell *cell, const struct simulation_result *result)
{
    *cell = (struct cell){.gave_up = result->gave_up,
                          .requests = result->results->all.requests,
                          .virtual_s = (double)result->virtual_us / 1e6,
                          .scored_s = result->results->scored_s};
    for (int kind = 0; kind < SLO_KINDS; kind++)
        cell->slo[kind] = result->results->all.slo[kind];
}

enum status setting_run(const struct setting *setting, double load, int32_t seed,
                        double give_up_below, struct results_builder *record, struct cell *cell,
                        struct error *err)
{
    struct source_run run;
    enum status status = source_run(setting->source, seed, setting->closed ? 0 : load, &run, err);
    if (status) return status;
    if (!run.trace) { /* so low a rate that nobody came */
        *cell = (struct cell){0};
        return ST_OK;
    }

    int64_t duration_us = setting->closed ? setting->duration_us : run.duration_us;
    int64_t warm_us = warm_of(setting, duration_us);
    struct collector collector = {
        .record = record,
        .from_us = warm_us,
        .until_us = duration_us - (setting->closed ? 0 : warm_us),
    };
    struct simulation_options options = {
        .profile = setting->profile,
        .policy = setting->policy,
        .prefill_chunk = setting->chunk,
        .chunk_by_slo = setting->chunk_by_slo,
        .step_target_us = setting->slo.tpot_us,
        .seed = rng_at(setting->seed, (uint64_t)seed),
        .slo = setting->slo,
        .rate_scale = run.rate_scale,
        .concurrency = setting->closed ? (int32_t)load : 0,
        .duration_us = duration_us,
        .first = run.first,
        .warm_us = collector.from_us,
        .until_us = collector.until_us,
        .give_up_below = setting->closed ? 0 : give_up_below,
        .give_up_kind = setting->kind,
        .brief = true,
        .on_step = record ? on_step : NULL,
        .on_record = record ? on_record : NULL,
        .context = &collector,
    };
    struct simulation_result result = {0};
    status = simulation_run(&options, run.trace, &result, err);
    source_run_release(&run);
    if (status) return status;
    note_cell(cell, &result);
    results_free(result.results);
    return ST_OK;
}
