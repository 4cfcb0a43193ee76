/* What a step costs at least, stage by stage, and the table of where its time went
 * (kernels/step_clock.h).
 *
 * The floor of a stage is the larger of the bytes it must read from memory over the bandwidth and
 * its operations over the rate, both of bench/roof.h. What caches hold costs no bytes. The floor of
 * a step takes the sums over its stages first, because reading may overlap any arithmetic.
 */
#ifndef BENCH_STAGES_H
#define BENCH_STAGES_H

#include "bench/roof.h"
#include "model/model.h"

#include <jansson.h>

/* What one step does. */
struct step_work {
    double tokens, logit_rows;
    double context;  /* slots a token attends to, mean */
    double kv_reads; /* slots of a layer read from memory, all sequences together */
};

struct stage_cost {
    double bytes;
    double int8_operations, f32_operations;
};

struct step_costs {
    struct stage_cost stages[STEP_STAGES];
};
struct step_costs step_costs(const struct model *model, enum dtype kv_type, struct step_work work);
double step_floor_ms(const struct step_costs *costs, const struct roof *roof);

/* Milliseconds by stage of several steps. */
struct stage_times {
    double *ms; /* [STEP_STAGES][room] */
    int32_t count, room;
};
struct stage_times stage_times_create(int32_t room);
void stage_times_free(struct stage_times *times);
void stage_times_add(struct stage_times *times, const struct step_clock *clock);

/* [{"stage", "ms" (median), "floor_ms"}, ...], and its table; sorts the times. */
json_t *stages_to_json(struct stage_times *times, const struct step_costs *costs,
                       const struct roof *roof);
void print_stages(const char *title, const json_t *stages);

/* A line on what took less than its floor, where anything of a document of measure_steps did. */
void print_below_floor(const json_t *doc);

#endif
