#include "bench/profile_fit.h"

#include "base/base.h"

#include <math.h>
#include <stdlib.h>

#define TERMS   (FIT_NODES + 3) /* terms_of */
#define SWEEPS  20000           /* of coordinate descent, each a few hundred operations */
#define ROUNDS  4               /* of fitting and leaving out */
#define FAR     3.0             /* deviations */
#define MAD     1.4826          /* median absolute deviation to standard deviation, of a normal */
#define SETTLED 1e-10           /* relative change of the largest coefficient in a sweep */

static int32_t load_tokens(const struct step_load *load)
{
    return load->decode_rows + load->prefill_tokens;
}

/* What is linear in the coefficients: the first node's time, what each further node adds to the one
 * before it (so that no coefficient below 0 means that none falls), row, context, attention. */
static void terms_of(const struct profile_fit *fit, const struct step_load *load,
                     double terms[TERMS])
{
    double n = load_tokens(load);
    terms[0] = 1;
    for (int32_t i = 1; i < FIT_NODES; i++) {
        bool known = i < fit->node_count;
        double before = known ? fit->nodes[i - 1] : 0, at = known ? fit->nodes[i] : 1;
        terms[i] = known ? fmin(1, fmax(0, (n - before) / (at - before))) : 0;
    }
    terms[FIT_NODES] = load->decode_rows;
    terms[FIT_NODES + 1] = (double)load->context_read;
    terms[FIT_NODES + 2] = load->prefill_attention;
}

static double value_of(const double terms[TERMS], const double x[TERMS])
{
    double sum = 0;
    for (int32_t i = 0; i < TERMS; i++)
        sum += terms[i] * x[i];
    return sum;
}

double profile_fit_us(const struct profile_fit *fit, const struct step_load *load)
{
    double terms[TERMS], x[TERMS] = {fit->node_us[0]};
    terms_of(fit, load, terms);
    for (int32_t i = 1; i < fit->node_count; i++)
        x[i] = fit->node_us[i] - fit->node_us[i - 1];
    x[FIT_NODES] = fit->row_us;
    x[FIT_NODES + 1] = fit->context_us;
    x[FIT_NODES + 2] = fit->prefill_context_us;
    return value_of(terms, x);
}

/* min |Ax - b|^2 with x >= 0 from the normal equations, one coordinate after the other
 * (Franc, Hlavac, Navara, 2005). A term that no sample has stays 0. */
static void solve(double gram[TERMS][TERMS], const double right[TERMS], double x[TERMS])
{
    for (int32_t sweep = 0; sweep < SWEEPS; sweep++) {
        double moved = 0;
        for (int32_t i = 0; i < TERMS; i++) {
            if (gram[i][i] <= 0) continue;
            double gradient = -right[i];
            for (int32_t j = 0; j < TERMS; j++)
                gradient += gram[i][j] * x[j];
            double next = x[i] - gradient / gram[i][i];
            if (next < 0) next = 0;
            moved = fmax(moved, fabs(next - x[i]) * sqrt(gram[i][i]));
            x[i] = next;
        }
        if (moved < SETTLED) return;
    }
}

static void fit_kept(const struct step_sample *samples, const bool *kept, int64_t count,
                     struct profile_fit *fit)
{
    double gram[TERMS][TERMS] = {{0}}, right[TERMS] = {0}, x[TERMS] = {0}, terms[TERMS];
    int64_t used = 0;
    for (int64_t s = 0; s < count; s++) {
        if (!kept[s]) continue;
        used++;
        terms_of(fit, &samples[s].load, terms);
        for (int32_t i = 0; i < TERMS; i++) {
            double scaled = terms[i] / samples[s].us;
            right[i] += scaled;
            for (int32_t j = 0; j < TERMS; j++)
                gram[i][j] += scaled * terms[j] / samples[s].us;
        }
    }
    for (int32_t i = 0; i < TERMS; i++) {
        right[i] /= (double)used;
        for (int32_t j = 0; j < TERMS; j++)
            gram[i][j] /= (double)used;
    }
    solve(gram, right, x);
    fit->node_us[0] = x[0];
    for (int32_t i = 1; i < fit->node_count; i++)
        fit->node_us[i] = fit->node_us[i - 1] + x[i];
    fit->row_us = x[FIT_NODES];
    fit->context_us = x[FIT_NODES + 1];
    fit->prefill_context_us = x[FIT_NODES + 2];
    fit->left_out = count - used;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int64_t count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

static double log_ratio(const struct profile_fit *fit, const struct step_sample *sample)
{
    double fitted = profile_fit_us(fit, &sample->load);
    return log(sample->us / fmax(fitted, 1e-3));
}

/* Keeps what lies within FAR deviations of the middle; returns the deviation of what it keeps. */
static double keep_near(const struct profile_fit *fit, const struct step_sample *samples,
                        int64_t count, bool *kept, double *scratch)
{
    for (int64_t s = 0; s < count; s++)
        scratch[s] = log_ratio(fit, &samples[s]);
    double middle = median(scratch, count);
    for (int64_t s = 0; s < count; s++)
        scratch[s] = fabs(log_ratio(fit, &samples[s]) - middle);
    double reach = fmax(FAR * MAD * median(scratch, count), 1e-6), sum = 0, squares = 0;
    int64_t used = 0;
    for (int64_t s = 0; s < count; s++) {
        double error = log_ratio(fit, &samples[s]);
        kept[s] = fabs(error - middle) <= reach;
        if (!kept[s]) continue;
        used++;
        sum += error;
        squares += error * error;
    }
    double mean = sum / (double)used;
    return sqrt(fmax(0, squares / (double)used - mean * mean));
}

/* Powers of two up to the first that no sample exceeds. */
static void set_nodes(const struct step_sample *samples, int64_t count, struct profile_fit *fit)
{
    int32_t most = 1;
    for (int64_t s = 0; s < count; s++)
        most = max_i32(most, load_tokens(&samples[s].load));
    fit->node_count = 0;
    for (int32_t n = 1; fit->node_count < FIT_NODES; n *= 2) {
        fit->nodes[fit->node_count++] = n;
        if (n >= most) break;
    }
}

enum status profile_fit(const struct step_sample *samples, int64_t count, struct profile_fit *fit,
                        struct error *err)
{
    *fit = (struct profile_fit){.samples = count};
    if (count < FIT_LEAST)
        return fail(err, ST_INVALID, "%lld steps were recorded; at least %d are needed",
                    (long long)count, FIT_LEAST);
    for (int64_t s = 0; s < count; s++)
        if (!(samples[s].us > 0))
            return fail(err, ST_INVALID, "step %lld took %g us; more than 0 is needed",
                        (long long)s, samples[s].us);
    bool *kept = must_alloc((size_t)count * sizeof *kept);
    double *scratch = must_alloc((size_t)count * sizeof *scratch);
    set_nodes(samples, count, fit);
    for (int64_t s = 0; s < count; s++)
        kept[s] = true;
    for (int32_t round = 0; round < ROUNDS; round++) {
        fit_kept(samples, kept, count, fit);
        fit->noise = keep_near(fit, samples, count, kept, scratch);
    }
    for (int64_t s = 0; s < count; s++)
        scratch[s] = fabs(profile_fit_us(fit, &samples[s].load) / samples[s].us - 1);
    fit->median_error = median(scratch, count);
    free(scratch);
    free(kept);
    return ST_OK;
}
