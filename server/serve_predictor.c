#include "server/serve_predictor.h"

#include "base/base.h"
#include "model/load_options.h"
#include "model/step_prior.h"
#include "scheduler/profiling.h"
#include "server/predictor_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SINGLE_ROW_US 50000   /* of steps of one row at the start */
#define PROFILE_US    2000000 /* of random steps before the first request */
#define LONGEST_US    100000  /* of them: what a request waits... */
#define LONGEST_ROWS  4       /* ...or so many steps of a single row */

struct serve_predictor {
    struct predictor predictor;
    struct step_prior prior;     /* that it began with */
    struct profiling *profiling; /* NULL: not possible, failed, or over */
    struct clock clock;
    double single_row_us;
    int64_t most_us, left_us; /* of a random step, of all */
    char *path, *about;       /* path NULL: nothing is kept */
    bool known;               /* from an earlier run */
};

/* --- what a file is about */

/* Of /proc/cpuinfo; without it every machine is the same. */
static void add_machine(struct strbuf *out)
{
    char line[512];
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, "model name", 10) != 0) continue;
        line[strcspn(line, "\n")] = '\0';
        const char *words = strchr(line, ':');
        strbuf_format(out, " on%s", words ? words + 1 : "");
        break;
    }
    if (file) fclose(file);
}

static char *describe(const struct model *model)
{
    const struct model_config *config = model_config(model);
    struct strbuf about = {0};
    strbuf_format(&about, "%s, %s of %d layers of %d, vocabulary %d, %s, %zu bytes of weights",
                  config->name, config->architecture, config->layers, config->hidden, config->vocab,
                  weight_format_name(model_weights(model)), model_weight_bytes(model));
    strbuf_format(&about, ", %lld of KV a block, %s, %d threads",
                  (long long)(model_kv_bytes(model) / (size_t)model_kv_blocks(model)),
                  model_backend_name(model), model_threads(model));
    add_machine(&about);
    for (size_t i = 0; i < about.length; i++) /* a name may have any bytes; a JSON text not */
        if (about.data[i] < ' ' || about.data[i] > '~') about.data[i] = '?';
    return strbuf_take(&about);
}

/* --- at the start */

static void measure(struct serve_predictor *p)
{
    struct error err = {0};
    enum status status = profiling_single_row(p->profiling, SINGLE_ROW_US, &p->single_row_us, &err);
    if (!status) return;
    log_warn("no step could be measured at the start: %s", err.text);
    profiling_free(p->profiling);
    p->profiling = NULL;
}

static void begin(struct serve_predictor *p, struct model *model)
{
    p->prior = model_step_prior(model);
    if (p->single_row_us > 0) p->prior = step_prior_scaled(&p->prior, p->single_row_us);
    predictor_init(&p->predictor, SHARED_BLOCKS, &p->prior);
    p->about = describe(model);
    p->path = predictor_file_path(model_config(model)->name, p->about);
    p->known = p->path && predictor_file_read(p->path, p->about, &p->predictor, &p->prior);
}

struct serve_predictor *serve_predictor_create(struct model *model, int32_t max_rows,
                                               int32_t prefill_chunk)
{
    struct serve_predictor *p = must_alloc(sizeof *p);
    struct error err = {0};
    p->clock = clock_monotonic();
    struct profiling_options options = {.executor = model_executor(model),
                                        .clock = p->clock,
                                        .shared = SHARED_BLOCKS,
                                        .max_rows = max_rows,
                                        .prefill_chunk = prefill_chunk,
                                        .seed = 1};
    if (profiling_create(&options, &p->profiling, &err))
        log_warn("no steps are profiled: %s", err.text);
    else
        measure(p);
    p->left_us = PROFILE_US;
    p->most_us = max_i64(LONGEST_US, (int64_t)(LONGEST_ROWS * p->single_row_us));
    begin(p, model);
    return p;
}

static void keep(const struct serve_predictor *p)
{
    if (p->path) predictor_file_write(p->path, p->about, &p->prior, &p->predictor);
}

void serve_predictor_free(struct serve_predictor *p)
{
    if (!p) return;
    keep(p);
    profiling_free(p->profiling);
    free(p->path);
    free(p->about);
    free(p);
}

void serve_predictor_tell(const struct serve_predictor *p)
{
    log_info("a step of a single row takes %.2f ms%s", p->single_row_us / 1e3,
             p->known ? "; what other steps take is known from an earlier run" : "");
}

double serve_predictor_single_row_us(const struct serve_predictor *p)
{
    return p->single_row_us;
}

struct step_predictor serve_predictor_door(struct serve_predictor *p)
{
    return predictor_door(&p->predictor);
}

/* --- until the first request comes, on the engine's thread */

static bool profile(void *context)
{
    struct serve_predictor *p = context;
    struct error err = {0};
    int64_t since_us = clock_now(&p->clock);
    enum status status = profiling_step(p->profiling, &p->predictor, p->most_us, &err);
    p->left_us -= clock_now(&p->clock) - since_us;
    if (status) log_warn("a step failed while steps were profiled: %s", err.text);
    if (!status && p->left_us > 0) return true;
    keep(p);
    profiling_free(p->profiling);
    p->profiling = NULL;
    return false;
}

void serve_predictor_attach(struct serve_predictor *p, struct engine *engine)
{
    if (p->profiling) engine_before_first(engine, profile, p);
}
