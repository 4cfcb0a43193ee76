/* espalier generate from inside:
 *
 *   cmd_generate.c          options, the model, the prompt
 *   generate_plain.c        one sequence, printed as it comes
 *   generate_stage_file.c   --stages and --outline: the stages as a request has them
 *   generate_stages.c       an answer in stages through the scheduler
 *   generate_answer.c       what it has become so far
 *   generate_screen.c       where a reader sees it: columns on a terminal, else in reading order
 */
#ifndef SERVER_GENERATE_H
#define SERVER_GENERATE_H

#include "model/load_options.h"
#include "scheduler/scheduler.h"
#include "server/branching/stages.h"

#include <jansson.h>

struct generate_options {
    struct load_words load;
    const char *prompt, *system, *chat_template, *stages;
    bool chat, json, ignore_eos, outline;
    int64_t max_tokens, seed, top_k;
    double temperature, top_p, min_p;
};

/* What every way to answer begins with. */
struct generation {
    const struct generate_options *options;
    struct model *model;
    struct token_list prompt;
    bool chat; /* the prompt is one */
};

/* --- shared (cmd_generate.c) */

/* All but n, max_tokens, extent and events. */
struct request_params generation_params(const struct generation *g);

/* What --json prints of any answer; the caller owns it. */
json_t *generation_json(const struct generation *g, const struct request_stats *stats,
                        const struct strbuf *text, const struct token_list *tokens,
                        enum finish_reason reason);
json_t *generation_ids(const struct token_list *tokens);
void generation_print_json(json_t *doc); /* frees it */
/* Ends the answer's last line, then one line to standard error. */
void generation_summary(const struct generation *g, const struct request_stats *stats);

/* --- one sequence */

enum status generate_plain(const struct generation *g, struct error *err);

/* --- in stages */

struct stage_file {
    const char *name; /* for errors: the file's, or --outline */
    struct server_limits limits;
    struct api_request request; /* stages or grammar; of all else what they depend on */
};

/* From options->stages or the skeleton of --outline; everything but token ids is checked, before a
 * model is there. stage_file_release is right in both cases. */
enum status stage_file_read(const struct generate_options *o, struct stage_file *file,
                            struct error *err);
enum status stage_file_check_ids(const struct stage_file *file, int32_t vocab, struct error *err);
int32_t stage_file_width(const struct stage_file *file); /* the most branches of a stage */
void stage_file_release(struct stage_file *file);

/* *interrupted: the signal that ended it early (the terminal is in order again), or 0. */
enum status generate_stages(const struct generation *g, const struct stage_file *file,
                            int *interrupted, struct error *err);

#endif
