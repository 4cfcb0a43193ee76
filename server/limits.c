#include "server/limits.h"
#include "base/base.h"
#include "scheduler/executor.h"

#include <string.h>

#define SECOND INT64_C(1000000)

struct server_limits server_limits_default(void)
{
    return (struct server_limits){
        .max_body = 4 << 20,
        .max_bodies = 64 << 20,
        .max_header = 64 << 10,
        .max_headers = 100,
        .max_depth = 64,
        .max_n = 16,
        .max_prompts = 16,
        .max_sequences = 192,
        .max_stages = 16,
        .max_branches = 128,
        .max_messages = 1024,
        .max_stops = 16,
        .max_stop_bytes = 256,
        .max_stop_ids = 64,
        .max_logit_bias = 1024,
        .max_logprobs = MAX_TOP_LOGPROBS,
        .max_logprob_total = 1 << 20,
        .max_connections = 4096,
        .max_pending = 512,
        .max_answers = 1 << 30,
        .idle_timeout_us = 60 * SECOND,
        .body_timeout_us = 30 * SECOND,
        .stall_timeout_us = 60 * SECOND,
    };
}

size_t server_limits_table(struct server_limits *l, struct option_spec *table)
{
    const struct option_spec rows[LIMIT_OPTION_COUNT] = {
        {NULL, OPT_FLAG, NULL, NULL, "Limits of one request (docs/limits.md)", 0, 0},
        {"max-body", OPT_SIZE, &l->max_body, "SIZE", "its body (default 4MiB)", 1, 1 << 30},
        {"max-header", OPT_SIZE, &l->max_header, "SIZE", "its line and header (default 64KiB)",
         1024, 1 << 24},
        {"max-headers", OPT_INT32, &l->max_headers, "N", "header fields (default 100)", 8, 1 << 16},
        {"max-json-depth", OPT_INT32, &l->max_depth, "N",
         "arrays and objects within each other (default 64)", 8, 1000},
        {"max-n", OPT_INT32, &l->max_n, "N", "sequences for one prompt (default 16)", 1, 4096},
        {"max-prompts", OPT_INT32, &l->max_prompts, "N", "prompts (default 16)", 1, 4096},
        {"max-sequences", OPT_INT32, &l->max_sequences, "N",
         "prompts times n, or the branches of all stages (default 192)", 1, 1 << 20},
        {"max-stages", OPT_INT32, &l->max_stages, "N", "stages of an answer (default 16)", 1, 4096},
        {"max-branches", OPT_INT32, &l->max_branches, "N", "branches of a stage (default 128)", 1,
         4096},
        {"max-messages", OPT_INT32, &l->max_messages, "N", "messages of a chat (default 1024)", 1,
         1 << 20},
        {"max-stops", OPT_INT32, &l->max_stops, "N", "stop strings (default 16)", 1, 4096},
        {"max-stop-bytes", OPT_INT32, &l->max_stop_bytes, "N",
         "bytes of one stop string (default 256)", 1, 1 << 16},
        {"max-stop-ids", OPT_INT32, &l->max_stop_ids, "N", "stop_token_ids (default 64)", 1, 4096},
        {"max-logit-bias", OPT_INT32, &l->max_logit_bias, "N",
         "tokens with a bias of their own (default 1024)", 1, 1 << 20},
        {"max-logprobs", OPT_INT32, &l->max_logprobs, "N",
         "alternatives beside a token (default and most: 20)", 0, MAX_TOP_LOGPROBS},
        {"max-logprob-total", OPT_INT, &l->max_logprob_total, "N",
         "log probabilities in all (default 1048576)", 1, 1 << 26},
        {NULL, OPT_FLAG, NULL, NULL, "Limits of all together, and times", 0, 0},
        {"max-connections", OPT_INT32, &l->max_connections, "N", "open at once (default 4096)", 1,
         1 << 20},
        {"max-pending", OPT_INT32, &l->max_pending, "N",
         "requests waiting to be parsed (default 512)", 1, 1 << 20},
        {"max-bodies", OPT_SIZE, &l->max_bodies, "SIZE",
         "all bodies being read (default 64MiB, at least two of the largest)", 1, INT64_MAX},
        {"max-answers", OPT_SIZE, &l->max_answers, "SIZE",
         "what all answers may grow to, as tokens (default 1GiB)", 4096, INT64_MAX},
        {"idle-timeout", OPT_TIME, &l->idle_timeout_us, "TIME",
         "for a whole request header (default 60s)", SECOND, INT64_MAX},
        {"body-timeout", OPT_TIME, &l->body_timeout_us, "TIME",
         "for a whole request body (default 30s)", SECOND / 10, INT64_MAX},
        {"stall-timeout", OPT_TIME, &l->stall_timeout_us, "TIME",
         "for a client that takes nothing of its answer (default 60s)", SECOND, SECOND * INT32_MAX},
    };
    memcpy(table, rows, sizeof rows);
    return LIMIT_OPTION_COUNT;
}

void server_limits_settle(struct server_limits *limits)
{
    if (limits->max_bodies < 2 * limits->max_body) limits->max_bodies = 2 * limits->max_body;
    limits->max_sequences = max_i32(limits->max_sequences, limits->max_n);
}
