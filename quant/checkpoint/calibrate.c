#include "quant/checkpoint/calibrate.h"
#include "base/base.h"
#include "model/rope.h"
#include "quant/gram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW CALIBRATION_WINDOW

struct calibration {
    struct thread_pool *pool; /* borrowed */
    struct model_config config;
    struct attention_shape shape;
    float *inv_freq;
    struct backend *backend;
    struct kv_pool *kv;                      /* one layer, one window */
    struct tensor *x, *q, *attended, *inner; /* of one window */
    int64_t tokens;
    float *stream; /* [tokens][hidden] */
    float *wide;   /* [tokens][attended or intermediate columns] */
    float *rows;   /* [WINDOW][widest]: a window on its way to a gram */
    /* with an exact stream: */
    float *exact;        /* [tokens][hidden]: the stream of the weights as they were */
    float *gap;          /* [WINDOW][hidden]: what a window lacks of it */
    float *token_weight; /* [tokens] */
    /* the step: one window, over and over */
    struct step_input input;
    struct attention_sequence sequence;
    struct attention_span span;
    int32_t ids[WINDOW], positions[WINDOW], blocks[WINDOW / BLOCK_SLOTS];
    int64_t slots[WINDOW];
};

static int64_t attended_cols(const struct model_config *c)
{
    return (int64_t)c->heads * c->head_dim;
}

static int64_t widest(const struct model_config *c)
{
    int64_t most = attended_cols(c) > c->intermediate ? attended_cols(c) : c->intermediate;
    return most > c->hidden ? most : c->hidden;
}

static void plan_window(struct calibration *c)
{
    for (int32_t i = 0; i < WINDOW; i++) {
        c->positions[i] = i;
        c->slots[i] = i;
    }
    for (int32_t i = 0; i < WINDOW / BLOCK_SLOTS; i++)
        c->blocks[i] = i;
    c->span = (struct attention_span){c->blocks, 0, WINDOW};
    c->sequence = (struct attention_sequence){
        .rows = WINDOW, .context = 1, .spans = &c->span, .span_count = 1};
    c->input = (struct step_input){.rows = WINDOW,
                                   .tokens = c->ids,
                                   .positions = c->positions,
                                   .slots = c->slots,
                                   .sequences = &c->sequence,
                                   .sequence_count = 1};
}

static enum status create_backend(struct calibration *c, struct error *err)
{
    const struct model_config *m = &c->config;
    enum cpu_isa isa;
    enum status status = cpu_isa_select(&isa, err);
    if (!status) status = backend_cpu_create(c->pool, isa, true, &c->backend, err);
    if (status) return status;
    const struct backend_ops *ops = c->backend->ops;
    c->kv = ops->kv_create(c->backend, DT_F32, 1, m->kv_heads, m->head_dim, WINDOW / BLOCK_SLOTS);
    c->x = ops->tensor_create(c->backend, WINDOW, m->hidden);
    c->q = ops->tensor_create(c->backend, WINDOW, attended_cols(m));
    c->attended = ops->tensor_create(c->backend, WINDOW, attended_cols(m));
    c->inner = ops->tensor_create(c->backend, WINDOW, m->intermediate);
    if (c->kv && c->x && c->q && c->attended && c->inner) return ST_OK;
    return fail(err, ST_NO_MEMORY, "no memory for the activations of a calibration window");
}

enum status calibration_create(const struct checkpoint *source, const int32_t *tokens,
                               int32_t windows, bool exact, struct thread_pool *pool,
                               struct calibration **out, struct error *err)
{
    struct calibration *c = must_alloc(sizeof *c);
    *c = (struct calibration){
        .pool = pool, .config = *checkpoint_config(source), .tokens = (int64_t)windows * WINDOW};
    const struct model_config *m = &c->config;
    c->inv_freq = must_alloc((size_t)m->head_dim / 2 * sizeof *c->inv_freq);
    model_rope_frequencies(m, c->inv_freq);
    c->shape = (struct attention_shape){.heads = m->heads,
                                        .kv_heads = m->kv_heads,
                                        .head_dim = m->head_dim,
                                        .inv_freq = c->inv_freq,
                                        .rope_scale = model_rope_scale(m),
                                        .eps = m->rms_eps};
    plan_window(c);
    c->rows = must_alloc((size_t)(WINDOW * widest(m)) * sizeof *c->rows);
    c->stream = try_alloc((size_t)(c->tokens * m->hidden), sizeof *c->stream);
    c->wide = try_alloc((size_t)(c->tokens * widest(m)), sizeof *c->wide);
    bool room = c->stream && c->wide;
    if (exact && room) {
        c->exact = try_alloc((size_t)(c->tokens * m->hidden), sizeof *c->exact);
        c->gap = must_alloc((size_t)(WINDOW * m->hidden) * sizeof *c->gap);
        c->token_weight = must_alloc((size_t)c->tokens * sizeof *c->token_weight);
        room = c->exact;
    }
    enum status status =
        room ? create_backend(c, err)
             : fail(err, ST_NO_MEMORY,
                    "no memory for calibration on %lld tokens (%lld bytes); use fewer",
                    (long long)c->tokens,
                    (long long)(4 * c->tokens * ((exact ? 2 : 1) * m->hidden + widest(m))));
    if (status) {
        calibration_free(c);
        return status;
    }
    const struct checkpoint_tensor *embedding = checkpoint_tensor(source, TENSOR_EMBEDDING, 0);
    for (int64_t i = 0; i < c->tokens; i++)
        checkpoint_read_rows(embedding, tokens[i], 1, c->stream + i * m->hidden);
    if (exact) memcpy(c->exact, c->stream, (size_t)(c->tokens * m->hidden) * sizeof *c->exact);
    *out = c;
    return ST_OK;
}

void calibration_free(struct calibration *c)
{
    if (!c) return;
    if (c->backend) {
        const struct backend_ops *ops = c->backend->ops;
        struct tensor *tensors[] = {c->x, c->q, c->attended, c->inner};
        for (size_t i = 0; i < COUNT_OF(tensors); i++)
            ops->tensor_free(c->backend, tensors[i]);
        ops->kv_free(c->backend, c->kv);
        ops->free(c->backend);
    }
    free(c->inv_freq);
    free(c->rows);
    free(c->stream);
    free(c->wide);
    free(c->exact);
    free(c->gap);
    free(c->token_weight);
    free(c);
}

int64_t calibration_tokens(const struct calibration *c)
{
    return c->tokens;
}

/* --- grams */

struct norm_job {
    const struct calibration *c;
    const float *norm, *from;
    float *out;
};

static void normalize_rows(void *argument, int64_t begin, int64_t end, int member)
{
    (void)member;
    const struct norm_job *job = argument;
    int64_t hidden = job->c->config.hidden;
    for (int64_t row = begin; row < end; row++) {
        const float *x = job->from + row * hidden;
        float *out = job->out + row * hidden;
        double squares = 0;
        for (int64_t k = 0; k < hidden; k++)
            squares += (double)x[k] * (double)x[k];
        double scale = 1 / sqrt(squares / (double)hidden + (double)job->c->config.rms_eps);
        for (int64_t k = 0; k < hidden; k++)
            out[k] = (float)((double)x[k] * scale) * job->norm[k];
    }
}

static void normalize(const struct calibration *c, const float *norm, const float *stream,
                      float *out)
{
    struct norm_job job = {c, norm, stream, out};
    thread_pool_for(c->pool, WINDOW, 32, normalize_rows, &job);
}

/* gap = of - from, for a window */
static void subtract(const struct calibration *c, const float *of, const float *from)
{
    for (int64_t i = 0; i < WINDOW * c->config.hidden; i++)
        c->gap[i] = of[i] - from[i];
}

void calibration_norm_gram(struct calibration *c, const float *norm, double *gram, double *cross)
{
    int64_t hidden = c->config.hidden;
    memset(gram, 0, (size_t)(hidden * hidden) * sizeof *gram);
    if (c->exact) memset(cross, 0, (size_t)(hidden * hidden) * sizeof *cross);
    for (int64_t at = 0; at < c->tokens; at += WINDOW) {
        normalize(c, norm, c->stream + at * hidden, c->rows);
        if (!c->exact) {
            gram_add_diagonal(gram, hidden, c->rows, WINDOW, hidden);
            continue;
        }
        gram_add(gram, hidden, c->rows, WINDOW, hidden, c->pool);
        normalize(c, norm, c->exact + at * hidden, c->gap);
        subtract(c, c->gap, c->rows);
        cross_gram_add(cross, c->gap, hidden, c->rows, hidden, WINDOW, c->pool);
    }
    gram_mirror(gram, hidden);
}

void calibration_wide_diagonal(struct calibration *c, int64_t cols, double *gram)
{
    memset(gram, 0, (size_t)(cols * cols) * sizeof *gram);
    gram_add_diagonal(gram, cols, c->wide, c->tokens, cols);
}

/* --- the parts of a layer */

static void read_values(const void *context, int64_t first, int64_t count, float *out)
{
    const struct float_matrix *matrix = context;
    memcpy(out, matrix->values + first * matrix->cols,
           (size_t)(count * matrix->cols) * sizeof *out);
}

struct part_list {
    enum tensor_role roles[3];
    int count;
    bool paired;
};

static struct part_list one_part(enum tensor_role role)
{
    return (struct part_list){{role}, 1, false};
}

static enum status pack(struct calibration *c, const struct float_layer *layer,
                        struct part_list parts, struct weight **out, struct error *err)
{
    struct weight_source sources[3];
    for (int i = 0; i < parts.count; i++) {
        const struct float_matrix *matrix = &layer->tensors[parts.roles[i]];
        sources[i] =
            (struct weight_source){.read = read_values, .context = matrix, .rows = matrix->rows};
    }
    struct weight_spec spec = {.format = WEIGHT_NATIVE,
                               .native = DT_F32,
                               .parts = sources,
                               .part_count = parts.count,
                               .paired = parts.paired,
                               .cols = layer->tensors[parts.roles[0]].cols};
    return c->backend->ops->weight_create(c->backend, &spec, out, err);
}

/* A vector of up to three roles, end to end; *out is NULL where the model has none. */
static enum status vector(struct calibration *c, const struct float_layer *layer,
                          struct part_list parts, struct tensor **out, struct error *err)
{
    int64_t total = 0;
    *out = NULL;
    for (int i = 0; i < parts.count; i++)
        total += layer->tensors[parts.roles[i]].cols;
    if (!layer->tensors[parts.roles[0]].values) return ST_OK;
    *out = c->backend->ops->tensor_create(c->backend, 1, total);
    if (!*out) return fail(err, ST_NO_MEMORY, "no memory for a vector of %lld", (long long)total);
    float *values = must_alloc((size_t)total * sizeof *values);
    int64_t at = 0;
    for (int i = 0; i < parts.count; i++) {
        int64_t cols = layer->tensors[parts.roles[i]].cols;
        memcpy(values + at, layer->tensors[parts.roles[i]].values, (size_t)cols * sizeof *values);
        at += cols;
    }
    c->backend->ops->tensor_write(c->backend, *out, 0, values);
    free(values);
    return ST_OK;
}

static void to_tensor(struct calibration *c, struct tensor *tensor, const float *from, int64_t cols)
{
    for (int64_t row = 0; row < WINDOW; row++)
        c->backend->ops->tensor_write(c->backend, tensor, row, from + row * cols);
}

static void from_tensor(struct calibration *c, const struct tensor *tensor, float *to, int64_t cols)
{
    for (int64_t row = 0; row < WINDOW; row++)
        c->backend->ops->tensor_read(c->backend, tensor, row, to + row * cols);
}

/* --- attention and the first half of the feed-forward part, on one window after another */

struct attention_part {
    struct weight *qkv;
    struct tensor *norm, *bias, *q_norm, *k_norm;
};

static void attention_close(struct calibration *c, struct attention_part *part)
{
    struct tensor *vectors[] = {part->norm, part->bias, part->q_norm, part->k_norm};
    for (size_t i = 0; i < COUNT_OF(vectors); i++)
        c->backend->ops->tensor_free(c->backend, vectors[i]);
    c->backend->ops->weight_free(c->backend, part->qkv);
}

static enum status attention_open(struct calibration *c, const struct float_layer *layer,
                                  struct attention_part *part, struct error *err)
{
    struct part_list qkv = {{TENSOR_Q, TENSOR_K, TENSOR_V}, 3, false};
    struct part_list biases = {{TENSOR_Q_BIAS, TENSOR_K_BIAS, TENSOR_V_BIAS}, 3, false};
    enum status status;
    *part = (struct attention_part){0};
    if ((status = pack(c, layer, qkv, &part->qkv, err)) ||
        (status = vector(c, layer, one_part(TENSOR_ATTN_NORM), &part->norm, err)) ||
        (status = vector(c, layer, biases, &part->bias, err)) ||
        (status = vector(c, layer, one_part(TENSOR_Q_NORM), &part->q_norm, err)) ||
        (status = vector(c, layer, one_part(TENSOR_K_NORM), &part->k_norm, err)))
        attention_close(c, part);
    return status;
}

/* c->x = the stream's window, c->attended = what its heads give. */
static void attend_window(struct calibration *c, const struct attention_part *part,
                          const float *stream)
{
    const struct backend_ops *ops = c->backend->ops;
    float eps = c->config.rms_eps;
    to_tensor(c, c->x, stream, c->config.hidden);
    ops->step_begin(c->backend, &c->input);
    ops->norm_qkv(c->backend, &c->shape, c->x, part->norm, eps, part->qkv, part->bias, part->q_norm,
                  part->k_norm, c->kv, 0, c->q);
    ops->attention(c->backend, &c->shape, c->q, c->kv, 0, c->attended);
}

enum status calibration_attend(struct calibration *c, const struct float_layer *layer,
                               struct error *err)
{
    struct attention_part part;
    int64_t cols = attended_cols(&c->config);
    enum status status = attention_open(c, layer, &part, err);
    if (status) return status;
    for (int64_t at = 0; at < c->tokens; at += WINDOW) {
        attend_window(c, &part, c->stream + at * c->config.hidden);
        from_tensor(c, c->attended, c->wide + at * cols, cols);
    }
    attention_close(c, &part);
    return ST_OK;
}

struct ffn_part {
    struct weight *gate_up;
    struct tensor *norm;
};

static void ffn_close(struct calibration *c, struct ffn_part *part)
{
    c->backend->ops->tensor_free(c->backend, part->norm);
    c->backend->ops->weight_free(c->backend, part->gate_up);
}

static enum status ffn_open(struct calibration *c, const struct float_layer *layer,
                            struct ffn_part *part, struct error *err)
{
    struct part_list gate_up = {{TENSOR_GATE, TENSOR_UP}, 2, true};
    enum status status;
    *part = (struct ffn_part){0};
    if ((status = pack(c, layer, gate_up, &part->gate_up, err)) ||
        (status = vector(c, layer, one_part(TENSOR_FFN_NORM), &part->norm, err)))
        ffn_close(c, part);
    return status;
}

/* c->x = the stream's window, c->inner = silu(gate) * up of it. */
static void gate_up_window(struct calibration *c, const struct ffn_part *part, const float *stream)
{
    const struct backend_ops *ops = c->backend->ops;
    to_tensor(c, c->x, stream, c->config.hidden);
    ops->step_begin(c->backend, &c->input);
    ops->norm_gate_up(c->backend, c->x, part->norm, c->config.rms_eps, part->gate_up, c->inner);
}

enum status calibration_gate_up(struct calibration *c, const struct float_layer *layer,
                                struct error *err)
{
    struct ffn_part part;
    int64_t cols = c->config.intermediate;
    enum status status = ffn_open(c, layer, &part, err);
    if (status) return status;
    for (int64_t at = 0; at < c->tokens; at += WINDOW) {
        gate_up_window(c, &part, c->stream + at * c->config.hidden);
        from_tensor(c, c->inner, c->wide + at * cols, cols);
    }
    ffn_close(c, &part);
    return ST_OK;
}

/* c->x = a window of the stream and what `w` adds to it. */
static void add_window(struct calibration *c, const struct weight *w, struct tensor *in,
                       int64_t cols, int64_t at)
{
    int64_t hidden = c->config.hidden;
    to_tensor(c, c->x, c->stream + at * hidden, hidden);
    to_tensor(c, in, c->wide + at * cols, cols);
    c->backend->ops->step_begin(c->backend, &c->input);
    c->backend->ops->linear_add(c->backend, w, in, c->x);
}

static struct tensor *inputs_of(const struct calibration *c, enum tensor_role role)
{
    return role == TENSOR_O ? c->attended : c->inner;
}

enum status calibration_add(struct calibration *c, const struct float_layer *layer,
                            enum tensor_role role, struct error *err)
{
    int64_t hidden = c->config.hidden;
    struct weight *w;
    enum status status = pack(c, layer, one_part(role), &w, err);
    if (status) return status;
    for (int64_t at = 0; at < c->tokens; at += WINDOW) {
        add_window(c, w, inputs_of(c, role), layer->tensors[role].cols, at);
        from_tensor(c, c->x, c->stream + at * hidden, hidden);
    }
    c->backend->ops->weight_free(c->backend, w);
    return ST_OK;
}

/* --- the exact stream */

enum status calibration_exact_attention(struct calibration *c, const struct float_layer *layer,
                                        struct error *err)
{
    struct attention_part part;
    struct weight *o;
    int64_t hidden = c->config.hidden;
    enum status status = attention_open(c, layer, &part, err);
    if (status) return status;
    status = pack(c, layer, one_part(TENSOR_O), &o, err);
    for (int64_t at = 0; !status && at < c->tokens; at += WINDOW) {
        attend_window(c, &part, c->exact + at * hidden);
        c->backend->ops->linear_add(c->backend, o, c->attended, c->x);
        from_tensor(c, c->x, c->exact + at * hidden, hidden);
    }
    if (!status) c->backend->ops->weight_free(c->backend, o);
    attention_close(c, &part);
    return status;
}

enum status calibration_exact_ffn(struct calibration *c, const struct float_layer *layer,
                                  struct error *err)
{
    struct ffn_part part;
    struct weight *down;
    int64_t hidden = c->config.hidden;
    enum status status = ffn_open(c, layer, &part, err);
    if (status) return status;
    status = pack(c, layer, one_part(TENSOR_DOWN), &down, err);
    for (int64_t at = 0; !status && at < c->tokens; at += WINDOW) {
        gate_up_window(c, &part, c->exact + at * hidden);
        c->backend->ops->linear_add(c->backend, down, c->inner, c->x);
        from_tensor(c, c->x, c->exact + at * hidden, hidden);
    }
    if (!status) c->backend->ops->weight_free(c->backend, down);
    ffn_close(c, &part);
    return status;
}

/* The next norm divides by a token's size: one over the size of the exact stream, the squares' mean
 * 1. */
static void weigh_tokens(struct calibration *c)
{
    int64_t hidden = c->config.hidden;
    double mean = 0;
    for (int64_t i = 0; i < c->tokens; i++) {
        double squares = 0;
        for (int64_t k = 0; k < hidden; k++)
            squares += (double)c->exact[i * hidden + k] * (double)c->exact[i * hidden + k];
        double weight = 1 / (squares / (double)hidden + (double)c->config.rms_eps);
        c->token_weight[i] = (float)sqrt(weight);
        mean += weight / (double)c->tokens;
    }
    for (int64_t i = 0; i < c->tokens; i++)
        c->token_weight[i] /= (float)sqrt(mean);
}

static void weigh(const float *weights, float *rows, int64_t cols)
{
    for (int64_t i = 0; i < WINDOW; i++)
        for (int64_t k = 0; k < cols; k++)
            rows[i * cols + k] *= weights[i];
}

enum status calibration_gap_grams(struct calibration *c, const struct float_layer *layer,
                                  enum tensor_role role, double *gram, double *cross,
                                  struct error *err)
{
    int64_t hidden = c->config.hidden, cols = layer->tensors[role].cols;
    struct weight *w;
    enum status status = pack(c, layer, one_part(role), &w, err);
    if (status) return status;
    weigh_tokens(c);
    memset(gram, 0, (size_t)(cols * cols) * sizeof *gram);
    memset(cross, 0, (size_t)(hidden * cols) * sizeof *cross);
    for (int64_t at = 0; at < c->tokens; at += WINDOW) {
        add_window(c, w, inputs_of(c, role), cols, at);
        from_tensor(c, c->x, c->gap, hidden);
        subtract(c, c->exact + at * hidden, c->gap);
        memcpy(c->rows, c->wide + at * cols, (size_t)(WINDOW * cols) * sizeof *c->rows);
        weigh(c->token_weight + at, c->gap, hidden);
        weigh(c->token_weight + at, c->rows, cols);
        gram_add(gram, cols, c->rows, WINDOW, cols, c->pool);
        cross_gram_add(cross, c->gap, hidden, c->rows, cols, WINDOW, c->pool);
    }
    gram_mirror(gram, cols);
    c->backend->ops->weight_free(c->backend, w);
    return ST_OK;
}
