/* The cost-model executor alone: what it reads in a plan, and the clock. */
#include "support_simulation.h"

#include "base/base.h"
#include "traces/simulate/cost_executor.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- loads */

static const struct sample_spec sampled = {0};

/* A row of `count` tokens whose view is `spans`. */
static struct plan_row row_of(const struct kv_span *spans, int32_t span_count, int32_t count,
                              bool samples)
{
    static uint64_t sequence;
    struct plan_row row = {.sequence = ++sequence,
                           .count = count,
                           .previous_row = -1,
                           .view = {.spans = spans, .span_count = span_count},
                           .sample = samples ? &sampled : NULL};
    for (int32_t i = 0; i < span_count; i++)
        row.view.length += spans[i].length;
    return row;
}

static int64_t context_read(enum shared_prefix shared, const struct plan_row *rows, int32_t count)
{
    struct load_meter *meter = load_meter_create(shared, 8, 64);
    int64_t read = 0;
    for (int step = 0; step < 3; step++) { /* one step leaves nothing to the next */
        int64_t now = load_meter_measure(meter, rows, count).context_read;
        cr_assert(step == 0 || now == read);
        read = now;
    }
    load_meter_free(meter);
    return read;
}

/* Two requests; the first has three branches behind 40 slots of two earlier stages, and one branch
 * more that stands apart in the plan; the second shares two blocks with it through the tree. */
Test(cost_executor, what_is_read_once)
{
    int32_t before[] = {0, 1}, joined[] = {2}, other[] = {0, 1, 9};
    int32_t own[4][2] = {{3, 4}, {5}, {6}, {7}};
    struct kv_span spans[4][3];
    for (int i = 0; i < 4; i++) {
        spans[i][0] = (struct kv_span){before, 0, 32, 0};
        spans[i][1] = (struct kv_span){joined, 4, 8, 32};
        spans[i][2] = (struct kv_span){own[i], 0, i == 0 ? 20 : 10 + i, 40};
    }
    struct kv_span flat = {other, 0, 37, 0};
    struct plan_row rows[] = {row_of(spans[0], 3, 1, true), row_of(spans[1], 3, 1, true),
                              row_of(spans[2], 3, 1, true), row_of(&flat, 1, 1, true),
                              row_of(spans[3], 3, 1, true)};
    int64_t own_slots = 20 + 11 + 12 + 13;
    cr_assert_eq(context_read(SHARED_NONE, rows, 5), 4 * 40 + own_slots + 37);
    cr_assert_eq(context_read(SHARED_SIBLINGS, rows, 5), 40 + own_slots + 37);
    cr_assert_eq(context_read(SHARED_BLOCKS, rows, 5), 40 + own_slots + 5);
}

/* Only rows of one token that is wanted are decode rows. */
Test(cost_executor, decode_and_prefill)
{
    int32_t blocks[] = {0, 1, 2, 3};
    struct kv_span view = {blocks, 0, 50, 0};
    struct plan_row rows[] = {row_of(&view, 1, 1, true), row_of(&view, 1, 1, false),
                              row_of(&view, 1, 20, true), row_of(&view, 1, 8, false)};
    struct load_meter *meter = load_meter_create(SHARED_NONE, 8, 64);
    struct step_load load = load_meter_measure(meter, rows, 4);
    cr_assert_eq(load.decode_rows, 1);
    cr_assert_eq(load.prefill_tokens, 29);
    cr_assert_eq(load.context_read, 50);
    /* Means of 49 + 1/2, 30 + 10, 42 + 4 slots before and in the rows. */
    cr_assert_float_eq(load.prefill_attention, 1 * 49.5 + 20 * 40.0 + 8 * 46.0, 1e-9);
    load_meter_free(meter);
}

/* --- time */

static struct profile *linear(const char *rest)
{
    char text[512];
    snprintf(text, sizeof text,
             "{\"espalier_profile\": 1, \"name\": \"x\", \"kv_tokens\": 4096, %s \"gemm\": "
             "{\"form\": \"linear\", \"base_us\": 1000, \"token_us\": 10}}",
             rest);
    char *path = file_of(text);
    struct profile *profile = the_profile(path);
    free_file(path);
    return profile;
}

struct desk {
    struct cost_executor *cost;
    struct executor door;
    int64_t now_us;
    struct plan_row row;
    struct kv_span view;
    int32_t block;
    struct step_plan plan;
    struct row_result result;
    struct cost_step last;
};

static void note(void *context, const struct cost_step *step)
{
    struct desk *desk = context;
    cr_assert_geq(desk->now_us, step->end_us);
    desk->last = *step;
}

static void open_desk(struct desk *desk, const struct profile *profile, uint64_t seed)
{
    *desk = (struct desk){.view = {.blocks = &desk->block, .length = 1}};
    desk->cost = cost_executor_create(profile, seed, &desk->now_us);
    desk->door = cost_executor_door(desk->cost);
    desk->row = row_of(&desk->view, 1, 1, true);
    desk->plan = (struct step_plan){.rows = &desk->row, .row_count = 1, .token_count = 1};
    cost_executor_on_step(desk->cost, note, desk);
}

static uint64_t submit(struct desk *desk)
{
    uint64_t ticket;
    struct error err;
    cr_assert_eq(desk->door.ops->submit(desk->door.self, &desk->plan, &ticket, &err), ST_OK);
    return ticket;
}

static void collect(struct desk *desk, uint64_t ticket)
{
    struct error err;
    memset(&desk->result, 0x55, sizeof desk->result);
    cr_assert_eq(desk->door.ops->collect(desk->door.self, ticket, &desk->result, &err), ST_OK);
    cr_assert(desk->result.sampled.token >= 0 && desk->result.sampled.token < 151936);
    cr_assert_eq(desk->result.sampled.top_count, 0);
}

/* A step begins when it is submitted or the one before it ends, whichever is later. */
Test(cost_executor, one_step_at_a_time)
{
    struct profile *profile = linear("\"depth\": 2,");
    struct desk desk;
    open_desk(&desk, profile, 1);
    uint64_t first = submit(&desk), second = submit(&desk);
    cr_assert_eq(desk.now_us, 0);
    collect(&desk, first);
    cr_assert_eq(desk.now_us, 1010);
    uint64_t third = submit(&desk); /* at 1010, while the second runs */
    collect(&desk, second);
    cr_assert_eq(desk.now_us, 2020);
    cr_assert(desk.last.start_us == 1010 && desk.last.end_us == 2020 && desk.last.rows == 1);
    desk.now_us = 2500; /* the owner was late: the step is over when it ends, not when seen */
    collect(&desk, third);
    cr_assert_eq(desk.last.end_us, 3030);
    desk.now_us = 9000;
    uint64_t fourth = submit(&desk);
    collect(&desk, fourth);
    cr_assert(desk.last.start_us == 9000 && desk.now_us == 10010);
    cost_executor_free(desk.cost);
    profile_free(profile);
}

/* Lognormal of mean 1 and the sigma asked for; the same for the same seed. */
Test(cost_executor, noise)
{
    struct profile *profile = linear("\"noise\": 0.2,");
    struct desk desk, twin;
    double sum = 0, logs = 0, squares = 0;
    int count = 40000;
    open_desk(&desk, profile, 5);
    open_desk(&twin, profile, 5);
    twin.row.sequence = desk.row.sequence;
    for (int i = 0; i < count; i++) {
        collect(&desk, submit(&desk));
        collect(&twin, submit(&twin));
        cr_assert(desk.now_us == twin.now_us &&
                  desk.result.sampled.token == twin.result.sampled.token);
        double factor = (double)(desk.last.end_us - desk.last.start_us) / 1010;
        cr_assert_eq(desk.last.predicted_us, 1010);
        sum += factor;
        logs += log(factor);
        squares += log(factor) * log(factor);
    }
    double mean = logs / count;
    cr_assert_float_eq(sum / count, 1, 0.005);
    cr_assert_float_eq(sqrt(squares / count - mean * mean), 0.2, 0.005);
    cost_executor_free(desk.cost);
    cost_executor_free(twin.cost);
    profile_free(profile);
}

/* Profiles of absurd times do not make the clock run over. */
Test(cost_executor, the_longest_step)
{
    struct profile *profile = linear("\"context_us\": 1e6, \"noise\": 2,");
    struct desk desk;
    int64_t before_us = 0;
    open_desk(&desk, profile, 3);
    desk.row.view.length = 1 << 30;
    for (int i = 0; i < 20000; i++) {
        collect(&desk, submit(&desk));
        cr_assert(desk.now_us > before_us && desk.now_us - before_us <= 10000000000);
        before_us = desk.now_us;
    }
    cost_executor_free(desk.cost);
    profile_free(profile);
}
