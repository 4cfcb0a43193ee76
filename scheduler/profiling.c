/* Blocks, in this order: one for each row's own token; those of a chunk whose tokens no later step
 * attends to; the context, which decode rows and chunks attend to. It is filled by chunks, because
 * memory that was never written costs less to read. */
#include "scheduler/profiling.h"

#include "base/base.h"

#include <math.h>
#include <stdlib.h>

#define MOST_CONTEXT  8192 /* slots that are filled at most */
#define LEAST_CHUNK   16
#define SINGLE_MOST   64  /* steps of one row; the first, which finds cold caches, is not one */
#define PREFILL_SHARE 0.4 /* of the random steps have a chunk */
#define BOTH_SHARE    0.5 /* of them, have rows beside it */
#define SHARING       0.5 /* of the steps' rows attend to the same slots */
#define SPANS         2   /* of a row */
#define NAMES_FROM    ((uint64_t)1 << 63) /* of sequences: no scheduler's */

struct profiling {
    struct profiling_options options;
    struct executor_capacity capacity;
    struct load_meter *meter;
    struct rng rng;
    int32_t max_rows, chunk, chunk_blocks;
    int32_t *blocks;            /* [capacity.block_count] 0, 1, 2, ... */
    int32_t *context;           /* in `blocks`, behind those for rows and a chunk */
    int32_t filled, most;       /* slots of the context */
    int32_t *context_tokens;    /* [most] */
    int32_t *tokens;            /* [capacity.max_tokens] */
    struct plan_row *rows;      /* [max_rows + 1] */
    struct kv_span *spans;      /* [SPANS * (max_rows + 1)] */
    struct token_run *runs;     /* likewise */
    struct row_result *results; /* [max_rows + 1] */
    uint64_t sequences;
};

/* What a step is made of. */
struct recipe {
    int32_t rows, context; /* that decode, and slots that each attends to beside its own */
    bool sharing;          /* the same slots */
    int32_t chunk, before; /* tokens of a chunk, and slots before it */
    bool fills;            /* the context, with them */
};

enum status profiling_create(const struct profiling_options *options, struct profiling **out,
                             struct error *err)
{
    struct executor_capacity capacity;
    options->executor.ops->capacity(options->executor.self, &capacity);
    int32_t rows = min_i32(min_i32(options->max_rows, capacity.max_rows), capacity.max_tokens);
    rows = min_i32(rows, capacity.block_count / 2);
    if (rows < 1 || capacity.max_context < 2 || options->prefill_chunk < 1)
        return fail(err, ST_INVALID,
                    "steps cannot be profiled with %d KV blocks, %d rows, %d tokens a step, a "
                    "context of %d and a prefill chunk of %d; at least 2, 1, 1, 2 and 1 are needed",
                    capacity.block_count, min_i32(options->max_rows, capacity.max_rows),
                    capacity.max_tokens, capacity.max_context, options->prefill_chunk);
    struct profiling *p = must_alloc(sizeof *p);
    *p = (struct profiling){
        .options = *options, .capacity = capacity, .rng = {options->seed}, .max_rows = rows};
    int32_t left = capacity.block_count - rows; /* half of it, at most, is the chunk's */
    p->chunk = min_i32(min_i32(options->prefill_chunk, capacity.max_tokens),
                       min_i32(capacity.max_context, left / 2 * KV_BLOCK_SLOTS));
    p->chunk_blocks = (p->chunk + KV_BLOCK_SLOTS - 1) / KV_BLOCK_SLOTS;
    left -= p->chunk_blocks;
    p->most = min_i32(min_i32(left * KV_BLOCK_SLOTS, MOST_CONTEXT), capacity.max_context - 1);
    size_t most_rows = (size_t)min_i32(rows + 1, capacity.max_rows);
    p->meter = load_meter_create(options->shared, (int32_t)most_rows, capacity.block_count);
    p->blocks = try_alloc((size_t)capacity.block_count, sizeof *p->blocks);
    p->tokens = try_alloc((size_t)capacity.max_tokens, sizeof *p->tokens);
    p->rows = try_alloc(most_rows, sizeof *p->rows);
    p->spans = try_alloc(most_rows * SPANS, sizeof *p->spans);
    p->runs = try_alloc(most_rows * SPANS, sizeof *p->runs);
    p->context_tokens = try_alloc((size_t)p->most, sizeof *p->context_tokens);
    p->results = try_alloc(most_rows, sizeof *p->results);
    if (!p->meter || !p->blocks || !p->tokens || !p->context_tokens || !p->rows || !p->spans ||
        !p->runs || !p->results) {
        profiling_free(p);
        return fail(err, ST_NO_MEMORY, "out of memory for the profile of steps");
    }
    for (int32_t i = 0; i < capacity.block_count; i++)
        p->blocks[i] = i;
    p->context = p->blocks + rows + p->chunk_blocks;
    *out = p;
    return ST_OK;
}

void profiling_free(struct profiling *p)
{
    if (!p) return;
    void *arrays[] = {p->blocks, p->context_tokens, p->tokens, p->rows,
                      p->spans,  p->runs,           p->results};
    for (size_t i = 0; i < COUNT_OF(arrays); i++)
        free(arrays[i]);
    load_meter_free(p->meter);
    free(p);
}

/* --- one step */

static void draw_tokens(struct profiling *p, int32_t *tokens, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        tokens[i] = (int32_t)rng_below(&p->rng, (uint64_t)p->capacity.vocab);
}

static void add_span(struct plan_row *row, const int32_t *blocks, const int32_t *tokens,
                     int32_t length)
{
    struct kv_span *span = (struct kv_span *)&row->view.spans[row->view.span_count++];
    struct token_run *run = (struct token_run *)&row->history[row->history_count++];
    *span =
        (struct kv_span){.blocks = blocks, .length = length, .first_position = row->view.length};
    *run = (struct token_run){tokens, length};
    row->view.length += length;
}

static struct plan_row *add_row(struct profiling *p, struct step_plan *plan, int32_t before,
                                int32_t *tokens, int32_t count)
{
    static const struct sample_spec greedy = {.top_p = 1};
    struct plan_row *row = &p->rows[plan->row_count];
    *row = (struct plan_row){.sequence = NAMES_FROM + ++p->sequences,
                             .tokens = tokens,
                             .count = count,
                             .previous_row = -1,
                             .first_position = before,
                             .view.spans = &p->spans[SPANS * plan->row_count],
                             .history = &p->runs[SPANS * plan->row_count],
                             .sample = &greedy};
    draw_tokens(p, tokens, count);
    plan->row_count++;
    plan->token_count += count;
    return row;
}

/* One token behind some of the context, from its block `from` on. */
static void add_decode(struct profiling *p, struct step_plan *plan, int32_t from, int32_t context)
{
    int32_t *tokens = p->tokens + plan->token_count;
    const int32_t *own = &p->blocks[plan->row_count];
    struct plan_row *row = add_row(p, plan, context, tokens, 1);
    if (context > 0)
        add_span(row, p->context + from, p->context_tokens + from * KV_BLOCK_SLOTS, context);
    add_span(row, own, tokens, 1);
}

/* Fills more of the context, or, where that is full, stands behind some of it. */
static void add_chunk(struct profiling *p, struct step_plan *plan, const struct recipe *recipe)
{
    int32_t *tokens =
        recipe->fills ? p->context_tokens + recipe->before : p->tokens + plan->token_count;
    struct plan_row *row = add_row(p, plan, recipe->before, tokens, recipe->chunk);
    if (recipe->chunk > 1) row->sample = NULL; /* one token alone would be a decode row */
    if (recipe->fills) {
        add_span(row, p->context, p->context_tokens, recipe->before + recipe->chunk);
        return;
    }
    if (recipe->before > 0) add_span(row, p->context, p->context_tokens, recipe->before);
    add_span(row, p->blocks + p->max_rows, tokens, recipe->chunk);
}

static enum status run_step(struct profiling *p, const struct recipe *recipe,
                            struct step_load *load, int64_t *us, struct error *err)
{
    struct step_plan plan = {.rows = p->rows};
    const struct executor *executor = &p->options.executor;
    int32_t stride = recipe->sharing ? 0 : (recipe->context + KV_BLOCK_SLOTS - 1) / KV_BLOCK_SLOTS;
    for (int32_t i = 0; i < recipe->rows; i++)
        add_decode(p, &plan, i * stride, recipe->context);
    if (recipe->chunk > 0) add_chunk(p, &plan, recipe);
    *load = load_meter_measure(p->meter, plan.rows, plan.row_count);
    uint64_t ticket;
    int64_t since_us = clock_now(&p->options.clock);
    enum status status = executor->ops->submit(executor->self, &plan, &ticket, err);
    if (!status) status = executor->ops->collect(executor->self, ticket, p->results, err);
    *us = clock_now(&p->options.clock) - since_us;
    if (!status && recipe->fills) p->filled += recipe->chunk;
    return status;
}

/* --- which steps */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum status profiling_single_row(struct profiling *p, int64_t most_us, double *single_us,
                                 struct error *err)
{
    double took[SINGLE_MOST];
    int32_t count = 0;
    int64_t since_us = clock_now(&p->options.clock), us = 0;
    const struct recipe one = {.rows = 1};
    struct step_load load;
    enum status status = run_step(p, &one, &load, &us, err); /* cold */
    while (!status && count < SINGLE_MOST) {
        status = run_step(p, &one, &load, &us, err);
        took[count++] = (double)us;
        if (clock_now(&p->options.clock) - since_us + us > most_us) break;
    }
    if (status) return status;
    qsort(took, (size_t)count, sizeof *took, by_value);
    *single_us = fmax(1, took[count / 4]); /* what disturbs a step makes it longer */
    return ST_OK;
}

/* From least to most, each doubling as likely as the other. */
static int32_t draw(struct profiling *p, int32_t least, int32_t most)
{
    if (most <= least) return most;
    return (int32_t)lround(least * exp(rng_unit(&p->rng) * log((double)most / least)));
}

static struct recipe draw_recipe(struct profiling *p)
{
    struct recipe recipe = {.sharing = rng_unit(&p->rng) < SHARING};
    bool prefills = p->chunk > 0 && (p->filled == 0 || rng_unit(&p->rng) < PREFILL_SHARE);
    bool decodes = !prefills || (p->capacity.max_rows > 1 && rng_unit(&p->rng) < BOTH_SHARE);
    if (decodes) recipe.rows = draw(p, 1, p->max_rows);
    if (prefills) recipe.chunk = draw(p, min_i32(LEAST_CHUNK, p->chunk), p->chunk);
    return recipe;
}

/* Cuts it to what there is room for. */
static void fit_recipe(struct profiling *p, struct recipe *recipe)
{
    if (recipe->chunk > 0) recipe->rows = min_i32(recipe->rows, p->capacity.max_rows - 1);
    recipe->chunk = min_i32(recipe->chunk, p->capacity.max_tokens - recipe->rows);
    int32_t each = recipe->sharing || recipe->rows == 0
                       ? p->filled
                       : p->filled / KV_BLOCK_SLOTS / recipe->rows * KV_BLOCK_SLOTS;
    recipe->context = each > 0 ? draw(p, 1, each) : 0;
    recipe->before = p->filled;
    recipe->fills = recipe->chunk > 0 && recipe->chunk <= p->most - p->filled;
    if (!recipe->fills)
        recipe->before = min_i32((int32_t)rng_below(&p->rng, (uint64_t)p->filled + 1),
                                 p->capacity.max_context - recipe->chunk);
}

static double expected_us(const struct predictor *predictor, const struct recipe *recipe)
{
    double attention = prefill_attention(recipe->chunk, recipe->before + recipe->chunk);
    struct step_load load = {.decode_rows = recipe->rows,
                             .prefill_tokens = recipe->chunk,
                             .context_read = (int64_t)recipe->rows * (recipe->context + 1),
                             .prefill_attention = attention};
    return predictor_predict(predictor, &load);
}

enum status profiling_step(struct profiling *p, struct predictor *predictor, int64_t most_us,
                           struct error *err)
{
    struct recipe recipe = draw_recipe(p);
    struct step_load load;
    int64_t us;
    fit_recipe(p, &recipe);
    while (recipe.rows + recipe.chunk > 1 &&
           expected_us(predictor, &recipe) > (double)most_us) { /* half of the larger part */
        if (recipe.chunk >= recipe.rows)
            recipe.chunk /= 2;
        else
            recipe.rows /= 2;
    }
    enum status status = run_step(p, &recipe, &load, &us, err);
    if (!status) predictor_observe(predictor, &load, (double)us);
    return status;
}
