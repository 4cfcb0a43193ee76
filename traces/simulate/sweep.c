#include "traces/simulate/sweep.h"

#include "base/base.h"
#include "base/progress.h"
#include "base/thread_pool.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

static const int32_t best_of[] = {128, 256, 384, 512};
#define CHUNKS      ((int32_t)COUNT_OF(best_of))
#define ROUGH_SEEDS 2 /* that say where to look, and which chunk to look at first */
#define ROUGH_LOADS 7 /* that such a search tries, about: for the progress bar */
#define WHOLE_LOADS 5
#define CURVE_FROM  0.6  /* of the lowest goodput */
#define CURVE_TO    1.2  /* of the highest */
#define RUN_PARTS   1000 /* of the progress bar */

/* A search of one policy with one chunk. */
struct task {
    struct setting setting;
    struct search_options options;
    struct search search;
};

struct job {
    const struct sweep_options *options;
    struct sweep *sweep;
    struct task *tasks;
    pthread_mutex_t lock; /* of everything below */
    struct progress *bar;
    int64_t done; /* RUN_PARTS a run */
    enum status status;
    struct error error;
};

/* --- tasks on all cores */

static void tell(struct job *job, int64_t parts, double virtual_s)
{
    pthread_mutex_lock(&job->lock);
    job->done += parts;
    job->sweep->virtual_s += virtual_s;
    progress_update(job->bar, job->done < job->bar->total ? job->done : job->bar->total);
    pthread_mutex_unlock(&job->lock);
}

static void note_failure(struct job *job, enum status status, const struct error *error)
{
    pthread_mutex_lock(&job->lock);
    if (!job->status) {
        job->status = status;
        job->error = *error;
    }
    pthread_mutex_unlock(&job->lock);
}

static bool stopped(struct job *job)
{
    pthread_mutex_lock(&job->lock);
    bool result = job->status != ST_OK;
    pthread_mutex_unlock(&job->lock);
    return result;
}

/* `runs`: about how many simulations they are. */
static void run_tasks(struct job *job, struct thread_pool *pool, int32_t count,
                      thread_pool_range_fn run, const char *label, int64_t runs)
{
    if (count == 0 || job->status) return;
    struct progress bar;
    progress_begin(&bar, label, runs * RUN_PARTS);
    job->bar = &bar;
    job->done = 0;
    thread_pool_for(pool, count, 1, run, job);
    progress_end(&bar);
}

static void ran_one(void *context, double virtual_s)
{
    tell(context, RUN_PARTS, virtual_s);
}

static void search_task(void *argument, int64_t begin, int64_t end, int member)
{
    struct job *job = argument;
    (void)member;
    for (int64_t i = begin; i < end && !stopped(job); i++) {
        struct task *task = &job->tasks[i];
        struct search_watch watch = {ran_one, job};
        struct error error = {0};
        if (cell_cache_get(job->options->cache, &task->setting, &task->options, &task->search))
            continue;
        enum status status =
            search_goodput(&task->setting, &task->options, &watch, &task->search, &error);
        if (status)
            note_failure(job, status, &error);
        else
            cell_cache_put(job->options->cache, &task->setting, &task->options, &task->search);
    }
}

/* How far a run is, of which `told` parts are in the bar already. */
struct run_progress {
    struct job *job;
    int64_t told;
};

static void tell_share(void *context, double share)
{
    struct run_progress *run = context;
    int64_t parts = (int64_t)(share * RUN_PARTS);
    if (parts <= run->told) return;
    tell(run->job, parts - run->told, 0);
    run->told = parts;
}

static enum status record_seeds(struct job *job, struct policy_result *policy,
                                struct recording *recording, struct error *err)
{
    enum status status = ST_OK;
    for (int32_t seed = 0; seed < job->sweep->seeds && !status; seed++) {
        struct run_progress run = {job, 0};
        double before_s = recording->virtual_s;
        recording->progress = tell_share;
        recording->context = &run;
        recording->width = seed == 0 ? policy->width : NULL;
        recording->step_ms = seed == 0 ? policy->step_ms : NULL;
        status = setting_record(&policy->setting, policy->load, seed, recording, err);
        tell(job, RUN_PARTS - run.told, recording->virtual_s - before_s);
    }
    return status;
}

/* All seeds of a policy, one behind the other, into one result. */
static void results_task(void *argument, int64_t begin, int64_t end, int member)
{
    struct job *job = argument;
    (void)member;
    for (int64_t i = begin; i < end && !stopped(job); i++) {
        struct policy_result *policy = &job->sweep->policies[i];
        struct recording recording = {0};
        struct error error = {0};
        if (job->options->goodput && policy->load <= 0) continue;
        if (job->options->report) {
            policy->width = series_create();
            policy->step_ms = series_create();
        }
        recording.builder = results_begin();
        enum status status = record_seeds(job, policy, &recording, &error);
        if (status) note_failure(job, status, &error);
        policy->results = results_end(recording.builder, recording.scored_s);
        policy->warm_us = recording.warm_us;
        policy->not_scored = recording.not_scored;
        if (job->options->goodput && !job->options->base.closed) {
            struct estimate rate =
                jackknife(policy->search.value, policy->search.without, policy->search.seeds);
            policy->results->searched = true;
            policy->results->max_rate = rate.mean;
            policy->results->max_rate_low = rate.low;
            policy->results->max_rate_high = rate.high;
        }
    }
}

/* --- the search for goodput */

static struct setting setting_of(const struct sweep_options *options, int32_t policy, int32_t chunk)
{
    struct setting setting = options->base;
    setting.policy = options->policies[policy];
    setting.policy_name = options->policy_names[policy];
    setting.chunk = chunk;
    setting.chunk_by_slo = options->chunk_rule == CHUNK_SLO;
    return setting;
}

static double load_of_best(const struct search *search)
{
    return search->best < 0 ? 0 : search->points[search->best].load;
}

/* Each policy with each chunk it may have, with few seeds. */
static void look_roughly(struct job *job, struct thread_pool *pool, int32_t chunks)
{
    const struct sweep_options *options = job->options;
    int32_t count = 0, seeds = min_i32(ROUGH_SEEDS, options->seeds);
    for (int32_t p = 0; p < options->policy_count; p++)
        for (int32_t c = 0; c < chunks; c++)
            job->tasks[count++] = (struct task){
                .setting = setting_of(options, p, chunks > 1 ? best_of[c] : options->chunk),
                .options = {.seeds = seeds, .clients = &options->clients},
            };
    run_tasks(job, pool, count, search_task, "looking roughly",
              (int64_t)count * seeds * ROUGH_LOADS);
}

/* The one with the most goodput, the first among equals. */
static struct task *best_task(struct task *tasks, int32_t chunks)
{
    struct task *best = &tasks[0];
    for (int32_t c = 1; c < chunks; c++)
        if (tasks[c].search.value > best->search.value) best = &tasks[c];
    return best;
}

/* All seeds, near what was found; where those were all seeds, that is it. */
static void look_closely(struct job *job, struct thread_pool *pool, int32_t chunks)
{
    const struct sweep_options *options = job->options;
    struct task *rough = job->tasks, *close = rough + options->policy_count * chunks;
    for (int32_t p = 0; p < options->policy_count; p++) {
        struct task *best = best_task(&rough[p * chunks], chunks);
        close[p] = (struct task){.setting = best->setting,
                                 .options = {.seeds = options->seeds,
                                             .hint = load_of_best(&best->search),
                                             .clients = &options->clients}};
        if (options->seeds > ROUGH_SEEDS) continue;
        close[p].search = best->search;
        best->search = (struct search){0};
    }
    if (options->seeds <= ROUGH_SEEDS) return;
    job->tasks = close;
    run_tasks(job, pool, options->policy_count, search_task, "looking closely",
              (int64_t)options->policy_count * options->seeds * WHOLE_LOADS);
    job->tasks = rough;
}

/* Few seeds may prefer a chunk that all of them do not: each other chunk of a policy, with all
 * seeds. In an open loop it is enough to see whether it holds one step above what was found. */
static void try_other_chunks(struct job *job, struct thread_pool *pool, int32_t chunks)
{
    const struct sweep_options *options = job->options;
    struct task *rough = job->tasks, *close = rough + options->policy_count * chunks;
    struct task *others = close + options->policy_count;
    int32_t count = 0;
    for (int32_t p = 0; p < options->policy_count; p++)
        for (int32_t c = 0; c < chunks; c++) {
            const struct task *other = &rough[p * chunks + c];
            bool above = !options->base.closed && close[p].search.best >= 0;
            if (other->setting.chunk == close[p].setting.chunk) continue;
            others[count++] =
                (struct task){.setting = other->setting,
                              .options = {.seeds = options->seeds,
                                          .hint = above ? search_load_above(close[p].search.value)
                                                        : load_of_best(&other->search),
                                          .from_hint = above,
                                          .clients = &options->clients}};
        }
    job->tasks = others;
    run_tasks(job, pool, count, search_task, "other chunks", (int64_t)count * options->seeds);
    job->tasks = rough;
    for (int32_t i = 0; i < count; i++) {
        struct task *best = &close[i / (chunks - 1)], loser = *best;
        if (others[i].search.value <= best->search.value) continue;
        *best = others[i];
        others[i] = loser;
    }
}

static void find_goodput(struct job *job, struct thread_pool *pool)
{
    const struct sweep_options *options = job->options;
    int32_t chunks = options->chunk_rule == CHUNK_BEST ? CHUNKS : 1;
    int32_t rough = options->policy_count * chunks, count = 2 * rough;
    job->tasks = must_alloc((size_t)count * sizeof *job->tasks);
    look_roughly(job, pool, chunks);
    if (!job->status) look_closely(job, pool, chunks);
    if (!job->status && chunks > 1 && options->seeds > ROUGH_SEEDS)
        try_other_chunks(job, pool, chunks);
    for (int32_t p = 0; p < options->policy_count && !job->status; p++) {
        struct task *task = &job->tasks[rough + p];
        struct policy_result *policy = &job->sweep->policies[p];
        policy->setting = task->setting;
        policy->search = task->search;
        policy->load = load_of_best(&task->search);
        task->search = (struct search){0};
    }
    for (int32_t i = 0; i < count; i++)
        search_release(&job->tasks[i].search);
    free(job->tasks);
}

/* --- curves for a report */

/* Of a policy: the same rates for all, from under the lowest goodput to over the highest. */
static void curve_task(void *argument, int64_t begin, int64_t end, int member)
{
    struct job *job = argument;
    (void)member;
    for (int64_t i = begin; i < end && !stopped(job); i++) {
        struct policy_result *policy = &job->sweep->policies[i / SWEEP_CURVE_POINTS];
        struct point *point = &policy->curve.points[i % SWEEP_CURVE_POINTS];
        struct error error = {0};
        point->whole = true;
        for (int32_t seed = 0; seed < policy->curve.seeds; seed++) {
            struct cell *cell = &point->cells[seed];
            enum status status = setting_run(&policy->setting, point->load, seed, 0, cell, &error);
            if (status) note_failure(job, status, &error);
            tell(job, RUN_PARTS, cell->virtual_s);
        }
    }
}

static void draw_curves(struct job *job, struct thread_pool *pool)
{
    struct sweep *sweep = job->sweep;
    double least = INFINITY, most = 0;
    for (int32_t p = 0; p < sweep->policy_count; p++) {
        double load = sweep->policies[p].load;
        if (load > 0) least = fmin(least, load);
        most = fmax(most, load);
    }
    if (most <= 0) return;
    least *= CURVE_FROM;
    most *= CURVE_TO;
    for (int32_t p = 0; p < sweep->policy_count; p++) {
        struct search *curve = &sweep->policies[p].curve;
        curve->seeds = min_i32(SWEEP_CURVE_SEEDS, sweep->seeds);
        for (int i = 0; i < SWEEP_CURVE_POINTS; i++)
            search_add_point(curve)->load = least + (most - least) * i / (SWEEP_CURVE_POINTS - 1);
    }
    int32_t count = sweep->policy_count * SWEEP_CURVE_POINTS;
    run_tasks(job, pool, count, curve_task, "curves", (int64_t)count * SWEEP_CURVE_SEEDS);
}

/* --- the whole */

static void take_fixed(struct job *job)
{
    const struct sweep_options *options = job->options;
    for (int32_t p = 0; p < options->policy_count; p++) {
        struct policy_result *policy = &job->sweep->policies[p];
        policy->setting = setting_of(options, p, options->chunk);
        policy->load = options->base.closed ? (double)options->clients.values[0] : options->rate;
    }
}

static double seconds(void)
{
    struct clock clock = clock_monotonic();
    return (double)clock_now(&clock) / 1e6;
}

enum status sweep_run(const struct sweep_options *options, struct sweep **out, struct error *err)
{
    struct thread_pool *pool;
    enum status status = thread_pool_create(options->jobs, &pool, err);
    if (status) return status;
    double started = seconds();
    struct sweep *sweep = must_alloc(sizeof *sweep);
    sweep->policy_count = options->policy_count;
    sweep->seeds = options->seeds;
    struct job job = {.options = options, .sweep = sweep, .lock = PTHREAD_MUTEX_INITIALIZER};
    if (options->goodput)
        find_goodput(&job, pool);
    else
        take_fixed(&job);
    if (!options->goodput || !options->brief)
        run_tasks(&job, pool, sweep->policy_count, results_task, "results",
                  (int64_t)sweep->policy_count * sweep->seeds);
    if (options->goodput && options->report && !options->base.closed && !job.status)
        draw_curves(&job, pool);
    thread_pool_free(pool);
    sweep->wall_s = seconds() - started;
    if (!job.status) {
        *out = sweep;
        return ST_OK;
    }
    if (err) *err = job.error;
    sweep_free(sweep);
    return job.status;
}

void sweep_free(struct sweep *sweep)
{
    if (!sweep) return;
    for (int32_t p = 0; p < sweep->policy_count; p++) {
        struct policy_result *policy = &sweep->policies[p];
        search_release(&policy->search);
        search_release(&policy->curve);
        free(policy->width);
        free(policy->step_ms);
        if (policy->results) results_free(policy->results);
    }
    free(sweep);
}
