/* Where a run's requests come from: paired seeds of a file. */
#include "support_simulation.h"
#include "traces/simulate/source.h"

#include "base/base.h"

#include <criterion/criterion.h>

static struct source *source_of(int requests, double duration_s)
{
    struct strbuf text = {0};
    struct source *source;
    struct error err = {0};
    for (int i = 0; i < requests; i++)
        strbuf_format(&text, "{\"arrival_ms\": %d, \"prompt_tokens\": 20, \"stages\": [5]}\n",
                      i * 1000);
    char *path = file_of(strbuf_cstr(&text));
    struct source_options options = {.path = path, .duration_s = duration_s, .seed = 1};
    cr_assert_eq(source_open(&options, &source, &err), ST_OK, "%s", err.text);
    free_file(path);
    strbuf_free(&text);
    return source;
}

/* Wherever a seed begins, its run is no longer than it may be; and without a limit each has all
 * requests, with the gap from the last to the first where it goes around. */
Test(source, no_seed_runs_longer_than_it_may)
{
    struct error err = {0};
    struct source_run run;
    for (int32_t seed = 0; seed < 16; seed++) {
        struct source *cut = source_of(5, 2), *whole = source_of(5, 0);
        cr_assert_eq(source_run(cut, seed, 0, &run, &err), ST_OK, "%s", err.text);
        cr_assert_eq(run.duration_us, 2000000, "seed %d: %lld", seed, (long long)run.duration_us);
        cr_assert_eq(source_run(cut, seed, 2, &run, &err), ST_OK, "%s", err.text);
        cr_assert_eq(run.duration_us, 2000000, "seed %d: %lld", seed, (long long)run.duration_us);
        cr_assert_eq(source_run(whole, seed, 0, &run, &err), ST_OK, "%s", err.text);
        cr_assert(run.duration_us >= (run.first ? 5000000 : 4000000) &&
                      run.duration_us <= (run.first ? 5000001 : 4000001),
                  "seed %d: %lld", seed, (long long)run.duration_us);
        source_free(cut);
        source_free(whole);
    }
}
