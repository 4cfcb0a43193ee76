#include "model/model.h"
#include "model/memory_plan.h"
#include "model/model_executor.h"

#include <stdlib.h>

struct model {
    struct thread_pool *pool;
    struct backend *backend;
    struct tokenizer *tokenizer;
    enum chat_template chat;
    struct transformer transformer;
    struct model_executor *executor;
    size_t kv_bytes;
    int32_t kv_blocks, context;
};

struct model_options model_options_default(void)
{
    return (struct model_options){.weights = WEIGHT_W8,
                                  .as_stored = true,
                                  .kv_type = DT_BF16,
                                  .max_rows = 64,
                                  .max_tokens = 512 + 64,
                                  .hugepages = true};
}

/* Sizes first: what does not fit is refused before anything large is allocated. */
static enum status plan_memory(struct model *m, const struct model_options *options,
                               const struct checkpoint *checkpoint, struct error *err)
{
    struct memory_plan plan;
    enum status status = memory_plan_make(options, checkpoint, &plan, err);
    if (!status) status = memory_plan_check(&plan, options, checkpoint, memory_available(), err);
    int32_t known = checkpoint_config(checkpoint)->max_context;
    if (!status && !options->context && plan.context < known)
        log_warn(
            "the context is %d of the model's %d positions, what a KV cache of %lld MiB holds; "
            "--context N or --kv-memory SIZE gives more",
            plan.context, known, (long long)(plan.kv >> 20));
    m->kv_blocks = plan.kv_blocks;
    m->kv_bytes = (size_t)plan.kv;
    m->context = plan.context;
    return status;
}

static enum status load_parts(struct model *m, const struct model_options *options,
                              const struct checkpoint *checkpoint, struct error *err)
{
    const struct tokenizer_spec *spec = checkpoint_tokenizer(checkpoint);
    enum cpu_isa isa;
    enum status status = plan_memory(m, options, checkpoint, err);
    if (status) return status;
    status = tokenizer_create(spec, &m->tokenizer, err);
    if (status) return fail_prefix(err, "%s", options->path);
    if ((status = cpu_isa_select(&isa, err)) ||
        (status = thread_pool_create(options->threads, &m->pool, err)))
        return status;
    m->chat = chat_template_choose(options->chat, spec->chat_template, options->chats);
    status = backend_cpu_create(m->pool, isa, options->hugepages, &m->backend, err);
    if (status) return status;
    struct transformer_options layout = {.weights = options->weights,
                                         .as_stored = options->as_stored,
                                         .simulated = options->simulated,
                                         .kv_type = options->kv_type,
                                         .kv_blocks = m->kv_blocks,
                                         .max_tokens = options->max_tokens,
                                         .max_logits = options->max_logits ? options->max_logits
                                                                           : options->max_rows,
                                         .progress = options->progress};
    status = transformer_init(&m->transformer, m->backend, checkpoint, &layout, err);
    if (status) return status;
    struct model_executor_limits limits = {m->kv_blocks,
                                           min_i32(options->max_rows, layout.max_logits),
                                           options->max_tokens, m->context};
    m->executor = model_executor_create(&m->transformer, m->pool, &limits);
    return ST_OK;
}

enum status model_load_checkpoint(const struct model_options *options,
                                  const struct checkpoint *checkpoint, struct model **out,
                                  struct error *err)
{
    struct model *m = must_alloc(sizeof *m);
    enum status status = load_parts(m, options, checkpoint, err);
    if (status) {
        model_free(m);
        return status;
    }
    *out = m;
    return ST_OK;
}

enum status model_load(const struct model_options *options, struct model **out, struct error *err)
{
    struct checkpoint *checkpoint;
    enum status status = checkpoint_open(options->path, &checkpoint, err);
    if (status) return status;
    status = model_load_checkpoint(options, checkpoint, out, err);
    checkpoint_close(checkpoint);
    return status;
}

void model_free(struct model *m)
{
    if (!m) return;
    model_executor_free(m->executor);
    transformer_release(&m->transformer);
    if (m->backend) m->backend->ops->free(m->backend);
    thread_pool_free(m->pool);
    tokenizer_free(m->tokenizer);
    free(m);
}

const struct model_config *model_config(const struct model *m)
{
    return &m->transformer.config;
}

const struct tokenizer *model_tokenizer(const struct model *m)
{
    return m->tokenizer;
}

enum chat_template model_chat_template(const struct model *m)
{
    return m->chat;
}

const char *model_backend_name(const struct model *m)
{
    return m->backend->ops->name;
}

int model_threads(const struct model *m)
{
    return thread_pool_size(m->pool);
}

enum weight_format model_weights(const struct model *m)
{
    return m->transformer.weights;
}

size_t model_matrix_bytes(const struct model *m)
{
    return m->transformer.matrix_bytes;
}

size_t model_weight_bytes(const struct model *m)
{
    return transformer_weight_bytes(&m->transformer);
}

struct model_weight_sizes model_weight_sizes(const struct model *m)
{
    const struct transformer *t = &m->transformer;
    size_t (*bytes)(const struct weight *weight) = m->backend->ops->weight_bytes;
    struct model_weight_sizes sizes = {.embedding = bytes(t->embedding)};
    if (t->head != t->embedding) sizes.head = bytes(t->head);
    for (int32_t i = 0; i < t->config.layers; i++) {
        sizes.qkv += bytes(t->layers[i].qkv);
        sizes.output += bytes(t->layers[i].o);
        sizes.gate_up += bytes(t->layers[i].gate_up);
        sizes.down += bytes(t->layers[i].down);
    }
    return sizes;
}

void model_step_clock(struct model *m, struct step_clock *clock)
{
    m->backend->ops->step_clock(m->backend, clock);
}

int64_t model_weight_count(const struct model *m)
{
    const struct model_config *c = &m->transformer.config;
    int64_t hidden = c->hidden, attended = (int64_t)c->heads * c->head_dim;
    int64_t qkv = attended + 2 * (int64_t)c->kv_heads * c->head_dim;
    int64_t layer = hidden * (qkv + attended + 3 * (int64_t)c->intermediate);
    return c->layers * layer + hidden * c->vocab * (c->tied ? 1 : 2);
}

size_t model_kv_bytes(const struct model *m)
{
    return m->kv_bytes;
}

int32_t model_context(const struct model *m)
{
    return m->context;
}

int32_t model_kv_blocks(const struct model *m)
{
    return m->kv_blocks;
}

struct executor model_executor(struct model *m)
{
    return model_executor_table(m->executor);
}

void model_forward(struct model *m, const struct step_input *input)
{
    transformer_forward(&m->transformer, input);
}

void model_logits(struct model *m, int32_t i, float *out)
{
    m->backend->ops->tensor_read(m->backend, m->transformer.logits, i, out);
}
