/* Simulated runs of serial requests against a queue model that knows nothing of the scheduler: a
 * list of requests, plain loops, the study's formula written out. */
#include "support_simulation.h"

#include "base/base.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

struct job {
    int64_t due_us;
    int32_t prompt, output;
    int32_t computed, made; /* slots with KV, tokens */
    int32_t blocks;
    bool running, over;
    int64_t first_us, last_us;
};

struct queue {
    struct job *jobs; /* [count] in order of arrival */
    int32_t count, arrived;
    int32_t free_blocks, chunk;
    int64_t now_us;
    bool preempts; /* the pool ran dry: the model says nothing of that */
};

static int32_t blocks_of(int32_t slots)
{
    return (slots + 15) / 16;
}

/* One token is left to compute before the next one is made. */
static bool decodes(const struct job *job)
{
    return job->running && job->prompt + job->made - job->computed == 1;
}

static double step_ms(int32_t rows, double context, int32_t prefill, double attention)
{
    double w = 65.5e9 / (0.85 * 4.8e12) * 1e3, c = 2 * 32.8e9 / (0.65 * 989e12) * 1e3;
    double n = c * (rows + prefill);
    double f = 4.0 * 64 * 64 * 128 / (0.45 * 989e12) * 1e3;
    return 3 + pow(pow(w, 4) + pow(n, 4), 0.25) + 262144.0 / (4.8e12 * 0.75) * 1e3 * context +
           0.020 * rows + f * attention;
}

static int32_t running_count(const struct queue *queue)
{
    int32_t count = 0;
    for (int32_t i = 0; i < queue->count; i++)
        count += queue->jobs[i].running;
    return count;
}

/* Every decoding job gets the block its next slot lies in. */
static void grow(struct queue *queue)
{
    for (int32_t i = 0; i < queue->count; i++) {
        struct job *job = &queue->jobs[i];
        if (!decodes(job)) continue;
        int32_t need = blocks_of(job->computed + 1) - job->blocks;
        if (need <= 0) continue;
        job->blocks += need;
        queue->free_blocks -= need;
        if (queue->free_blocks < 0) queue->preempts = true;
    }
}

/* In order, as long as the prompt fits and beside it a block for everybody who runs. */
static void admit(struct queue *queue)
{
    for (int32_t i = 0; i < queue->arrived; i++) {
        struct job *job = &queue->jobs[i];
        if (job->running || job->over) continue;
        int32_t need = blocks_of(job->prompt);
        if (need + running_count(queue) > queue->free_blocks) return;
        job->running = true;
        job->blocks = need;
        queue->free_blocks -= need;
    }
}

static void make_token(struct queue *queue, struct job *job)
{
    job->made++;
    if (job->made == 1) job->first_us = queue->now_us;
    job->last_us = queue->now_us;
    if (job->made < job->output) return;
    job->running = false;
    job->over = true;
    queue->free_blocks += job->blocks;
}

static void step(struct queue *queue)
{
    int32_t take[256] = {0}, rows = 0, prefill = 0, waiting = 0;
    double context = 0, attention = 0;
    admit(queue);
    grow(queue);
    int32_t room = queue->chunk;
    for (int32_t i = 0; i < queue->count; i++)
        waiting += queue->jobs[i].running && !decodes(&queue->jobs[i]);
    for (int32_t i = 0; i < queue->count; i++) {
        struct job *job = &queue->jobs[i];
        if (!job->running) continue;
        if (decodes(job)) {
            take[i] = 1;
            rows++;
            context += job->computed + 1;
            continue;
        }
        waiting--; /* those behind it have a token of the chunk each */
        take[i] = room - waiting > 1 ? room - waiting : 1;
        if (take[i] > job->prompt - job->computed) take[i] = job->prompt - job->computed;
        room -= take[i];
        prefill += take[i];
        attention += take[i] * (job->computed + take[i] / 2.0);
    }
    queue->now_us += llround(1e3 * step_ms(rows, context, prefill, attention));
    for (int32_t i = 0; i < queue->count; i++) {
        struct job *job = &queue->jobs[i];
        if (!job->running) continue;
        job->computed += take[i];
        if (job->computed == job->prompt + job->made) make_token(queue, job);
    }
}

static void run_queue(struct queue *queue)
{
    for (;;) {
        while (queue->arrived < queue->count && queue->jobs[queue->arrived].due_us <= queue->now_us)
            queue->arrived++;
        bool left = false;
        for (int32_t i = 0; i < queue->arrived; i++)
            left = left || !queue->jobs[i].over;
        if (!left && queue->arrived == queue->count) return;
        if (left)
            step(queue);
        else
            queue->now_us = queue->jobs[queue->arrived].due_us;
    }
}

struct scenario {
    int32_t count, longest_prompt, longest_output, chunk;
    int64_t kv_tokens;
    double gap_ms;
};

static struct trace *draw(const struct scenario *scenario, uint64_t seed, struct queue *queue)
{
    struct rng rng = {seed};
    struct trace *trace = trace_create();
    int64_t due = 0;
    *queue = (struct queue){.count = scenario->count,
                            .chunk = scenario->chunk,
                            .free_blocks = (int32_t)(scenario->kv_tokens / 16)};
    queue->jobs = must_alloc((size_t)scenario->count * sizeof *queue->jobs);
    for (int32_t i = 0; i < scenario->count; i++) {
        if (i > 0 && rng_unit(&rng) < 0.8) /* some come together */
            due += (int64_t)(2000 * scenario->gap_ms * rng_unit(&rng));
        int32_t prompt = 1 + (int32_t)rng_below(&rng, (uint64_t)scenario->longest_prompt);
        int32_t output = 1 + (int32_t)rng_below(&rng, (uint64_t)scenario->longest_output);
        if (rng_unit(&rng) < 0.1) prompt = 1;
        queue->jobs[i] = (struct job){.due_us = due, .prompt = prompt, .output = output};
        add_serial(trace, (double)due / 1000, prompt, output);
    }
    return trace;
}

static void compare(const struct queue *queue, const struct seen *seen, uint64_t seed)
{
    for (int32_t i = 0; i < queue->count; i++) {
        const struct job *job = &queue->jobs[i];
        const struct request_record *record = &seen->records[i];
        cr_assert(record->outcome == OUTCOME_COMPLETED && record->output_tokens == job->output &&
                      record->sent_us == job->due_us && record->due_us == job->due_us,
                  "seed %d, request %d", (int)seed, i);
        cr_assert(record->first_us == job->first_us && record->last_us == job->last_us,
                  "seed %d, request %d: first token at %lld, last at %lld us; the queue has %lld "
                  "and %lld",
                  (int)seed, i, (long long)record->first_us, (long long)record->last_us,
                  (long long)job->first_us, (long long)job->last_us);
    }
}

/* Of those that arrived in the window, with an SLO of the mean: as the definition says. */
static double attainment(const struct queue *queue, int64_t ttft_us, int64_t tpot_us)
{
    int32_t met = 0;
    for (int32_t i = 0; i < queue->count; i++) {
        const struct job *job = &queue->jobs[i];
        int64_t between = (int64_t)(job->output - 1) * tpot_us;
        met += job->first_us - job->due_us <= ttft_us && job->last_us - job->first_us <= between;
    }
    return (double)met / queue->count;
}

/* Returns whether the model could say anything. */
static bool try_scenario(const struct scenario *scenario, uint64_t seed)
{
    struct queue queue;
    struct seen seen = {0};
    struct simulation_result result;
    struct trace *trace = draw(scenario, seed, &queue);
    struct profile *profile = small_profile(scenario->kv_tokens, 0);
    struct simulation_options options = some_options(profile);
    options.policy = the_policy("off");
    options.prefill_chunk = scenario->chunk;
    options.slo = (struct slo_target){400000, 24000};
    run_queue(&queue);
    run_seen(options, trace, &result, &seen);
    cr_assert_eq(queue.preempts, result.preemptions > 0, "seed %d", (int)seed);
    if (!queue.preempts) {
        compare(&queue, &seen, seed);
        cr_assert_float_eq(result.results->all.slo[SLO_MEAN].attainment,
                           attainment(&queue, 400000, 24000), 1e-12);
    }
    results_free(result.results);
    seen_free(&seen);
    profile_free(profile);
    trace_free(trace);
    free(queue.jobs);
    return !queue.preempts;
}

static void try_all(struct scenario scenario, int32_t least)
{
    int32_t said = 0;
    for (uint64_t seed = 1; seed <= 40; seed++)
        said += try_scenario(&scenario, seed);
    cr_assert_geq(said, least, "the model could judge only %d runs of 40", said);
}

Test(queue_model, light)
{
    try_all((struct scenario){30, 900, 60, 256, 48000, 100}, 40);
}

Test(queue_model, many_at_once)
{
    try_all((struct scenario){60, 300, 40, 64, 48000, 5}, 40);
}

Test(queue_model, more_in_prefill_than_the_chunk_has_tokens)
{
    try_all((struct scenario){80, 60, 10, 8, 48000, 1}, 40);
}

/* They wait for room; growth is small beside prompts, so that most runs come by without a
 * preemption. */
Test(queue_model, short_of_memory)
{
    try_all((struct scenario){40, 400, 12, 128, 2600, 10}, 10);
}
