/* TAPER: what a step may be planned to last, who constrains it, and that nobody waits for ever. The
 * simulated executor takes 1000 us a step and 10 us a token, and the predictor knows it. */
#include "support_bench.h"

#include "scheduler/predictor.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static double exact(const void *self, const struct step_load *load)
{
    (void)self;
    return 1000 + 10.0 * (load->decode_rows + load->prefill_tokens);
}

static struct bench *open_taper(const char *name, int32_t depth)
{
    struct executor_capacity capacity = roomy;
    struct scheduler_options options = scheduler_options_default();
    struct error err = {0};
    capacity.depth = depth;
    options.predictor = (struct step_predictor){.predict = exact, .shared = SHARED_NONE};
    cr_assert_eq(policy_parse(name, &options.policy, &err), ST_OK, "%s", err.text);
    return bench_open(capacity, options, (struct simulated_options){0});
}

static int32_t prompt[40];

static struct client *ask(struct bench *bench, int32_t prompt_count, int32_t n, int32_t max_tokens,
                          struct request_slo slo)
{
    for (size_t i = 0; i < COUNT_OF(prompt); i++)
        prompt[i] = (int32_t)i + 3;
    struct request_params params = {.prompt = prompt,
                                    .prompt_count = prompt_count,
                                    .n = n,
                                    .max_tokens = max_tokens,
                                    .slo = slo,
                                    .sample = {.temperature = 1, .top_p = 1, .seed = 3}};
    return add(bench, params);
}

static void end(struct client *client)
{
    const char *mistake = client_mistake(client, VOCAB, prompt, NULL);
    cr_assert(client->done, "it has not ended");
    cr_assert_null(mistake, "%s", mistake);
    client_free(client);
}

static const struct step *last_step(const struct bench *bench)
{
    const struct scheduler *s = bench->s;
    for (int32_t i = 0; i < s->capacity.depth; i++)
        if (s->steps[i].number == s->step_number) return &s->steps[i];
    return NULL;
}

/* TPOT 1250 us, 0.9 of it: 12 tokens a step; or, whatever they cost, the baseline and 16 tokens of
 * prompts. */
Test(taper, no_step_is_planned_to_be_longer_than_it_may)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct bench *bench = open_taper("taper", depth);
        struct request_slo slo = {1000000, 1250};
        struct client *clients[4];
        int32_t widest = 0;
        for (size_t i = 0; i < COUNT_OF(clients); i++)
            clients[i] = ask(bench, 30, i % 2 ? 10 : 1, 40, slo);
        bool decodes = false; /* nobody does in the first steps: nothing bounds them */
        while (tick(bench)) {
            const struct step *step = last_step(bench);
            if (!step) continue;
            bool prefills = step->plan.token_count > step->plan.row_count;
            if (decodes)
                cr_assert_leq(step->plan.token_count, prefills ? 4 + 16 : 12, "%d tokens",
                              step->plan.token_count);
            for (size_t i = 0; i < COUNT_OF(clients); i++)
                decodes = decodes || clients[i]->streams[0].count > 0;
            widest = max_i32(widest, step->plan.row_count);
        }
        cr_assert_geq(widest, 10); /* more than the baseline of 4, and not all 22 */
        for (size_t i = 0; i < COUNT_OF(clients); i++)
            end(clients[i]);
        bench_close(bench);
    }
}

Test(taper, requests_without_limits_constrain_nobody)
{
    struct bench *bench = open_taper("taper", 1);
    struct client *wide = ask(bench, 10, 7, 30, (struct request_slo){0}),
                  *serial = ask(bench, 10, 1, 30, (struct request_slo){0});
    run_out(bench);
    cr_assert_eq(wide->stats.deferred_rows, 0);
    end(wide);
    end(serial);
    bench_close(bench);
}

/* Not even one row alone meets it: the step stays the baseline, each branch has its turn. */
Test(taper, limits_that_nobody_can_meet_leave_the_baseline)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct bench *bench = open_taper("taper", depth);
        struct request_slo hopeless = {1, 1};
        struct client *wide = ask(bench, 5, 6, 12, hopeless),
                      *serial = ask(bench, 5, 1, 12, hopeless);
        while (tick(bench)) {
            int32_t least = INT32_MAX, most = 0;
            if (wide->streams[0].count == 0) continue;
            cr_assert_leq(last_step(bench)->plan.row_count, 2);
            for (int32_t i = 0; i < 6; i++) {
                least = min_i32(least, wide->streams[i].count);
                most = max_i32(most, wide->streams[i].count);
            }
            cr_assert_leq(most - least, 3, "%d and %d tokens: a branch starves", least, most);
        }
        end(wide);
        end(serial);
        bench_close(bench);
    }
}

/* A serial request whose limit is tight bounds the step that it shares with a wide one of none. */
Test(taper, each_request_is_kept_to_its_own_limit)
{
    struct bench *bench = open_taper("taper", 1);
    struct client *wide = ask(bench, 5, 24, 60, (struct request_slo){0}),
                  *serial = ask(bench, 5, 1, 60, (struct request_slo){0, 1200});
    while (!serial->done && tick(bench)) {
    }
    int64_t tpot_us = (serial->stats.finish_us - serial->stats.first_token_us) /
                      (serial->stats.output_tokens - 1);
    cr_assert_leq(tpot_us, 1200);
    cr_assert_gt(wide->stats.deferred_rows + wide->streams[0].count, 0);
    run_out(bench);
    cr_assert_gt(wide->stats.deferred_rows, 0);
    end(wide);
    end(serial);
    bench_close(bench);
}

/* As the paper's description reads: one late request, and the baseline is all. */
Test(taper, the_literal_reading_freezes_behind_a_late_request)
{
    struct bench *bench = open_taper("taper-paper", 1);
    struct client *late = ask(bench, 5, 1, 40, (struct request_slo){1, 1}),
                  *wide = ask(bench, 5, 8, 10, (struct request_slo){1000000, 5000});
    while (!wide->done && tick(bench))
        if (late->streams[0].count > 0 && !late->done)
            cr_assert_leq(last_step(bench)->plan.row_count, 2);
    run_out(bench);
    end(late);
    end(wide);
    bench_close(bench);
}
