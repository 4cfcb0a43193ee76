/* The step-latency predictor: what a step of a given composition will take.
 *
 *   us = w0 + w1 * rows + w2 * context read + w3 * prefill tokens + w4 * prefill attention
 *
 * learned from every step that ran, by recursive least squares with forgetting (Ljung, System
 * Identification, section 11.2), so that it follows a machine that gets warm or busy. A step that
 * is far from what was predicted (a page fault, a stopped process) moves it only as far as a step
 * at the edge of what is usual would.
 */
#ifndef SCHEDULER_PREDICTOR_H
#define SCHEDULER_PREDICTOR_H

#include "scheduler/step_load.h"

#define PREDICTOR_TERMS 5

struct predictor {
    enum shared_prefix shared;
    double weight[PREDICTOR_TERMS]; /* of the scaled terms: predictor.c */
    double covariance[PREDICTOR_TERMS][PREDICTOR_TERMS];
    double spread_us; /* mean size of the error of late */
    int64_t steps;    /* observed */
};

/* Knows nothing yet. */
void predictor_init(struct predictor *predictor, enum shared_prefix shared);

/* One step that took `us` microseconds. */
void predictor_observe(struct predictor *predictor, const struct step_load *load, double us);
double predictor_predict(const struct predictor *predictor, const struct step_load *load);

/* As the scheduler takes it; borrowed. */
struct step_predictor predictor_door(struct predictor *predictor);

#endif
