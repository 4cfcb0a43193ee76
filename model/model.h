/* model/: checkpoints, tokenizer, chat templates, the transformer's forward pass, sampling.
 *
 *   config.h      a model's shape and habits
 *   checkpoint.h  weights on disk: GGUF, safetensors directory, synthetic
 *   tokenizer.h   byte-level BPE, incremental detokenizing, stop strings
 *   chat.h        chat templates
 *   sampling.h    logits to a token
 *   step_prior.h  what a step of it may take, before any ran
 *   model.h       a loaded model: weights on a backend, one forward pass a step, executor over it
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "kernels/kernels.h"
#include "model/chat.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/tokenizer.h"
#include "quant/vsq.h"
#include "scheduler/executor.h"

struct model;

struct model_options {
    const char *path; /* FILE.gguf, DIR or synthetic:SHAPE */
    enum weight_format weights;
    bool as_stored; /* matrices that the checkpoint has quantized stay as they are; `weights` is for
                       the others */
    const struct vsq_format *simulated; /* NULL, or: what the layers' matrices are rounded to as
                                           they are loaded, with WEIGHT_NATIVE; borrowed */
    enum dtype kv_type;
    int32_t context;         /* positions to allow; 0: the model's own */
    int64_t kv_bytes;        /* 0: a default that suits the context */
    int32_t kv_blocks;       /* 0, or the pool's size exactly (kv_bytes is then ignored) */
    int32_t max_rows;        /* sequences in a step */
    int32_t max_tokens;      /* tokens in a step (the prefill chunk + rows) */
    int32_t max_logits;      /* rows with logits in a step; 0: max_rows */
    int threads;             /* 0: one per core */
    enum chat_template chat; /* CHAT_NONE: what the file's own template is */
    bool chats;              /* warn where no template is known for certain */
    bool hugepages;
    bool progress;
};
struct model_options model_options_default(void);

/* Loads and packs. The checkpoint's pages are given back before it returns. */
enum status model_load(const struct model_options *options, struct model **out, struct error *err);
/* From a checkpoint that is open already, and stays the caller's; options->path is its name. */
enum status model_load_checkpoint(const struct model_options *options,
                                  const struct checkpoint *checkpoint, struct model **out,
                                  struct error *err);
void model_free(struct model *model);

const struct model_config *model_config(const struct model *model);
const struct tokenizer *model_tokenizer(const struct model *model);
enum chat_template model_chat_template(const struct model *model);
const char *model_backend_name(const struct model *model);
int model_threads(const struct model *model);
enum weight_format model_weights(const struct model *model); /* VSQ4Z where any matrix is kept so */
/* Two sizes of the matrices (embedding and head among them, norms not): what a file holds of them
 * in the format they are used in (native: in the checkpoint's own), and what they take on the
 * device, packed, with padding (native: as f32, f16 or bf16). */
size_t model_matrix_bytes(const struct model *model);
size_t model_weight_bytes(const struct model *model);
int64_t model_weight_count(const struct model *model); /* weights in those bytes */

/* model_weight_bytes by what the matrices are for, all layers together; 0 for a head that is the
 * embedding. */
struct model_weight_sizes {
    size_t qkv, output, gate_up, down, embedding, head;
};
struct model_weight_sizes model_weight_sizes(const struct model *model);
/* Marks the stages of every step from now on (kernels/step_clock.h); NULL: no more. */
void model_step_clock(struct model *model, struct step_clock *clock);

size_t model_kv_bytes(const struct model *model);
int32_t model_context(const struct model *model); /* positions allowed */

/* The executor of the engine's thread: the model's own, one at a time. View of the model. */
struct executor model_executor(struct model *model);

/* One forward pass, for whoever plans for itself (perplexity, bench): afterwards model_logits reads
 * the logits of input->logit_rows[i] into out[vocab]. */
void model_forward(struct model *model, const struct step_input *input);
void model_logits(struct model *model, int32_t i, float *out);
int32_t model_kv_blocks(const struct model *model);

#endif
