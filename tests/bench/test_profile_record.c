/* The recording of steps, on an executor that costs nothing and a clock that runs. */
#include "bench/profile_record.h"
#include "traces/simulate/cost_executor.h"

#include "base/base.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* A burst of as many clients as there are rows is never too many to wait for their turn. */
Test(profile_record, takes_any_number_of_rows)
{
    struct error err = {0};
    struct profile *profile;
    cr_assert_eq(profile_find("h200-qwen3-32b", &profile, &err), ST_OK, "%s", err.text);
    for (uint64_t seed = 1; seed <= 4; seed++) {
        int64_t now_us = 0;
        struct recorded_steps steps;
        struct cost_executor *cost = cost_executor_create(profile, seed, &now_us);
        struct record_options options = {.executor = cost_executor_door(cost),
                                         .clock = clock_monotonic(),
                                         .shared = SHARED_BLOCKS,
                                         .max_rows = 512,
                                         .prefill_chunk = 256,
                                         .seconds = 1e-3,
                                         .seed = seed};
        int32_t widest = 0;
        cr_assert_eq(profile_record(&options, &steps, &err), ST_OK, "%s", err.text);
        cr_assert_geq(steps.count, ENOUGH_STEPS);
        for (int64_t i = 0; i < steps.count; i++) {
            cr_assert_gt(steps.samples[i].us, 0);
            cr_assert_leq(steps.samples[i].load.decode_rows, 512);
            widest = max_i32(widest, steps.samples[i].load.decode_rows);
        }
        cr_assert_gt(widest, 8);
        free(steps.samples);
        cost_executor_free(cost);
    }
    profile_free(profile);
}
