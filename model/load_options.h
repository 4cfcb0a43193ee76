/* The options every command that loads a model shares: --model, --weights, --kv-type, --threads,
 * ... */
#ifndef MODEL_LOAD_OPTIONS_H
#define MODEL_LOAD_OPTIONS_H

#include "base/options.h"
#include "model/model.h"

/* Words as typed, with the defaults that --help shows. */
struct load_words {
    const char *model, *weights, *kv_type, *backend;
    int64_t threads, context, kv_memory;
    bool no_hugepages;
};
struct load_words load_words_default(void);

/* Appends the shared rows to a table that has room for LOAD_OPTION_COUNT; returns how many. */
#define LOAD_OPTION_COUNT 8
size_t load_options_table(struct load_words *words, struct option_spec *table);

/* The words' meaning in *options (the fields they do not name are left as they are).
 * weights auto: what a quantized directory has, else w8. kv-type auto: f32 with native weights,
 * bf16 otherwise. */
enum status load_options_resolve(const struct load_words *words, struct model_options *options,
                                 struct error *err);

/* --chat-template NAME, of the commands that chat; NULL: CHAT_NONE. ST_USAGE with the names for
 * another one. */
#define CHAT_TEMPLATE_OPTION(target)                                                  \
    {                                                                                 \
        "chat-template", OPT_STRING, target, "NAME",                                  \
            "write chats as NAME does (default: as the model's own template does);\n" \
            "llama3, qwen3, ...: an unknown NAME shows all",                          \
            0, 0                                                                      \
    }
enum status chat_template_option(const char *name, enum chat_template *out, struct error *err);

const char *weight_format_name(enum weight_format format); /* "native", "w8", "vsq4z" */

#endif
