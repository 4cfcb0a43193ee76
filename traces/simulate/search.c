#include "traces/simulate/search.h"

#include "base/base.h"

#include <math.h>
#include <stdlib.h>

#define RATE_STEP    1.01
#define LEVEL_MOST   1400 /* 1.01^1400: a million requests a second */
#define LEVEL_LEAST  (-1400)
#define CLIENTS_MOST 4096
#define FIRST_REACH  4    /* levels away from a hint where it is looked first; then twice as far */
#define WIDE_REACH   32   /* without a hint */
#define NEAR_LEVELS  8    /* from a hint: there every run goes to its end, for the jackknife */
#define SURELY       1.25 /* seeds have not quite the same number of requests */
#define FULL         1.01 /* of more clients: goodput grew by less, so the engine is full */
#define SWAMPED      8    /* times as long as its requests took to come the run took */

struct run {
    const struct setting *setting;
    const struct search_options *options;
    const struct search_watch *watch;
    struct search *search;
    int32_t hint_level;
    struct error *err;
    enum status status;
};

static double load_of(const struct setting *setting, int32_t level)
{
    return setting->closed ? level : pow(RATE_STEP, level);
}

static int32_t level_of(const struct setting *setting, double load)
{
    return (int32_t)lround(setting->closed ? load : log(load) / log(RATE_STEP));
}

double search_load_above(double rate)
{
    return rate * RATE_STEP;
}

struct point *search_add_point(struct search *search)
{
    invariant(search->count < SEARCH_POINTS, "a search of more than %d loads", SEARCH_POINTS);
    if (search->count == search->capacity) {
        search->capacity = search->capacity ? 2 * search->capacity : 8;
        search->points =
            must_realloc(search->points, (size_t)search->capacity * sizeof *search->points);
    }
    struct point *point = &search->points[search->count++];
    *point = (struct point){0};
    return point;
}

void search_release(struct search *search)
{
    free(search->points);
    *search = (struct search){0};
}

double point_attainment(const struct point *point, int32_t seeds, enum slo_kind kind,
                        int32_t without)
{
    double met = 0;
    int64_t requests = 0;
    for (int32_t seed = 0; seed < seeds; seed++) {
        if (seed == without) continue;
        const struct cell *cell = &point->cells[seed];
        met += cell->slo[kind].attainment * (double)cell->requests;
        requests += cell->requests;
    }
    return requests > 0 ? met / (double)requests : 0;
}

static bool holds(const struct setting *setting, const struct search *search,
                  const struct point *point)
{
    return point->whole &&
           point_attainment(point, search->seeds, setting->kind, -1) >= setting->target;
}

/* --- trying a load */

/* So few of one seed's requests that the target is missed even if all others meet theirs. */
static double hopeless(const struct run *run, int32_t level)
{
    bool near = run->options->hint > 0 && abs(level - run->hint_level) <= NEAR_LEVELS;
    if (run->options->from_hint && level == run->hint_level) near = false;
    double share = 1 - SURELY * run->search->seeds * (1 - run->setting->target);
    if (run->search->seeds == 1) share = run->setting->target;
    return near || share < 0 ? 0 : share;
}

static void run_seeds(struct run *run, struct point *point)
{
    struct search *search = run->search;
    point->whole = true;
    for (int32_t seed = 0; seed < search->seeds && point->whole; seed++) {
        struct cell *cell = &point->cells[seed];
        run->status = setting_run(run->setting, point->load, seed, hopeless(run, point->level),
                                  cell, run->err);
        if (run->status) return;
        if (run->watch) run->watch->ran(run->watch->context, cell->virtual_s);
        point->whole = !cell->gave_up;
    }
}

/* NULL: a run failed. */
static const struct point *try_level(struct run *run, int32_t level)
{
    struct search *search = run->search;
    if (run->status) return NULL;
    for (int32_t i = 0; i < search->count; i++)
        if (search->points[i].level == level) return &search->points[i];
    struct point *point = search_add_point(search);
    point->level = level;
    point->load = load_of(run->setting, level);
    run_seeds(run, point);
    return run->status ? NULL : point;
}

static bool passes(struct run *run, int32_t level)
{
    const struct point *point = try_level(run, level);
    return point && holds(run->setting, run->search, point);
}

/* --- the search */

static double goodput_of(const struct setting *setting, const struct search *search,
                         const struct point *point, int32_t without)
{
    double sum = 0;
    int32_t seeds = search->seeds - (without >= 0);
    for (int32_t seed = 0; seed < search->seeds; seed++)
        if (seed != without) sum += point->cells[seed].slo[setting->kind].requests_per_s;
    return sum / seeds;
}

static int32_t clamp_level(const struct run *run, int64_t level)
{
    int64_t least = run->setting->closed ? 0 : LEVEL_LEAST;
    int64_t most = run->setting->closed ? CLIENTS_MOST : LEVEL_MOST;
    return (int32_t)(level < least ? least : level > most ? most : level);
}

static void bisect(struct run *run, int32_t good, int32_t bad)
{
    while (bad - good > 1 && !run->status) {
        int32_t middle = good + (bad - good) / 2;
        if (passes(run, middle))
            good = middle;
        else
            bad = middle;
    }
}

/* Closed loop: twice the step brought no more goodput. The engine is full, and as nobody misses an
 * SLO, more clients only wait longer. */
static bool is_full(struct run *run, int32_t level, int32_t before)
{
    const struct point *points[] = {try_level(run, level), try_level(run, before)};
    if (!run->setting->closed || !points[0] || !points[1]) return false;
    return goodput_of(run->setting, run->search, points[0], -1) <
           FULL * goodput_of(run->setting, run->search, points[1], -1);
}

/* Open loop without a limit for TTFT, where requests only wait longer at still higher rates. */
static bool is_swamped(struct run *run, int32_t level)
{
    const struct point *point = try_level(run, level);
    if (run->setting->closed || run->setting->slo.ttft_us > 0 || !point) return false;
    for (int32_t seed = 0; seed < run->search->seeds; seed++)
        if (point->cells[seed].virtual_s < SWAMPED * point->cells[seed].arrivals_s) return false;
    return true;
}

/* From `start` in steps that double until the answer changes. false: it never does (nothing holds
 * the target, or there is no load that misses it). */
static bool bracket(struct run *run, int32_t start, int32_t reach, int32_t *good, int32_t *bad)
{
    bool up = passes(run, start);
    int32_t last = start;
    for (int64_t step = reach; !run->status; step *= 2) {
        int32_t level = clamp_level(run, up ? last + step : last - step);
        if (level == last) return false;
        /* Without a client nothing is missed. */
        bool held = (level == 0 && run->setting->closed) || passes(run, level);
        if (held != up) {
            *good = up ? last : level;
            *bad = up ? level : last;
            return true;
        }
        if (up && (is_full(run, level, last) || is_swamped(run, level))) return false;
        last = level;
    }
    return false;
}

static enum status never_missed(struct run *run)
{
    double most = 0;
    for (int32_t i = 0; i < run->search->count; i++)
        most = fmax(most, run->search->points[i].load);
    return fail(run->err, ST_INVALID,
                "the target holds even at %.4g requests/s: the requests are too few to load the "
                "engine, or too few of them have an SLO that waiting breaks (--slo-ttft, "
                "--slo-tpot)",
                most);
}

static enum status find_load(struct run *run)
{
    bool hinted = run->options->hint > 0;
    int32_t start = hinted ? run->hint_level : run->setting->closed ? 8 : 0, good, bad;
    int32_t reach = hinted ? FIRST_REACH : WIDE_REACH;
    if (run->setting->closed) reach = max_i32(1, start / 4);
    if (bracket(run, start, reach, &good, &bad))
        bisect(run, good, bad);
    else if (!run->status && !run->setting->closed && passes(run, start))
        run->status = never_missed(run);
    return run->status;
}

/* Goodput need not grow up to the last number of clients that holds the target: those below it are
 * tried, too. */
static enum status find_clients(struct run *run)
{
    const struct option_ints *clients = run->options->clients;
    for (int i = 0; i < clients->count; i++)
        try_level(run, (int32_t)clients->values[i]);
    if (clients->count > 0 || run->status || find_load(run)) return run->status;
    int32_t last = 0;
    for (int32_t i = 0; i < run->search->count; i++)
        if (holds(run->setting, run->search, &run->search->points[i]))
            last = max_i32(last, run->search->points[i].level);
    for (int32_t tenths = 9; tenths >= 5; tenths--)
        if (last * tenths / 10 > 0) try_level(run, last * tenths / 10);
    return run->status;
}

enum status search_goodput(const struct setting *setting, const struct search_options *options,
                           const struct search_watch *watch, struct search *search,
                           struct error *err)
{
    struct run run = {
        .setting = setting, .options = options, .watch = watch, .search = search, .err = err};
    *search = (struct search){.seeds = options->seeds, .best = -1};
    if (options->hint > 0) run.hint_level = level_of(setting, options->hint);
    enum status status = ST_OK;
    if (!options->from_hint || passes(&run, run.hint_level))
        status = setting->closed ? find_clients(&run) : find_load(&run);
    if (run.status) status = run.status;
    if (status)
        search_release(search);
    else
        search_conclude(setting, search);
    return status;
}

/* --- what the points say */

/* Where the straight line through two points meets the target. */
static double crossing(const struct setting *setting, const struct search *search, int32_t without,
                       const struct point *a, const struct point *b)
{
    double first = point_attainment(a, search->seeds, setting->kind, without);
    double second = point_attainment(b, search->seeds, setting->kind, without);
    if (first == second) return a->load;
    return a->load + (first - setting->target) / (first - second) * (b->load - a->load);
}

/* The whole point with the least load above `load`; NULL: none. */
static const struct point *next_point(const struct search *search, double load)
{
    const struct point *found = NULL;
    for (int32_t i = 0; i < search->count; i++) {
        const struct point *point = &search->points[i];
        if (point->whole && point->load > load && (!found || point->load < found->load))
            found = point;
    }
    return found;
}

/* Behind the last point that holds the target, on the line to the next one. Where the first misses
 * it already, on the line through the first two, but not below half of the first. */
static double rate_without(const struct setting *setting, const struct search *search,
                           int32_t without)
{
    const struct point *good = NULL;
    for (int32_t i = 0; i < search->count; i++) {
        const struct point *point = &search->points[i];
        if (point->whole && (!good || point->load > good->load) &&
            point_attainment(point, search->seeds, setting->kind, without) >= setting->target)
            good = point;
    }
    if (good) {
        const struct point *next = next_point(search, good->load);
        return next ? crossing(setting, search, without, good, next) : good->load;
    }
    const struct point *first = next_point(search, 0);
    const struct point *second = first ? next_point(search, first->load) : NULL;
    if (!second) return 0;
    double rate = crossing(setting, search, without, first, second);
    return rate <= first->load ? fmax(rate, first->load / 2) : first->load / 2;
}

static double clients_without(const struct setting *setting, const struct search *search,
                              int32_t without)
{
    double best = 0;
    for (int32_t i = 0; i < search->count; i++) {
        const struct point *point = &search->points[i];
        if (point_attainment(point, search->seeds, setting->kind, without) >= setting->target)
            best = fmax(best, goodput_of(setting, search, point, without));
    }
    return best;
}

void search_conclude(const struct setting *setting, struct search *search)
{
    search->best = -1;
    search->value = 0;
    for (int32_t i = 0; i < search->count; i++) {
        const struct point *point = &search->points[i];
        if (!holds(setting, search, point)) continue;
        double value = setting->closed ? goodput_of(setting, search, point, -1) : point->load;
        if (value > search->value) {
            search->value = value;
            search->best = i;
        }
    }
    for (int32_t seed = 0; seed < search->seeds; seed++)
        search->without[seed] = search->seeds == 1 ? search->value
                                : setting->closed  ? clients_without(setting, search, seed)
                                                   : rate_without(setting, search, seed);
}

struct estimate search_ratio(const struct search *a, const struct search *b)
{
    double without[SEARCH_SEEDS];
    if (a->value <= 0 || b->value <= 0) return (struct estimate){0, 0, 0};
    double ratio = a->value / b->value;
    for (int32_t seed = 0; seed < a->seeds; seed++) {
        if (a->without[seed] <= 0 || b->without[seed] <= 0)
            return (struct estimate){ratio, 0, INFINITY};
        without[seed] = log(a->without[seed] / b->without[seed]);
    }
    double reach = jackknife_reach(without, a->seeds);
    return (struct estimate){ratio, ratio * exp(-reach), ratio * exp(reach)};
}
