/* The inside of a profile, shared by profile.c, profile_builtin.c and profile_json.c. */
#ifndef TRACES_SIMULATE_PROFILE_PRIVATE_H
#define TRACES_SIMULATE_PROFILE_PRIVATE_H

#include "traces/simulate/profile.h"

/* How long the matrix products over n tokens take (decode rows and prefill tokens alike: weights
 * are read once, whoever uses them). */
enum gemm_form {
    GEMM_LINEAR,   /* base_us + token_us * n */
    GEMM_ROOFLINE, /* (base_us^power + (token_us * n)^power)^(1/power): reading or computing */
    GEMM_POINTS,   /* straight lines through points; the last one goes on, unless it falls */
    GEMM_TILES,    /* the first point at or above n; beyond the last whole tiles at its rate */
};

struct gemm_point {
    double tokens, us;
};
#define GEMM_POINTS_MAX 64

struct gemm_model {
    enum gemm_form form;
    double base_us, token_us, power;
    struct gemm_point points[GEMM_POINTS_MAX]; /* [count] tokens ascending */
    int32_t count, tile;
};

struct profile {
    char name[64];
    double fixed_us, context_us, row_us, prefill_context_us, noise;
    struct gemm_model gemm;
    enum shared_prefix shared;
    int64_t kv_tokens;
    int32_t depth, max_rows, max_tokens, max_context, vocab;
};

/* profile_builtin.c: false: no such name. */
bool profile_builtin(const char *name, struct profile *profile);

/* profile_json.c: `where` begins the words of an error. */
enum status profile_read(const char *path, struct profile *profile, struct error *err);

#endif
