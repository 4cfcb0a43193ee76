/* Policies: how many rows a request gets, who is next, and that no answer depends on it. */
#include "support_bench.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

Test(policy, names)
{
    static const struct {
        const char *text;
        int32_t cap; /* -1: refused */
    } cases[] = {{"eager", 0}, {"taper", 0},   {"taper-paper", 0},     {"off", 1},
                 {"cap:1", 1}, {"cap:12", 12}, {"cap:0", -1},          {"cap:", -1},
                 {"cap", -1},  {"cap:-1", -1}, {"cap:2x", -1},         {"cap: 2", -1},
                 {"", -1},     {"taper2", -1}, {"cap:99999999999", -1}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct policy policy;
        struct error err = {0};
        enum status status = policy_parse(cases[i].text, &policy, &err);
        cr_assert_eq(status, cases[i].cap < 0 ? ST_USAGE : ST_OK, "%s", cases[i].text);
        if (status == ST_OK) cr_assert_eq(policy.cap, cases[i].cap);
        if (status) cr_assert(strstr(err.text, "cap:N"), "%s", err.text);
    }
}

static struct bench *open_policy(const char *name, int32_t depth)
{
    struct executor_capacity capacity = roomy;
    struct scheduler_options options = scheduler_options_default();
    struct error err = {0};
    capacity.depth = depth;
    cr_assert_eq(policy_parse(name, &options.policy, &err), ST_OK, "%s", err.text);
    return bench_open(capacity, options, (struct simulated_options){0});
}

static const int32_t prompt[] = {5, 6, 7, 8, 9};

static struct client *ask(struct bench *bench, int32_t n, int32_t max_tokens)
{
    struct request_params params = {.prompt = prompt,
                                    .prompt_count = (int32_t)COUNT_OF(prompt),
                                    .n = n,
                                    .max_tokens = max_tokens,
                                    .sample = {.temperature = 1, .top_p = 1, .seed = 3}};
    return add(bench, params);
}

/* Rows of each request in the step just planned, and how far its sequences lie apart. */
static void watch_width(const struct bench *bench, int32_t most)
{
    for (const struct request *r = bench->s->first; r; r = r->next) {
        int32_t rows = 0, least = INT32_MAX, furthest = 0, wanting = 0;
        for (const struct sequence *seq = request_begin(r); seq; seq = sequence_next(seq)) {
            rows += seq->row_step == bench->s->step_number;
            wanting += sequence_wants_row(seq);
            if (seq->index < 0) continue; /* the trunk */
            least = min_i32(least, seq->generated);
            furthest = max_i32(furthest, seq->generated);
        }
        cr_assert_leq(rows, most);
        cr_assert(rows > 0 || wanting == 0, "a request that runs has no row");
        cr_assert_leq(furthest - least, 3, "%d and %d tokens: somebody starves", least, furthest);
    }
}

Test(policy, a_request_has_as_many_rows_as_it_may_and_no_sequence_starves)
{
    static const struct {
        const char *policy;
        int32_t most;
    } cases[] = {{"eager", 6}, {"off", 1}, {"cap:2", 2}, {"cap:4", 4}};
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        for (int32_t depth = 1; depth <= 2; depth++) {
            struct bench *bench = open_policy(cases[i].policy, depth);
            struct client *clients[] = {ask(bench, 6, 20), ask(bench, 1, 20), ask(bench, 3, 20)};
            while (tick(bench))
                watch_width(bench, cases[i].most);
            struct scheduler_counters counters;
            scheduler_counters(bench->s, &counters);
            cr_assert_eq(counters.deferred_rows > 0, i > 0);
            for (size_t k = 0; k < COUNT_OF(clients); k++) {
                const char *mistake = client_mistake(clients[k], VOCAB, prompt, NULL);
                cr_assert_null(mistake, "%s: %s", cases[i].policy, mistake);
                client_free(clients[k]);
            }
            bench_close(bench);
        }
}

/* A lone request's serial neighbour is never slowed by what off leaves out. */
Test(policy, off_serves_the_serial_request_in_every_step)
{
    struct bench *bench = open_policy("off", 1);
    struct client *wide = ask(bench, 8, 30), *serial = ask(bench, 1, 30);
    int32_t ticks = 0;
    while (!serial->done && tick(bench))
        ticks++;
    cr_assert_leq(ticks, 33);
    run_out(bench);
    cr_assert_gt(wide->stats.deferred_rows, 0);
    cr_assert_eq(serial->stats.deferred_rows, 0);
    client_free(wide);
    client_free(serial);
    bench_close(bench);
}
