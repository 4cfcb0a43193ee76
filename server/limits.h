/* Every limit a client can meet, in one struct with small defaults, and the options of `espalier
 * serve` that change them. docs/limits.md gives the reasons. */
#ifndef SERVER_LIMITS_H
#define SERVER_LIMITS_H

#include "base/options.h"

#include <stdint.h>

struct server_limits {
    /* bytes */
    int64_t max_body;    /* of one request */
    int64_t max_bodies;  /* of all requests being read or parsed, together */
    int64_t max_header;  /* request line and header fields of one request */
    int32_t max_headers; /* header fields of one request */

    /* JSON */
    int32_t max_depth;      /* nested arrays and objects */
    int32_t max_n;          /* sequences for one prompt */
    int32_t max_prompts;    /* prompts in one request */
    int32_t max_sequences;  /* prompts times n, or the branches of all stages */
    int32_t max_stages;     /* of one answer */
    int32_t max_branches;   /* of one stage */
    int32_t max_messages;   /* of a chat */
    int32_t max_stops;      /* stop strings */
    int32_t max_stop_bytes; /* of one stop string */
    int32_t max_stop_ids;
    int32_t max_logit_bias;    /* tokens with a bias */
    int32_t max_logprobs;      /* alternatives beside a token, at most MAX_TOP_LOGPROBS */
    int64_t max_logprob_total; /* log probabilities of one request, 8 bytes each */

    /* connections */
    int32_t max_connections;
    int64_t max_answers;      /* bytes that all answers being written may grow to, as tokens */
    int32_t max_pending;      /* requests waiting for a front-end thread */
    int64_t idle_timeout_us;  /* a connection without a complete request header */
    int64_t body_timeout_us;  /* from the header's end to the body's end */
    int64_t stall_timeout_us; /* a client that takes none of its answer */
};
struct server_limits server_limits_default(void);

/* The options that change *limits, to a table that has room for LIMIT_OPTION_COUNT; returns how
 * many. */
#define LIMIT_OPTION_COUNT 25
size_t server_limits_table(struct server_limits *limits, struct option_spec *table);

/* After the options were read: raises what would contradict another (the bodies together hold two
 * of the largest, the sequences together one prompt's). */
void server_limits_settle(struct server_limits *limits);

#endif
