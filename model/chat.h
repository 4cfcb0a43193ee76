/* Chat templates, by name.
 *
 * A model's template is a Jinja program. We do not run programs out of model files: we recognise
 * the known ones and write what they would write, byte for byte. A template is recognised by the
 * fingerprint of its source; else by its markers, which is told once (chat_template_choose); else
 * chat is refused. A template is rendered once, as text with marks where its own special tokens
 * stand:
 *
 *     <|im_start|>user\nWhat is <|im_end|>?<|im_end|>\n<|im_start|>assistant\n
 *     ^^^^^^^^^^^^                         ^^^^^^^^^^  ^^^^^^^^^^^^
 *
 * As tokens, the marks are ids and each stretch between two marks is tokenized as one text in which
 * no special token is looked for: a message that contains "<|im_end|>" (above) cannot end itself,
 * and pieces that reach over the border of role and content ("\n" and a content that begins with a
 * newline) are what they would be in the whole text.
 */
#ifndef MODEL_CHAT_H
#define MODEL_CHAT_H

#include "model/tokenizer.h"

/* X(constant, name on the command line, of whose models) */
#define CHAT_TEMPLATE_MAP(X)                                                             \
    X(NONE, "none", "no known template")                                                 \
    X(CHATML, "chatml", "ChatML, the loop alone")                                        \
    X(CHATML_BOS, "chatml-bos", "ChatML after a BOS")                                    \
    X(SMOLLM2, "smollm2", "SmolLM2-Instruct")                                            \
    X(LLAMA3, "llama3", "Meta-Llama-3-Instruct")                                         \
    X(LLAMA3_FIRST, "llama3-first", "Meta-Llama-3-Instruct as of April 2024")            \
    X(LLAMA31, "llama3.1", "Llama-3.1- and 3.3-Instruct")                                \
    X(LLAMA32, "llama3.2", "Llama-3.2-Instruct")                                         \
    X(QWEN15, "qwen1.5", "Qwen1.5-Chat")                                                 \
    X(QWEN2, "qwen2", "Qwen2-Instruct")                                                  \
    X(QWEN25, "qwen2.5", "Qwen2.5-Instruct")                                             \
    X(QWEN3, "qwen3", "Qwen3, thinking or not")                                          \
    X(QWEN3_INSTRUCT, "qwen3-instruct", "Qwen3-Instruct-2507")                           \
    X(QWEN3_THINKING, "qwen3-thinking", "Qwen3-Thinking-2507")                           \
    X(QWQ, "qwq", "QwQ-32B")                                                             \
    X(MISTRAL_OLD, "mistral-v0.1", "Mistral-7B-Instruct-v0.1, the first form")           \
    X(MISTRAL_OLD2, "mistral-v0.2", "Mistral-7B-Instruct-v0.2, Mixtral, the first form") \
    X(MISTRAL_V1, "mistral-v1", "the same models, the form with a system text")          \
    X(MISTRAL_V3, "mistral-v3", "Mistral-7B-Instruct-v0.3, Mistral-Large-2407")          \
    X(MISTRAL_NEMO, "mistral-v3-tekken", "Mistral-Nemo-Instruct-2407")                   \
    X(MISTRAL_V7, "mistral-v7", "Mistral-Large-Instruct-2411")

enum chat_template {
#define X(constant, name, models) CHAT_##constant,
    CHAT_TEMPLATE_MAP(X)
#undef X
        CHAT_TEMPLATES,
};

/* --- which template */

/* CHAT_NONE when unknown. *exact (may be NULL): its very source is one that was compared with
 * Jinja. */
enum chat_template chat_template_detect(const char *jinja, bool *exact);
const char *chat_template_name(enum chat_template family);
/* CHAT_NONE for a name that is not in the list (and for "none"). */
enum chat_template chat_template_by_name(const char *name);
/* "chatml, chatml-bos, ..." for messages, each one that chat_template_by_name knows. */
void chat_template_names(struct strbuf *out);
/* What a model is served with: `named` unless that is CHAT_NONE, else what its source is (NULL: it
 * has none). `warn`: one warning where that is a guess, or nothing. */
enum chat_template chat_template_choose(enum chat_template named, const char *jinja, bool warn);

/* --- rendering */

struct chat_message {
    const char *role, *content;
    size_t role_length, content_length;
    const char *reasoning; /* reasoning_content, which the Qwen3 family alone reads; NULL: none */
    size_t reasoning_length;
};

/* What a template is given. Views. */
struct chat {
    enum chat_template family;
    const struct chat_message *messages;
    size_t count;
    bool add_generation_prompt;
    bool continue_final; /* the text ends with the last message's content */
    bool no_thinking;    /* enable_thinking is false: Qwen3 */
    /* date_string of Llama 3.1 and later. NULL: what the template itself takes, which is `now` for
     * Llama 3.2 and a fixed day for the others. */
    const char *date;
    size_t date_length;
    int64_t now;           /* seconds since 1970; the day is the local one; 0: the clock's */
    const char *bos, *eos; /* texts of the model's tokens for chat_render_text; NULL: "" */
};

/* The text that the model's own Jinja template gives, byte for byte.
 * ST_UNSUPPORTED: no template. ST_INVALID: the template raises an exception (its words), or the
 * messages are of a kind that it cannot render. */
enum status chat_render_text(const struct chat *chat, struct strbuf *out, struct error *err);

/* The ids of that text, complete: the caller adds no BOS. BOS and EOS are the tokenizer's. The
 * template's own special tokens are ids, a role or content never becomes one. Where those hold no
 * special text, it equals tokenizer_encode(text, parse_special). */
enum status chat_render_tokens(const struct chat *chat, const struct tokenizer *tokenizer,
                               struct token_list *out, struct error *err);

#endif
