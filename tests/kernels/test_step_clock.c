/* The stages of a step that is marked: which operator's time is whose, and that they add up. */
#include "support_rig.h"
#include "kernels/step_clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { HIDDEN = 64, INNER = 96 };

static int64_t total(const struct step_clock *clock)
{
    int64_t sum = 0;
    for (int i = 0; i < STEP_STAGES; i++)
        sum += clock->ns[i];
    return sum;
}

Test(step_clock, every_stage_has_a_name)
{
    for (int i = 0; i < STEP_STAGES; i++)
        cr_expect(ne(ptr, (void *)step_stage_name(i), NULL));
}

Test(step_clock, a_mark_takes_what_lies_before_it)
{
    struct step_clock clock = {0};
    step_clock_start(&clock);
    int64_t first = clock.last;
    step_clock_mark(&clock, STEP_QKV);
    step_clock_mark(&clock, STEP_DOWN);
    step_clock_mark(&clock, STEP_QKV);
    cr_expect(eq(i64, total(&clock), clock.last - first));
    step_clock_start(&clock);
    cr_expect(eq(i64, clock.ns[STEP_REST], 0));
}

/* gate_up then linear_add: preparing, both products and the waits, and nothing else; without the
 * clock, nothing. */
Test(step_clock, operators_mark_their_stages)
{
    struct rng rng = {7};
    struct rig rig = rig_open(CPU_PORTABLE, 2);
    const struct backend_ops *ops = rig.backend->ops;
    struct matrix x = matrix_random(&rng, 3, HIDDEN, 1.0f, DT_F32);
    struct matrix pair[2] = {matrix_random(&rng, INNER, HIDDEN, 0.1f, DT_F32),
                             matrix_random(&rng, INNER, HIDDEN, 0.1f, DT_F32)};
    struct matrix down = matrix_random(&rng, HIDDEN, INNER, 0.1f, DT_F32);
    struct matrix ones = matrix_random(&rng, 1, HIDDEN, 1.0f, DT_F32);
    struct weight *gate_up = rig_weight(&rig, pair, 2, true, WEIGHT_W8, DT_F32);
    struct weight *w = rig_weight(&rig, &down, 1, false, WEIGHT_W8, DT_F32);
    struct tensor *in = rig_tensor(&rig, &x), *norm = rig_tensor(&rig, &ones);
    struct tensor *inner = ops->tensor_create(rig.backend, 3, INNER);
    struct step_input input;
    struct step_clock clock = {0};
    int32_t tokens[3] = {0};
    ops->step_clock(rig.backend, &clock);
    step_clock_start(&clock);
    int64_t first = clock.last;
    rig_step(&rig, 3, tokens, &input);
    ops->norm_gate_up(rig.backend, in, norm, 1e-5f, gate_up, inner);
    ops->linear_add(rig.backend, w, inner, in);
    cr_expect(eq(i64, total(&clock), clock.last - first));
    const enum step_stage done[] = {STEP_PREPARE, STEP_GATE_UP, STEP_DOWN};
    for (size_t i = 0; i < COUNT_OF(done); i++)
        cr_expect(gt(i64, clock.ns[done[i]], 0), "%s", step_stage_name(done[i]));
    const enum step_stage others[] = {STEP_EMBED, STEP_QKV,    STEP_HEADS, STEP_ATTENTION,
                                      STEP_HEAD,  STEP_SAMPLE, STEP_OUTPUT};
    for (size_t i = 0; i < COUNT_OF(others); i++)
        cr_expect(eq(i64, clock.ns[others[i]], 0), "%s", step_stage_name(others[i]));
    int64_t before = total(&clock);
    ops->step_clock(rig.backend, NULL);
    ops->norm_gate_up(rig.backend, in, norm, 1e-5f, gate_up, inner);
    cr_expect(eq(i64, total(&clock), before));
    ops->tensor_free(rig.backend, in);
    ops->tensor_free(rig.backend, norm);
    ops->tensor_free(rig.backend, inner);
    ops->weight_free(rig.backend, gate_up);
    ops->weight_free(rig.backend, w);
    rig_close(&rig);
    float *values[] = {x.values, pair[0].values, pair[1].values, down.values, ones.values};
    for (size_t i = 0; i < COUNT_OF(values); i++)
        free(values[i]);
}
