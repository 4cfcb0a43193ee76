#include "scheduler/predictor.h"

#include <math.h>
#include <string.h>

#define FORGET        0.998 /* weight of a step against the one behind it: half after 350 steps */
#define LEAST_KNOWN   1e4   /* variance of a weight that nothing is known of */
#define WIND_UP       30.0  /* sum of variances, above which nothing is forgotten */
#define OUTLIER       4.0   /* times the usual error: what a single step may be off */
#define SPREAD_MEMORY 0.02  /* of the usual error, a step's part */
#define SURE_STEPS    32    /* before, nothing is an outlier */

/* About 1 where a step is large, so that one start fits all weights. */
static void terms_of(const struct step_load *load, double *x)
{
    x[0] = 1;
    x[1] = load->decode_rows / 100.0;
    x[2] = (double)load->context_read / 1e5;
    x[3] = load->prefill_tokens / 256.0;
    x[4] = load->prefill_attention / 256e3;
}

void predictor_init(struct predictor *predictor, enum shared_prefix shared)
{
    *predictor = (struct predictor){.shared = shared};
    for (int i = 0; i < PREDICTOR_TERMS; i++)
        predictor->covariance[i][i] = LEAST_KNOWN;
}

static double sum_of(const struct predictor *predictor, const double *x)
{
    double us = 0;
    for (int i = 0; i < PREDICTOR_TERMS; i++)
        us += predictor->weight[i] * x[i];
    return us;
}

double predictor_predict(const struct predictor *predictor, const struct step_load *load)
{
    double x[PREDICTOR_TERMS];
    terms_of(load, x);
    return fmax(0, sum_of(predictor, x));
}

/* The error that is learned from: as it is, or the most that is usual. */
static double bounded_error(struct predictor *predictor, double error)
{
    double most = OUTLIER * predictor->spread_us;
    bool sure = predictor->steps >= SURE_STEPS;
    if (sure && fabs(error) > most) error = copysign(most, error);
    double part = sure ? SPREAD_MEMORY : 1.0 / (double)(predictor->steps + 1);
    predictor->spread_us += part * (fabs(error) - predictor->spread_us);
    return error;
}

void predictor_observe(struct predictor *predictor, const struct step_load *load, double us)
{
    double x[PREDICTOR_TERMS], gain[PREDICTOR_TERMS], known = FORGET, variance = 0;
    if (!isfinite(us) || us < 0) return;
    terms_of(load, x);
    for (int i = 0; i < PREDICTOR_TERMS; i++) {
        gain[i] = 0;
        for (int k = 0; k < PREDICTOR_TERMS; k++)
            gain[i] += predictor->covariance[i][k] * x[k];
        known += x[i] * gain[i];
        variance += predictor->covariance[i][i];
    }
    double error = bounded_error(predictor, us - sum_of(predictor, x));
    double forget = variance > WIND_UP ? 1 : FORGET;
    for (int i = 0; i < PREDICTOR_TERMS; i++)
        predictor->weight[i] += gain[i] / known * error;
    for (int i = 0; i < PREDICTOR_TERMS; i++)
        for (int k = 0; k <= i; k++) {
            double value = (predictor->covariance[i][k] - gain[i] / known * gain[k]) / forget;
            predictor->covariance[i][k] = predictor->covariance[k][i] = value;
        }
    predictor->steps++;
}

static double predict(const void *self, const struct step_load *load)
{
    return predictor_predict(self, load);
}

static void observe(void *self, const struct step_load *load, double us)
{
    predictor_observe(self, load, us);
}

struct step_predictor predictor_door(struct predictor *predictor)
{
    return (struct step_predictor){predict, observe, predictor, predictor->shared};
}
