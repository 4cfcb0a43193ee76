/* The search for goodput, its intervals, and the cache of finished searches. */
#include "traces/simulate/cell_cache.h"
#include "traces/simulate/search.h"

#include "base/base.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct bed {
    struct setting setting;
    struct source *source;
    struct profile *profile;
    int32_t runs;
};

static void open_bed(struct bed *bed, const char *preset, double duration_s)
{
    struct error err = {0};
    struct source_options source = {.preset = preset, .duration_s = duration_s, .seed = 5};
    *bed = (struct bed){0};
    cr_assert_eq(source_open(&source, &bed->source, &err), ST_OK, "%s", err.text);
    cr_assert_eq(profile_find("study-h200", &bed->profile, &err), ST_OK, "%s", err.text);
    bed->setting = (struct setting){.source = bed->source,
                                    .profile = bed->profile,
                                    .policy_name = "eager",
                                    .chunk = 256,
                                    .slo = {2000000, 50000},
                                    .kind = SLO_MEAN,
                                    .target = 0.95,
                                    .duration_us = llround(duration_s * 1e6),
                                    .warm_us = 10000000,
                                    .seed = 5};
    cr_assert_eq(policy_parse("eager", &bed->setting.policy, &err), ST_OK);
}

static void close_bed(struct bed *bed)
{
    source_free(bed->source);
    profile_free(bed->profile);
}

static void count_run(void *context, double virtual_s)
{
    cr_assert_gt(virtual_s, 0);
    ((struct bed *)context)->runs++;
}

static void find(struct bed *bed, const struct search_options *options, struct search *search)
{
    struct error err = {0};
    struct search_watch watch = {count_run, bed};
    cr_assert_eq(search_goodput(&bed->setting, options, &watch, search, &err), ST_OK, "%s",
                 err.text);
}

static double attainment_at(struct bed *bed, double rate, int32_t seeds)
{
    struct point point = {.whole = true};
    for (int32_t seed = 0; seed < seeds; seed++)
        cr_assert_eq(setting_run(&bed->setting, rate, seed, 0, &point.cells[seed], NULL), ST_OK);
    return point_attainment(&point, seeds, bed->setting.kind, -1);
}

Test(search, finds_the_rate_where_the_target_is_lost)
{
    struct bed bed;
    struct search search;
    static const struct option_ints none;
    open_bed(&bed, "W5", 60);
    find(&bed, &(struct search_options){.seeds = 2, .clients = &none}, &search);
    cr_assert_geq(search.best, 0);
    cr_assert_eq(search.points[search.best].load, search.value);
    cr_assert_geq(attainment_at(&bed, search.value, 2), 0.95);
    cr_assert_lt(attainment_at(&bed, search.value * 1.01, 2), 0.95);
    cr_assert_eq(bed.runs >= search.count, true);
    search_release(&search);
    close_bed(&bed);
}

/* What a search finds does not depend on where it begins. */
Test(search, hints_change_nothing)
{
    struct bed bed;
    struct search plain, hinted;
    static const struct option_ints none;
    open_bed(&bed, "W5", 60);
    find(&bed, &(struct search_options){.seeds = 2, .clients = &none}, &plain);
    for (double hint = plain.value * 0.9; hint < plain.value * 1.2; hint *= 1.07) {
        find(&bed, &(struct search_options){.seeds = 2, .clients = &none, .hint = hint}, &hinted);
        cr_assert_float_eq(hinted.value, plain.value, 1e-12, "hint %g: %g instead of %g", hint,
                           hinted.value, plain.value);
        search_release(&hinted);
    }
    search_release(&plain);
    close_bed(&bed);
}

Test(search, closed_loop_takes_the_best_number_of_clients_that_holds)
{
    struct bed bed;
    struct search search;
    struct option_ints clients = {{4, 16, 400}, 3};
    open_bed(&bed, "W5", 60);
    bed.setting.closed = true;
    find(&bed, &(struct search_options){.seeds = 2, .clients = &clients}, &search);
    cr_assert_eq(search.count, 3);
    cr_assert_eq(search.points[search.best].level, 16, "4 is too few, 400 too many");
    const struct point *best = &search.points[search.best];
    double mean = (best->cells[0].slo[SLO_MEAN].requests_per_s +
                   best->cells[1].slo[SLO_MEAN].requests_per_s) /
                  2;
    cr_assert_float_eq(search.value, mean, 1e-12);
    search_release(&search);

    clients.count = 0; /* by itself: at least as good */
    find(&bed, &(struct search_options){.seeds = 2, .clients = &clients}, &search);
    cr_assert_geq(search.value, mean);
    cr_assert_geq(point_attainment(&search.points[search.best], 2, SLO_MEAN, -1), 0.95);
    search_release(&search);
    close_bed(&bed);
}

/* With a target that hardly anything misses the search ends where more clients bring no more. */
Test(search, closed_loop_ends_where_the_engine_is_full)
{
    struct bed bed;
    struct search search;
    static const struct option_ints none;
    open_bed(&bed, "W5", 20);
    bed.setting.closed = true;
    bed.setting.target = 1e-9;
    find(&bed, &(struct search_options){.seeds = 1, .clients = &none}, &search);
    cr_assert_geq(search.best, 0);
    cr_assert_lt(search.count, 14);
    for (int32_t i = 0; i < search.count; i++) {
        cr_assert_lt(search.points[i].level, 4096);
        cr_assert_leq(search.points[i].cells[0].slo[SLO_MEAN].requests_per_s, search.value);
    }
    search_release(&search);
    close_bed(&bed);
}

Test(search, says_when_nothing_can_be_missed)
{
    struct bed bed;
    struct search search;
    struct error err = {0};
    static const struct option_ints none;
    char path[] = "/tmp/espalier_trace_XXXXXX";
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    for (int i = 0; i < 20; i++)
        dprintf(fd, "{\"arrival_ms\": %d, \"prompt_tokens\": 20, \"stages\": [5]}\n", i * 500);
    close(fd);
    open_bed(&bed, "W5", 60);
    source_free(bed.source);
    cr_assert_eq(source_open(&(struct source_options){.path = path}, &bed.source, &err), ST_OK,
                 "%s", err.text);
    bed.setting.source = bed.source;
    bed.setting.slo = (struct slo_target){0, 0};
    enum status status = search_goodput(
        &bed.setting, &(struct search_options){.seeds = 1, .clients = &none}, NULL, &search, &err);
    cr_assert_eq(status, ST_INVALID);
    cr_assert(strstr(err.text, "too few of them have an SLO"), "%s", err.text);
    close_bed(&bed);
    remove(path);
}

/* A rate far beyond what the engine can do ends the search, whatever there is to miss: TPOT alone
 * is met by those who wait long enough for their turn. */
Test(search, says_when_the_engine_is_swamped_and_nothing_missed, .timeout = 300)
{
    static const struct option_ints none;
    static const struct slo_target lax[] = {{0, 0}, {0, 1000000}};
    for (size_t i = 0; i < COUNT_OF(lax); i++) {
        struct bed bed;
        struct search search;
        struct error err = {0};
        open_bed(&bed, "W5", 5);
        bed.setting.slo = lax[i];
        enum status status =
            search_goodput(&bed.setting, &(struct search_options){.seeds = 1, .clients = &none},
                           NULL, &search, &err);
        cr_assert_eq(status, ST_INVALID);
        cr_assert(strstr(err.text, "the target holds even at "), "%s", err.text);
        close_bed(&bed);
    }
}

/* Of few requests one seed may have many and another hardly any, so what one misses decides
 * nothing. */
Test(search, gives_no_seed_of_few_requests_up)
{
    struct bed bed;
    struct cell cell;
    open_bed(&bed, "W5", 60);
    bed.setting.slo.ttft_us = 1;
    cr_assert_eq(setting_run(&bed.setting, 0.3, 0, 0.9, &cell, NULL), ST_OK);
    cr_assert_not(cell.gave_up);
    cr_assert(cell.requests > 1 && cell.requests < 30, "%lld requests", (long long)cell.requests);
    cr_assert_eq(setting_run(&bed.setting, 3, 0, 0.9, &cell, NULL), ST_OK);
    cr_assert(cell.gave_up);
    close_bed(&bed);
}

/* By hand: values 13, 14, 15 without each of three seeds. mean 14, squares 2, times 2/3;
 * t(2) 4.303. */
Test(search, jackknife_by_hand)
{
    double without[] = {13, 14, 15};
    struct estimate estimate = jackknife(14.1, without, 3);
    double reach = 4.303 * sqrt(2.0 * 2 / 3);
    cr_assert_float_eq(estimate.mean, 14.1, 1e-12);
    cr_assert_float_eq(estimate.low, 14.1 - reach, 1e-9);
    cr_assert_float_eq(estimate.high, 14.1 + reach, 1e-9);
    cr_assert_float_eq(jackknife(1, without, 3).low, 0, 1e-12); /* no rate is below 0 */
    estimate = jackknife(2, without, 1);
    cr_assert(estimate.mean == 2 && isnan(estimate.low) && isnan(estimate.high));
}

/* What moves both policies alike does not move their ratio. */
Test(search, ratios_are_paired)
{
    struct search a = {.seeds = 3, .value = 3, .without = {3.0, 3.6, 2.4}};
    struct search b = {.seeds = 3, .value = 2, .without = {2.0, 2.4, 1.6}};
    struct estimate ratio = search_ratio(&a, &b);
    cr_assert_float_eq(ratio.mean, 1.5, 1e-12);
    cr_assert_float_eq(ratio.low, 1.5, 1e-9);
    cr_assert_float_eq(ratio.high, 1.5, 1e-9);
    b.without[1] = 0; /* without that seed there is no rate: nothing is known of the ratio */
    ratio = search_ratio(&a, &b);
    cr_assert_eq(isinf(ratio.high), 1);
    b.value = 0;
    cr_assert_float_eq(search_ratio(&a, &b).mean, 0, 0);
}

/* Two seeds, two points: 0.98 and 0.94 at rate 1; 0.92 and 0.90 at rate 2. Without the second the
 * target of 0.95 lies half of the way; without the first below rate 1, where the line through both
 * meets it at 0.75. */
Test(search, leaves_a_seed_out_along_straight_lines)
{
    struct setting setting = {.kind = SLO_MEAN, .target = 0.95};
    struct search search = {.seeds = 2};
    const double attainments[2][2] = {{0.98, 0.94}, {0.92, 0.90}};
    for (int i = 0; i < 2; i++) {
        struct point *point = search_add_point(&search);
        point->load = i + 1;
        point->whole = true;
        for (int seed = 0; seed < 2; seed++) {
            point->cells[seed].requests = 100;
            point->cells[seed].slo[SLO_MEAN].attainment = attainments[i][seed];
        }
    }
    search_conclude(&setting, &search);
    cr_assert_float_eq(search.value, 1, 1e-12);
    cr_assert_float_eq(search.without[1], 1.5, 1e-9);
    cr_assert_float_eq(search.without[0], 0.75, 1e-9);
    search_release(&search);
}

static void remove_all(const char *directory)
{
    DIR *dir = opendir(directory);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[1024];
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        cr_assert_eq(remove(path), 0);
    }
    if (dir) closedir(dir);
    rmdir(directory);
}

Test(search, the_cache_gives_back_what_it_was_given)
{
    struct bed bed;
    struct search search, again;
    static const struct option_ints none;
    struct search_options options = {.seeds = 2, .clients = &none};
    char directory[] = "/tmp/espalier_cells_XXXXXX";
    cr_assert_not_null(mkdtemp(directory));
    struct cell_cache *cache = cell_cache_open(directory);
    cr_assert_not_null(cache);
    open_bed(&bed, "W5", 60);
    cr_assert_not(cell_cache_get(cache, &bed.setting, &options, &again));
    find(&bed, &options, &search);
    cell_cache_put(cache, &bed.setting, &options, &search);
    cr_assert(cell_cache_get(cache, &bed.setting, &options, &again));
    cr_assert_eq(again.count, search.count);
    cr_assert_eq(again.best, search.best);
    cr_assert_eq(again.value, search.value);
    for (int32_t seed = 0; seed < 2; seed++)
        cr_assert_eq(again.without[seed], search.without[seed]);
    search_release(&again);

    /* Any other setting is another cell. */
    bed.setting.chunk = 128;
    cr_assert_not(cell_cache_get(cache, &bed.setting, &options, &again));
    bed.setting.chunk = 256;
    bed.setting.kind = SLO_GAPS;
    cr_assert_not(cell_cache_get(cache, &bed.setting, &options, &again));
    search_release(&search);
    close_bed(&bed);
    cell_cache_free(cache);
    remove_all(directory);
}

/* A point that lacks a seed's cell would look like one that was given up. */
Test(search, a_cell_that_is_not_whole_is_none)
{
    struct bed bed;
    struct search search, again;
    static const struct option_ints none;
    static const char *const spoilt[] = {"cells", "points", "all"};
    struct search_options options = {.seeds = 2, .clients = &none};
    char directory[] = "/tmp/espalier_cells_XXXXXX", path[1024] = "";
    cr_assert_not_null(mkdtemp(directory));
    struct cell_cache *cache = cell_cache_open(directory);
    open_bed(&bed, "W5", 60);
    search = (struct search){.seeds = 2};
    struct point *point = search_add_point(&search);
    point->load = 1;
    point->whole = true;
    point->cells[0].requests = point->cells[1].requests = 10;
    cell_cache_put(cache, &bed.setting, &options, &search);
    DIR *dir = opendir(directory);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.') snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
    closedir(dir);
    for (size_t i = 0; i < COUNT_OF(spoilt); i++) {
        cell_cache_put(cache, &bed.setting, &options, &search);
        cr_assert(cell_cache_get(cache, &bed.setting, &options, &again));
        search_release(&again);
        json_t *json = json_load_file(path, 0, NULL), *points = json_object_get(json, "points");
        cr_assert_not_null(points);
        if (i == 0) json_array_remove(json_object_get(json_array_get(points, 0), "cells"), 1);
        if (i == 1) json_array_clear(points);
        if (i == 2) json_object_set_new(json, "points", json_object());
        cr_assert_eq(json_dump_file(json, path, 0), 0);
        json_decref(json);
        cr_assert_not(cell_cache_get(cache, &bed.setting, &options, &again), "%s", spoilt[i]);
    }
    search_release(&search);
    close_bed(&bed);
    cell_cache_free(cache);
    remove_all(directory);
}

/* It is said before the work, and there is no cache. */
Test(search, a_folder_that_cannot_be_had_is_no_cache)
{
    char directory[] = "/tmp/espalier_cells_XXXXXX", file[64];
    cr_assert_not_null(mkdtemp(directory));
    cr_assert_null(cell_cache_open(""));
    snprintf(file, sizeof file, "%s/file", directory);
    fclose(fopen(file, "w"));
    cr_assert_null(cell_cache_open(file));
    cr_assert_eq(chmod(directory, 0500), 0);
    if (geteuid() != 0) cr_assert_null(cell_cache_open(directory)); /* root may do anything */
    cr_assert_eq(chmod(directory, 0700), 0);
    remove_all(directory);
}
