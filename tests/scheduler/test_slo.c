/* Whether an answer met its SLO, to the microsecond, and where its TTFT counts from. */
#include "scheduler/sequence.h"
#include "base/base.h"

#include <criterion/criterion.h>

static bool met(int64_t ttft_us, int64_t tpot_us, int64_t first_us, int64_t last_us, int64_t tokens)
{
    return slo_met(&(struct request_slo){ttft_us, tpot_us}, 1000, first_us, last_us, tokens);
}

Test(slo, first_token)
{
    cr_expect(met(500, 0, 1500, 9000, 3));
    cr_expect_not(met(499, 0, 1500, 9000, 3));
    cr_expect(met(500, 0, 1500, 1500, 1));
}

Test(slo, time_per_token)
{
    cr_expect(met(0, 100, 5000, 5300, 4));
    cr_expect_not(met(0, 100, 5000, 5301, 4), "a third of a microsecond is too much");
    cr_expect_not(met(0, 99, 5000, 5300, 4));
    cr_expect(met(0, 1, 5000, 5000, 1), "one token meets any");
    cr_expect(met(0, 1, 5000, 5000, 64), "branches in one step");
    cr_expect(met(0, INT64_MAX, 0, INT64_MAX, 1000));
    cr_expect(met(0, INT64_MAX / 2, 0, INT64_MAX, 4));
}

Test(slo, both)
{
    cr_expect(met(500, 100, 1500, 1700, 3));
    cr_expect_not(met(500, 100, 1501, 1600, 3));
    cr_expect_not(met(500, 100, 1500, 1701, 3));
}

Test(slo, no_token_misses_whatever_there_is)
{
    cr_expect_not(met(500, 0, 0, 0, 0));
    cr_expect_not(met(0, 100, 0, 0, 0));
    cr_expect(met(0, 0, 0, 0, 0), "no limit, nothing to miss");
    cr_expect(met(0, 0, 900000, 9000000, 2));
}

static int64_t arrival_of(int64_t given_us, int64_t now_us)
{
    const struct request_limits limits = {
        .max_context = 64, .block_count = 16, .max_queue = 8, .vocab = 100};
    const struct request_params params = {.prompt = (const int32_t[]){1, 2},
                                          .prompt_count = 2,
                                          .n = 1,
                                          .max_tokens = 2,
                                          .arrival_us = given_us};
    struct request *request;
    struct error err = {0};
    cr_assert_eq(request_create(&limits, &params, now_us, &request, &err), ST_OK, "%s", err.text);
    int64_t arrival_us = request->stats.arrival_us;
    request_free(request);
    return arrival_us;
}

Test(slo, a_request_that_came_before_it_was_given_here)
{
    cr_expect_eq(arrival_of(0, 700), 700);
    cr_expect_eq(arrival_of(650, 700), 650);
    cr_expect_eq(arrival_of(701, 700), 700, "not in the future");
    cr_expect_eq(arrival_of(-5, 700), 700);
}
