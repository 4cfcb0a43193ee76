#include "bench/stages.h"
#include "base/base.h"
#include "bench/measure.h"

#include <stdio.h>
#include <stdlib.h>

/* --- costs */

/* f32 operations a value: mean of squares, scaling, then largest values, largest, rounding. */
#define PREPARE_OPERATIONS 10.0
/* f32 operations a value of q and k: two products and a sum. */
#define ROTATE_OPERATIONS 3.0

/* Rows `rows` times a matrix of `weights` values that lies in `bytes`. */
static struct stage_cost product_cost(const struct model *m, size_t bytes, double weights,
                                      double rows)
{
    struct stage_cost cost = {.bytes = rows > 0 ? (double)bytes : 0};
    if (model_weights(m) == WEIGHT_NATIVE)
        cost.f32_operations = 2 * weights * rows;
    else
        cost.int8_operations = 2 * weights * rows;
    return cost;
}

struct step_costs step_costs(const struct model *m, enum dtype kv_type, struct step_work work)
{
    const struct model_config *c = model_config(m);
    struct model_weight_sizes sizes = model_weight_sizes(m);
    double layers = c->layers, hidden = c->hidden, inner = c->intermediate;
    double attended = (double)c->heads * c->head_dim, kv = (double)c->kv_heads * c->head_dim;
    double qkv = attended + 2 * kv, head = (double)c->vocab * hidden;
    double slot_bytes = 2 * layers * kv * (kv_type == DT_F32 ? 4 : 2);
    double prepared = layers * work.tokens * (2 * hidden + attended + inner);
    struct step_costs costs = {0};
    struct stage_cost *s = costs.stages;
    s[STEP_EMBED].bytes = work.tokens * (double)sizes.embedding / c->vocab;
    s[STEP_PREPARE].f32_operations = PREPARE_OPERATIONS * (prepared + work.logit_rows * hidden);
    s[STEP_QKV] = product_cost(m, sizes.qkv, layers * hidden * qkv, work.tokens);
    s[STEP_HEADS].f32_operations = ROTATE_OPERATIONS * layers * work.tokens * (attended + kv);
    s[STEP_ATTENTION].bytes = slot_bytes * work.kv_reads;
    s[STEP_ATTENTION].f32_operations = 4 * layers * attended * work.context * work.tokens;
    s[STEP_OUTPUT] = product_cost(m, sizes.output, layers * attended * hidden, work.tokens);
    s[STEP_GATE_UP] = product_cost(m, sizes.gate_up, 2 * layers * hidden * inner, work.tokens);
    s[STEP_DOWN] = product_cost(m, sizes.down, layers * inner * hidden, work.tokens);
    s[STEP_HEAD] =
        product_cost(m, sizes.head ? sizes.head : sizes.embedding, head, work.logit_rows);
    s[STEP_SAMPLE].f32_operations = (double)c->vocab * work.logit_rows;
    return costs;
}

static double cost_ms(struct stage_cost cost, const struct roof *roof)
{
    double by_bytes = cost.bytes / roof->bytes_per_s;
    double by_operations =
        cost.int8_operations / roof->int8_ops_per_s + cost.f32_operations / roof->f32_ops_per_s;
    return 1e3 * (by_bytes > by_operations ? by_bytes : by_operations);
}

double step_floor_ms(const struct step_costs *costs, const struct roof *roof)
{
    struct stage_cost all = {0};
    for (int i = 0; i < STEP_STAGES; i++) {
        all.bytes += costs->stages[i].bytes;
        all.int8_operations += costs->stages[i].int8_operations;
        all.f32_operations += costs->stages[i].f32_operations;
    }
    return cost_ms(all, roof);
}

/* --- times */

struct stage_times stage_times_create(int32_t room)
{
    size_t count = STEP_STAGES * (size_t)room;
    return (struct stage_times){.ms = must_alloc(count * sizeof(double)), .room = room};
}

void stage_times_free(struct stage_times *times)
{
    free(times->ms);
}

void stage_times_add(struct stage_times *times, const struct step_clock *clock)
{
    invariant(times->count < times->room, "more than %d steps", times->room);
    for (int i = 0; i < STEP_STAGES; i++)
        times->ms[i * times->room + times->count] = (double)clock->ns[i] * 1e-6;
    times->count++;
}

json_t *stages_to_json(struct stage_times *times, const struct step_costs *costs,
                       const struct roof *roof)
{
    json_t *list = json_array();
    for (int i = 0; i < STEP_STAGES; i++) {
        double ms = bench_median(times->ms + i * times->room, times->count);
        json_array_append_new(list, json_pack("{s:s, s:f, s:f}", "stage", step_stage_name(i), "ms",
                                              ms, "floor_ms", cost_ms(costs->stages[i], roof)));
    }
    return list;
}

void print_stages(const char *title, const json_t *stages)
{
    json_t *stage;
    size_t i;
    double all = 0;
    json_array_foreach(stages, i, stage) all += json_real_value(json_object_get(stage, "ms"));
    printf("\n%-20s %10s %10s %9s %8s\n", title, "ms", "floor ms", "of floor", "of step");
    json_array_foreach(stages, i, stage)
    {
        double ms = json_real_value(json_object_get(stage, "ms"));
        double least = json_real_value(json_object_get(stage, "floor_ms"));
        char ratio[32] = "-";
        if (least > 0) snprintf(ratio, sizeof ratio, "%.2fx", ms / least);
        printf("  %-18s %10.3f %10.3f %9s %7.1f%%\n",
               json_string_value(json_object_get(stage, "stage")), ms, least, ratio,
               all > 0 ? 100 * ms / all : 0);
    }
}

/* Of a measurement or a stage; what rounding may hide is no reason for words. */
static bool below_floor(const json_t *row)
{
    double ms = json_number_value(json_object_get(row, "ms"));
    return ms < 0.98 * json_number_value(json_object_get(row, "floor_ms"));
}

static bool any_below_floor(const json_t *rows)
{
    const json_t *row, *stage;
    size_t i, k;
    json_array_foreach(rows, i, row)
    {
        if (below_floor(row)) return true;
        json_array_foreach(json_object_get(row, "stages"), k, stage)
        {
            if (below_floor(stage)) return true;
        }
    }
    return false;
}

void print_below_floor(const json_t *doc)
{
    if (!any_below_floor(json_object_get(doc, "decode")) &&
        !any_below_floor(json_object_get(doc, "prefill")))
        return;
    double cache = json_number_value(json_object_get(doc, "last_level_cache_bytes"));
    printf(
        "\nBelow 1.00x: a floor counts every byte as read from memory. "
        "The last-level cache (%.0f MB) may\n"
        "hold a part from the step before; a stage's time is one thread's, and the others may have "
        "done\n"
        "more of it (barriers); or the machine was busier while the roof was measured.\n",
        cache / (1 << 20));
}
