/* Every limit a client can meet, in one struct with small defaults. docs/limits.md gives the
 * reasons. */
#ifndef SERVER_LIMITS_H
#define SERVER_LIMITS_H

#include "scheduler/executor.h"

#include <stdint.h>

struct server_limits {
    /* bytes */
    int64_t max_body;         /* of one request */
    int64_t max_bodies;       /* of all requests being read or parsed, together */
    int64_t max_header;       /* request line and header fields of one request */
    int32_t max_header_count; /* header fields of one request */

    /* JSON */
    int32_t max_depth;      /* nested arrays and objects */
    int32_t max_n;          /* sequences for one prompt */
    int32_t max_prompts;    /* prompts in one request */
    int32_t max_sequences;  /* prompts times n */
    int32_t max_messages;   /* of a chat */
    int32_t max_stops;      /* stop strings */
    int32_t max_stop_bytes; /* of one stop string */
    int32_t max_stop_ids;
    int32_t max_logit_bias;    /* tokens with a bias */
    int32_t max_logprobs;      /* alternatives beside a token, at most MAX_TOP_LOGPROBS */
    int64_t max_logprob_total; /* log probabilities of one request, 8 bytes each */

    /* connections */
    int32_t max_connections;
    int32_t max_pending;      /* requests waiting for a front-end thread */
    int64_t idle_timeout_us;  /* a connection without a complete request header */
    int64_t body_timeout_us;  /* from the header's end to the body's end */
    int64_t stall_timeout_us; /* a client that takes none of its answer */
};

static inline struct server_limits server_limits_default(void)
{
    return (struct server_limits){
        .max_body = 4 << 20,
        .max_bodies = 64 << 20,
        .max_header = 64 << 10,
        .max_header_count = 100,
        .max_depth = 64,
        .max_n = 16,
        .max_prompts = 16,
        .max_sequences = 64,
        .max_messages = 1024,
        .max_stops = 16,
        .max_stop_bytes = 256,
        .max_stop_ids = 64,
        .max_logit_bias = 1024,
        .max_logprobs = MAX_TOP_LOGPROBS,
        .max_logprob_total = 1 << 20,
        .max_connections = 4096,
        .max_pending = 512,
        .idle_timeout_us = 60 * 1000000ll,
        .body_timeout_us = 30 * 1000000ll,
        .stall_timeout_us = 60 * 1000000ll,
    };
}

#endif
