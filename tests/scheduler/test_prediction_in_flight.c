/* With two steps in flight a step is planned while the one before it runs: from what was collected,
 * and from when that one is predicted to end. The simulated executor takes 1000 us a step and 10 us
 * a token, and the predictor has to learn it. */
#include "support_bench.h"
#include "support_policies.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define TPOT_US 1250

struct planned {
    int64_t start_us; /* of the last step planned, as its policy was told */
    int32_t decoding; /* requests with a token, then */
};
static struct planned planned;

/* taper, and what it is told. */
static void choose_and_note(const struct policy *policy, struct ready *ready)
{
    planned = (struct planned){.start_us = ready->start_us};
    for (int32_t i = 0; i < ready->running_count; i++)
        planned.decoding += ready->running[i]->stats.first_token_us != 0;
    policy_taper.choose(policy, ready);
}

static struct bench *open_learning(struct predictor *predictor, int32_t depth)
{
    static const struct policy_ops noting = {"noting", choose_and_note, true};
    struct executor_capacity capacity = roomy;
    struct scheduler_options options = scheduler_options_default();
    struct step_prior prior = some_prior(3000); /* wrong by three */
    predictor_init(predictor, SHARED_NONE, &prior);
    capacity.depth = depth;
    options.policy = (struct policy){.ops = &noting};
    options.every_gap = true;
    options.predictor = predictor_door(predictor);
    return bench_open(capacity, options, (struct simulated_options){0});
}

static struct client *ask(struct bench *bench, int32_t n, int32_t max_tokens)
{
    static int32_t prompt[20];
    for (size_t i = 0; i < COUNT_OF(prompt); i++)
        prompt[i] = (int32_t)i + 3;
    return add(bench, (struct request_params){.prompt = prompt,
                                              .prompt_count = (int32_t)COUNT_OF(prompt),
                                              .n = n,
                                              .max_tokens = max_tokens,
                                              .slo = {1000000, TPOT_US},
                                              .sample = {.temperature = 1, .top_p = 1}});
}

/* That this tick planned; NULL: none. */
static const struct step *planned_now(const struct bench *bench, uint64_t *number)
{
    const struct scheduler *s = bench->s;
    if (s->step_number == *number) return NULL;
    *number = s->step_number;
    for (int32_t i = 0; i < s->capacity.depth; i++)
        if (s->steps[i].number == s->step_number) return &s->steps[i];
    return NULL;
}

/* Four serial requests and two wide ones: what a step is planned to take, and what it takes, is
 * within the longest that TAPER allows, but for the baseline and 16 tokens of prompts. */
Test(prediction_in_flight, steps_stay_within_the_budget_once_it_has_learned)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct predictor *predictor = must_alloc(sizeof *predictor);
        struct bench *bench = open_learning(predictor, depth);
        int32_t planned_steps = 0, wide = 0;
        uint64_t number = 0;
        for (int round = 0; round < 12; round++) {
            struct client *clients[6];
            for (size_t i = 0; i < COUNT_OF(clients); i++)
                clients[i] = ask(bench, i < 2 ? 12 : 1, 30);
            while (tick(bench)) {
                const struct step *step = planned_now(bench, &number);
                bool prefills = step && step->plan.token_count > step->plan.row_count;
                if (!step || round < 4 || planned.decoding == 0 || prefills) continue;
                planned_steps++;
                wide += step->plan.row_count > 6;
                cr_assert(step->plan.row_count <= 6 || step->predicted_us <= 0.9 * TPOT_US,
                          "%d rows: %g us", step->plan.row_count, step->predicted_us);
                cr_assert_leq(1000 + 10 * step->plan.row_count, 0.92 * TPOT_US, "%d rows",
                              step->plan.row_count);
            }
            for (size_t i = 0; i < COUNT_OF(clients); i++)
                client_free(clients[i]);
        }
        cr_assert_gt(planned_steps, 100);
        cr_assert_gt(wide, 50);
        bench_close(bench);
        free(predictor);
    }
}

/* A step begins when the one before it was collected, and that is when it was told to begin. */
Test(prediction_in_flight, a_step_is_told_when_it_will_begin)
{
    struct predictor *predictor = must_alloc(sizeof *predictor);
    struct bench *bench = open_learning(predictor, 2);
    int32_t compared = 0;
    uint64_t number = 0;
    for (int round = 0; round < 12; round++) {
        struct client *client = ask(bench, 6, 40);
        while (tick(bench)) { /* plans a step, then collects the one before it: now it begins */
            if (!planned_now(bench, &number) || bench->s->in_flight != 1 || round < 4) continue;
            if (bench->s->collected_us != bench->now_us) continue; /* nothing was before it */
            cr_assert(llabs(planned.start_us - bench->now_us) <= 60, "told %lld, it is %lld",
                      (long long)planned.start_us, (long long)bench->now_us);
            compared++;
        }
        client_free(client);
    }
    cr_assert_gt(compared, 100);
    struct scheduler_counters counters;
    scheduler_counters(bench->s, &counters);
    cr_assert_eq(counters.predicted_steps, counters.steps);
    cr_assert_lt(counters.prediction_error / (double)counters.predicted_steps, 0.1);
    cr_assert_float_eq(counters.predicted_us, counters.measured_us, 0.1 * counters.measured_us);
    bench_close(bench);
    free(predictor);
}
