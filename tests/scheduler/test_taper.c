/* TAPER: what a step may be planned to last, who constrains it, and that nobody waits for ever. The
 * simulated executor takes 1000 us a step and 10 us a token, and the predictor knows it. TPOT is
 * for each gap between tokens where a test does not say that it is for their mean. */
#include "support_bench.h"
#include "support_watched_taper.h"

#include "scheduler/predictor.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double exact(const void *self, const struct step_load *load)
{
    (void)self;
    return 1000 + 10.0 * (load->decode_rows + load->prefill_tokens);
}

/* taper is watched: each of its choices is checked. */
static struct bench *open_taper_on(const char *name, struct executor_capacity capacity)
{
    struct scheduler_options options = scheduler_options_default();
    struct error err = {0};
    options.predictor = (struct step_predictor){.predict = exact, .shared = SHARED_NONE};
    cr_assert_eq(policy_parse(name, &options.policy, &err), ST_OK, "%s", err.text);
    if (options.policy.ops == &policy_taper) options.policy = watched_taper();
    options.every_gap = true;
    return bench_open(capacity, options, (struct simulated_options){0});
}

static struct bench *open_taper(const char *name, int32_t depth)
{
    struct executor_capacity capacity = roomy;
    capacity.depth = depth;
    return open_taper_on(name, capacity);
}

static int32_t prompt[400];

/* Prompts of different lengths share nothing. */
static struct client *ask(struct bench *bench, int32_t prompt_count, int32_t n, int32_t max_tokens,
                          struct request_slo slo)
{
    for (size_t i = 0; i < COUNT_OF(prompt); i++)
        prompt[i] = (int32_t)(i + 3) % VOCAB;
    struct request_params params = {.prompt = prompt,
                                    .prompt_count = prompt_count,
                                    .n = n,
                                    .max_tokens = max_tokens,
                                    .slo = slo,
                                    .cache_salt = (const char *)&prompt_count,
                                    .cache_salt_length = sizeof prompt_count,
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

static int64_t tpot_of(const struct client *client)
{
    return (client->stats.finish_us - client->stats.first_token_us) /
           (client->stats.output_tokens - 1);
}

static const struct step *last_step(const struct bench *bench)
{
    const struct scheduler *s = bench->s;
    for (int32_t i = 0; i < s->capacity.depth; i++)
        if (s->steps[i].number == s->step_number) return &s->steps[i];
    return NULL;
}

/* TPOT 1250 us, 0.9 of it: 12 tokens a step, prompts or not: the tokens that a prompt has in any
 * case cost a twentieth of the baseline at most. */
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
            if (decodes)
                cr_assert_leq(step->plan.token_count, 12, "%d tokens", step->plan.token_count);
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

static double steep(const void *self, const struct step_load *load)
{
    (void)self;
    return 100 + 100.0 * (load->decode_rows + load->prefill_tokens);
}

/* Not even one row alone meets it: no step is planned to take more than twice the baseline, which
 * is 5 rows where that has 2 (of 100 us, and 100 us the step). Each branch has its turn. */
Test(taper, limits_that_nobody_can_meet_leave_twice_the_baseline)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct bench *bench = open_taper("taper", depth);
        bench->s->predictor.predict = steep;
        struct request_slo hopeless = {1, 1};
        struct client *wide = ask(bench, 5, 12, 12, hopeless),
                      *serial = ask(bench, 5, 1, 12, hopeless);
        int32_t widest = 0;
        while (tick(bench)) {
            int32_t least = INT32_MAX, most = 0;
            if (wide->streams[0].count == 0 || serial->done) continue;
            widest = max_i32(widest, last_step(bench)->plan.row_count);
            cr_assert_leq(last_step(bench)->plan.row_count, 5);
            for (int32_t i = 0; i < 12; i++) {
                least = min_i32(least, wide->streams[i].count);
                most = max_i32(most, wide->streams[i].count);
            }
            cr_assert_leq(most - least, 3, "%d and %d tokens: a branch starves", least, most);
        }
        cr_assert_eq(widest, 5);
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
    cr_assert_leq(tpot_of(serial), 1200);
    cr_assert_gt(wide->stats.deferred_rows + wide->streams[0].count, 0);
    run_out(bench);
    cr_assert_gt(wide->stats.deferred_rows, 0);
    end(wide);
    end(serial);
    bench_close(bench);
}

/* --- late requests */

/* Ticks from now on until a step has more than 2 rows, at most `most`. */
static int32_t steps_held(struct bench *bench, int32_t most)
{
    int32_t held = 0;
    while (held < most && tick(bench) && last_step(bench)->plan.row_count <= 2)
        held++;
    return held;
}

/* The clock jumps. Less than a second late, its slack is gone, and until it has caught up (0.9 ms a
 * step) there is none for others; later, or with a limit that the baseline misses too, it bounds
 * nobody. */
Test(taper, a_late_request_holds_the_others_back_until_it_catches_up)
{
    static const struct {
        int64_t tpot_us, jump_us;
        int32_t least, most;
    } cases[] = {{2000, 100000, 90, 140},
                 {2000, 500000, 480, 620},
                 {2000, 1500000, 0, 0},
                 {1100, 500000, 0, 0},
                 {1, 0, 0, 0}};
    struct executor_capacity capacity = roomy;
    capacity.max_context = 4096;
    capacity.block_count = 1024;
    for (size_t c = 0; c < COUNT_OF(cases); c++) {
        struct bench *bench = open_taper_on("taper", capacity);
        struct client *late = ask(bench, 5, 1, 1500, (struct request_slo){0, cases[c].tpot_us}),
                      *wide = ask(bench, 5, 12, 300, (struct request_slo){0, 500000});
        while (wide->streams[11].count == 0)
            cr_assert(tick(bench));
        bench->now_us += cases[c].jump_us;
        tick(bench);
        int32_t held = steps_held(bench, 1000);
        cr_assert(held >= cases[c].least && held <= cases[c].most, "case %d: %d steps", (int)c,
                  held);
        run_out(bench);
        end(late);
        end(wide);
        bench_close(bench);
    }
}

/* --- classes */

/* The fast one has 1.25 ms a token, the slow one 5 ms. While the fast one is in a serial stage the
 * clamp is its own, and 12 rows are the most; while it has branches that are ahead, its slack is.
 */
Test(taper, the_clamp_is_for_those_who_wait_for_a_token)
{
    for (int32_t n = 1; n <= 4; n += 3) {
        struct bench *bench = open_taper("taper", 1);
        struct client *fast = ask(bench, 5, n, 60, (struct request_slo){0, 1250}),
                      *slow = ask(bench, 7, 30, 60, (struct request_slo){0, 5000});
        int32_t widest = 0;
        while (tick(bench) && !fast->done)
            if (fast->streams[0].count > 0 && slow->streams[0].count > 0)
                widest = max_i32(widest, last_step(bench)->plan.row_count);
        cr_assert(n == 1 ? widest == 12 : widest > 12, "%d rows", widest);
        cr_assert_leq(tpot_of(fast), 1250);
        run_out(bench);
        end(fast);
        end(slow);
        bench_close(bench);
    }
}

/* 0.9 of 1200 us: 8 rows, although there is nobody left to keep to it. */
Test(taper, when_all_are_lost_the_step_stays_clamped)
{
    struct bench *bench = open_taper("taper", 1);
    struct request_slo lost = {1, 1200};
    struct client *wide = ask(bench, 5, 12, 40, lost), *serial = ask(bench, 5, 1, 40, lost);
    int32_t widest = 0;
    while (tick(bench) && !wide->done) {
        if (wide->streams[0].count == 0 || serial->streams[0].count == 0) continue;
        widest = max_i32(widest, last_step(bench)->plan.row_count);
        cr_assert_leq(last_step(bench)->plan.row_count, 8);
    }
    cr_assert_eq(widest, 8);
    run_out(bench);
    end(wide);
    end(serial);
    bench_close(bench);
}

/* --- a TPOT that is for the mean */

/* 25 rows take the 1250 us: the clamp leaves no room for errors, and the slack bounds the mean. */
Test(taper, a_mean_may_have_steps_as_long_as_itself)
{
    struct bench *bench = open_taper("taper", 1);
    bench->s->every_gap = false;
    struct client *serial = ask(bench, 5, 1, 60, (struct request_slo){0, 1250}),
                  *wide = ask(bench, 7, 40, 60, (struct request_slo){0, 1250});
    int32_t widest = 0;
    while (tick(bench) && !serial->done)
        if (serial->streams[0].count > 0 && wide->streams[0].count > 0)
            widest = max_i32(widest, last_step(bench)->plan.row_count);
    cr_assert(widest > 12 && widest <= 25, "%d rows", widest);
    cr_assert_leq(tpot_of(serial), 1250);
    run_out(bench);
    end(serial);
    end(wide);
    bench_close(bench);
}

/* A step takes 1000 us and more: the serial request cannot have a token every 500 us, whatever is
 * chosen. The wide one can, and is not held back for it. */
Test(taper, who_can_be_in_time_is_not_held_back_for_who_cannot)
{
    for (int gaps = 0; gaps <= 1; gaps++) {
        struct bench *bench = open_taper("taper", 1);
        bench->s->every_gap = gaps;
        struct request_slo slo = {0, 500};
        struct client *serial = ask(bench, 5, 1, 60, slo), *wide = ask(bench, 7, 12, 40, slo);
        run_out(bench);
        cr_assert_gt(tpot_of(serial), 1000);
        cr_assert_leq(tpot_of(wide), 500);
        end(serial);
        end(wide);
        bench_close(bench);
    }
}

/* --- prompts */

/* The first has missed its TTFT before it began: the second, which can be in time, has the chunk,
 * and the first a token a step. Without a TTFT they come in their order. */
Test(taper, a_late_prompt_leaves_the_chunk_to_those_in_time)
{
    for (int64_t ttft_us = 0; ttft_us <= 1; ttft_us++) {
        struct bench *bench = open_taper("taper", 1);
        bench->s->prefill_chunk = 16;
        bench->now_us = 100;
        struct client *early = ask(bench, 400, 1, 90, (struct request_slo){ttft_us, 0}),
                      *other = ask(bench, 96, 1, 2, (struct request_slo){1000000, 0});
        const struct request *first = bench->s->first, *second = first->next;
        bench->now_us = 200;
        int32_t least = INT32_MAX;
        tick(bench);
        while (second->stats.first_token_us == 0) {
            int32_t before = request_begin(first)->computed;
            cr_assert(tick(bench));
            least = min_i32(least, request_begin(first)->computed - before);
        }
        int32_t computed = request_begin(first)->computed;
        cr_assert(ttft_us ? computed < 32 : computed > 200, "%d tokens", computed);
        cr_assert_geq(least, 1);
        run_out(bench);
        end(early);
        end(other);
        bench_close(bench);
    }
}

/* --- a predictor that is off */

static double half(const void *self, const struct step_load *load)
{
    return exact(self, load) / 2;
}

/* What it says is corrected by what steps take: 12 tokens a step, as with one that is right. */
Test(taper, a_predictor_that_is_always_off_is_corrected)
{
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct executor_capacity capacity = roomy;
        capacity.depth = depth;
        capacity.block_count = 1024;
        struct bench *bench = open_taper_on("taper", capacity);
        bench->s->predictor.predict = half;
        struct client *wide = ask(bench, 5, 14, 800, (struct request_slo){0, 1250});
        int32_t steps = 0, first = 0, widest = 0;
        while (tick(bench)) {
            const struct step *step = last_step(bench);
            if (!step || wide->streams[0].count == 0) continue;
            first = max_i32(first, steps < 5 ? step->plan.row_count : 0);
            if (steps++ > 500) widest = max_i32(widest, step->plan.row_count);
        }
        cr_assert_eq(first, 14);
        cr_assert_eq(widest, 12);
        cr_assert_float_eq(bench->s->fit.bias, 2, 0.05);
        end(wide);
        bench_close(bench);
    }
}

/* --- nobody waits for ever */

/* Of w branches each has a row at least every w-th step. */
static void check_waits(const struct bench *bench)
{
    const struct scheduler *s = bench->s;
    for (int32_t i = 0; i < s->running_count; i++) {
        const struct stage *stage = s->running[i]->stage;
        for (int32_t b = 0; b < stage->count; b++) {
            const struct sequence *seq = &stage->sequences[b];
            if (seq->row_step == 0 || !sequence_wants_row(seq)) continue;
            uint64_t steps = s->step_number - seq->row_step;
            cr_assert_lt(steps, stage->count, "branch %d has none for %d steps", b, (int)steps);
        }
    }
}

/* Beside limits that leave the baseline, some of them, or that the clock makes unreachable. */
Test(taper, a_branch_waits_less_steps_than_it_has_siblings)
{
    const struct request_slo limits[] = {{1, 1}, {1000000, 1250}, {1000, 1400}, {0}};
    for (size_t l = 0; l < COUNT_OF(limits); l++)
        for (int32_t depth = 1; depth <= 2; depth++) {
            struct bench *bench = open_taper("taper", depth);
            struct client *clients[4];
            for (size_t i = 0; i < COUNT_OF(clients); i++)
                clients[i] = ask(bench, 5, i == 3 ? 1 : 6, 30, limits[l]);
            while (tick(bench))
                check_waits(bench);
            for (size_t i = 0; i < COUNT_OF(clients); i++)
                end(clients[i]);
            bench_close(bench);
        }
}

/* --- rows that could wait take nothing from anybody */

/* The pool is too small for all. Whoever is preempted while a step is filled goes for the baseline,
 * which had not enough. */
Test(taper, extra_rows_preempt_nobody)
{
    struct executor_capacity capacity = roomy;
    capacity.block_count = 40;
    struct bench *bench = open_taper_on("taper", capacity);
    struct watched *watched = watched_taper_last();
    struct client *clients[4];
    int64_t beside = 0, preempted = 0;
    for (size_t i = 0; i < COUNT_OF(clients); i++)
        clients[i] = ask(bench, 30, 6, 120, (struct request_slo){0});
    for (;;) {
        *watched = (struct watched){.scheduler = bench->s};
        if (!tick(bench)) break;
        if (watched->choices == 0) continue;
        int64_t taken = bench->s->counters.preemptions - watched->preemptions;
        cr_assert(taken == 0 || watched->baseline_lacks_room, "%d were preempted", (int)taken);
        preempted += taken;
        beside += watched->rows - watched->base_rows;
    }
    cr_assert_gt(preempted, 0);
    cr_assert_gt(beside, 100);
    for (size_t i = 0; i < COUNT_OF(clients); i++)
        end(clients[i]);
    *watched = (struct watched){0};
    bench_close(bench);
}

/* --- clocks that jump, and a predictor that knows nothing */

Test(taper, a_clock_that_jumps_stops_nobody)
{
    const struct request_slo limits[] = {{1, 1}, {2000000, 1250}, {0, 5000}, {0}};
    for (int32_t depth = 1; depth <= 2; depth++) {
        struct bench *bench = open_taper("taper", depth);
        struct client *clients[4];
        for (size_t i = 0; i < COUNT_OF(clients); i++)
            clients[i] = ask(bench, 20, i % 2 ? 5 : 1, 60, limits[i]);
        for (int32_t ticks = 0; tick(bench); ticks++) {
            cr_assert_lt(ticks, 2000, "it never ends");
            if (ticks % 7 == 3) bench->now_us += 20000000;
            if (ticks % 7 == 5) bench->now_us = max_i64(1, bench->now_us - 30000000);
        }
        for (size_t i = 0; i < COUNT_OF(clients); i++) {
            const char *mistake = client_mistake(clients[i], VOCAB, prompt, NULL);
            bool times_only = !mistake || strcmp(mistake, "its times run backwards") == 0;
            cr_assert(times_only, "%s", mistake);
            client_free(clients[i]);
        }
        bench_close(bench);
    }
}

static double constant(const void *self, const struct step_load *load)
{
    (void)load;
    return *(const double *)self;
}

/* No number, no time, for ever: not one row more than the baseline on its word. */
Test(taper, a_predictor_without_a_number_is_not_believed)
{
    double words[] = {NAN, 0, -5, INFINITY, -INFINITY};
    for (size_t w = 0; w < COUNT_OF(words); w++) {
        struct bench *bench = open_taper("taper", 1);
        bench->s->predictor.predict = constant;
        bench->s->predictor.self = &words[w];
        struct client *wide = ask(bench, 5, 8, 20, (struct request_slo){1000000, 50000}),
                      *serial = ask(bench, 5, 1, 20, (struct request_slo){1000000, 50000});
        while (tick(bench))
            if (wide->streams[0].count > 0)
                cr_assert_leq(last_step(bench)->plan.row_count, 2, "%d rows at %g",
                              last_step(bench)->plan.row_count, words[w]);
        end(wide);
        end(serial);
        bench_close(bench);
    }
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
