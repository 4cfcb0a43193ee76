/* Policies take no memory: choosing the rows of a step allocates nothing, whatever is in it. */
#include "support_bench.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTED 0 /* the sanitizer's own malloc is in its place */
#else
#define COUNTED 1

/* glibc's, behind ours. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static bool counting;
static int64_t allocations;

void *malloc(size_t size)
{
    allocations += counting;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations += counting;
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    allocations += counting;
    return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    allocations += counting;
    return __libc_memalign(alignment, size);
}

static const struct policy_ops *counted; /* whose choices are counted */
static int64_t choices;

static void choose(const struct policy *policy, struct ready *ready)
{
    counting = true;
    counted->choose(policy, ready);
    counting = false;
    choices++;
}

static double predict(const void *self, const struct step_load *load)
{
    (void)self;
    return 1000 + 10.0 * (load->decode_rows + load->prefill_tokens);
}

static void run(const struct policy_ops *ops, struct request_slo slo)
{
    static const struct policy_ops watched = {"counted", choose, true};
    struct scheduler_options options = scheduler_options_default();
    struct executor_capacity capacity = roomy;
    int32_t prompt[60];
    for (int32_t i = 0; i < (int32_t)COUNT_OF(prompt); i++)
        prompt[i] = i + 1;
    capacity.max_rows = 64;
    capacity.block_count = 90; /* too few for all: it is asked again in steps that preempt */
    counted = ops;
    options.policy.ops = &watched;
    options.predictor.predict = predict;
    options.prefill_chunk = 40;
    struct bench *bench = bench_open(capacity, options, (struct simulated_options){0});
    struct client *clients[6];
    for (int32_t i = 0; i < (int32_t)COUNT_OF(clients); i++)
        clients[i] = add(bench, (struct request_params){.prompt = prompt,
                                                        .prompt_count = 60 - 7 * i,
                                                        .n = 2 + 3 * i,
                                                        .max_tokens = 40,
                                                        .slo = slo});
    run_out(bench);
    for (size_t i = 0; i < COUNT_OF(clients); i++)
        client_free(clients[i]);
    bench_close(bench);
}
#endif

Test(planning, a_choice_allocates_nothing)
{
#if COUNTED
    const struct policy_ops *ops[] = {&policy_taper, &policy_taper_paper};
    const struct request_slo limits[] = {{0}, {1, 1}, {1000000, 1300}, {20000, 2000}};
    counting = true;
    free(must_alloc(1000)); /* what it would count */
    counting = false;
    cr_assert_geq(allocations, 1);
    allocations = 0;
    for (size_t o = 0; o < COUNT_OF(ops); o++)
        for (size_t l = 0; l < COUNT_OF(limits); l++)
            run(ops[o], limits[l]);
    cr_assert_gt(choices, 1000);
    cr_assert_eq(allocations, 0);
#else
    cr_skip_test("a sanitizer's malloc is in place of the one that counts");
#endif
}
