#include "traces/simulate/profile_private.h"

#include "base/base.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static enum status fail_unknown(const char *name, struct error *err)
{
    size_t count;
    const char *const *names = profile_builtin_names(&count);
    struct strbuf list = {0};
    for (size_t i = 0; i < count; i++)
        strbuf_format(&list, "%s%s", i ? ", " : "", names[i]);
    fail(err, ST_NOT_FOUND,
         "--profile: '%.80s' is no file and no built-in profile; built in are %s", name,
         strbuf_cstr(&list));
    strbuf_free(&list);
    return ST_NOT_FOUND;
}

static enum status read_file(const char *path, struct profile *profile, struct error *err)
{
    struct stat file;
    if (stat(path, &file) != 0 && errno == ENOENT) return fail_unknown(path, err);
    if (stat(path, &file) == 0 && S_ISDIR(file.st_mode))
        return fail(err, ST_IO, "%s: a directory; a profile is a file", path);
    return profile_read(path, profile, err);
}

enum status profile_find(const char *name_or_path, struct profile **out, struct error *err)
{
    struct profile *profile = must_alloc(sizeof *profile);
    enum status status = ST_OK;
    if (!profile_builtin(name_or_path, profile)) status = read_file(name_or_path, profile, err);
    if (status)
        free(profile);
    else
        *out = profile;
    return status;
}

void profile_free(struct profile *profile)
{
    free(profile);
}

const char *profile_name(const struct profile *profile)
{
    return profile->name;
}

enum shared_prefix profile_shared_prefix(const struct profile *profile)
{
    return profile->shared;
}

double profile_noise(const struct profile *profile)
{
    return profile->noise;
}

int64_t profile_kv_tokens(const struct profile *profile)
{
    return profile->kv_tokens;
}

void profile_set_noise(struct profile *profile, double noise)
{
    profile->noise = noise;
}

void profile_set_kv_tokens(struct profile *profile, int64_t kv_tokens)
{
    profile->kv_tokens = kv_tokens;
}

double profile_draw_noise(const struct profile *profile, struct rng *rng)
{
    double sigma = profile->noise;
    return sigma > 0 ? exp(sigma * rng_normal(rng) - 0.5 * sigma * sigma) : 1;
}

void profile_capacity(const struct profile *profile, struct executor_capacity *capacity)
{
    *capacity =
        (struct executor_capacity){.depth = profile->depth,
                                   .block_count = (int32_t)(profile->kv_tokens / KV_BLOCK_SLOTS),
                                   .max_rows = profile->max_rows,
                                   .max_tokens = profile->max_tokens,
                                   .max_context = profile->max_context,
                                   .vocab = profile->vocab};
}

/* --- the mean of a step */

static double roofline_us(const struct gemm_model *gemm, double n)
{
    double read = gemm->base_us, compute = gemm->token_us * n;
    if (gemm->power == 4.0) { /* the study's: exact and cheap */
        double a = read * read, b = compute * compute;
        return sqrt(sqrt(a * a + b * b));
    }
    /* Of the ratio, which no power takes out of a double's range. */
    double most = fmax(read, compute), least = fmin(read, compute);
    if (most <= 0) return 0;
    return most * pow(1 + pow(least / most, gemm->power), 1 / gemm->power);
}

static double between_points_us(const struct gemm_model *gemm, double n)
{
    const struct gemm_point *p = gemm->points;
    if (gemm->count == 1 || n <= p[0].tokens) return p[0].us;
    int32_t at = 1;
    while (at + 1 < gemm->count && n > p[at].tokens)
        at++;
    double slope = (p[at].us - p[at - 1].us) / (p[at].tokens - p[at - 1].tokens);
    if (n > p[at].tokens && slope < 0) return p[at].us;
    return p[at].us + slope * (n - p[at].tokens);
}

static double tiles_us(const struct gemm_model *gemm, double n)
{
    const struct gemm_point *last = &gemm->points[gemm->count - 1];
    for (int32_t i = 0; i < gemm->count; i++)
        if (n <= gemm->points[i].tokens) return gemm->points[i].us;
    return last->us * ceil(n / gemm->tile) * gemm->tile / last->tokens;
}

static double gemm_us(const struct gemm_model *gemm, double n)
{
    switch (gemm->form) {
    case GEMM_LINEAR:
        return gemm->base_us + gemm->token_us * n;
    case GEMM_ROOFLINE:
        return roofline_us(gemm, n);
    case GEMM_POINTS:
        return between_points_us(gemm, n);
    case GEMM_TILES:
        return tiles_us(gemm, n);
    }
    die("a gemm of form %d", gemm->form);
}

double profile_step_us(const struct profile *profile, const struct step_load *load)
{
    double n = (double)load->decode_rows + load->prefill_tokens;
    return profile->fixed_us + gemm_us(&profile->gemm, n) +
           profile->context_us * (double)load->context_read + profile->row_us * load->decode_rows +
           profile->prefill_context_us * load->prefill_attention;
}

#define FAR_TOKENS 512 /* about a full chunk */
#define FAR_SLOTS  100000

struct step_prior profile_prior(const struct profile *profile)
{
    struct step_load one = {.prefill_tokens = 1}, tokens = {.prefill_tokens = FAR_TOKENS},
                     row = {.decode_rows = 1},
                     context = {.decode_rows = 1, .context_read = FAR_SLOTS},
                     attention = {.prefill_tokens = 1, .prefill_attention = FAR_SLOTS};
    double one_us = profile_step_us(profile, &one), row_us = profile_step_us(profile, &row);
    double token_us = (profile_step_us(profile, &tokens) - one_us) / (FAR_TOKENS - 1);
    struct step_prior prior = {
        .fixed_us = one_us - token_us,
        .token_us = token_us,
        .row_us = row_us - one_us,
        .context_us = (profile_step_us(profile, &context) - row_us) / FAR_SLOTS,
        .attention_us = (profile_step_us(profile, &attention) - one_us) / FAR_SLOTS};
    return step_prior_scaled(&prior, step_prior_single_row_us(&prior)); /* each within its limits */
}

static double predict(const void *self, const struct step_load *load)
{
    return profile_step_us(self, load);
}

struct step_predictor profile_predictor(const struct profile *profile)
{
    return (struct step_predictor){
        .predict = predict, .self = (void *)(uintptr_t)profile, .shared = profile->shared};
}
