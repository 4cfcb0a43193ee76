/* The step-latency predictor: what a step of a given composition will take.
 *
 *   us = table(rows + prefill tokens) + a * rows + b * context read + c * prefill attention
 *
 * The table has a line for each range of tokens, all of the same slope and each with an offset of
 * its own: a GPU computes in tiles and becomes slower in jumps, a CPU does not, and neither is a
 * straight line from one row to a full prefill chunk. Everything is learned together from every
 * step that ran, by recursive least squares with forgetting (Ljung, System Identification, section
 * 11.2) on errors relative to the step, so that it follows a machine that gets warm or busy. What
 * no step has told anything of is as the prior says, and as unsure as the prior at most. A step far
 * from what was predicted (a page fault, a stopped process) moves it only as far as one at the edge
 * of what is usual.
 *
 * Predictions are finite and above 0, and never fall with more rows, tokens, context or attention,
 * none of which is ever free. Where few steps or none were seen they are on the slow side. A
 * prediction takes some ns: what it reads is prepared when something was learned.
 */
#ifndef SCHEDULER_PREDICTOR_H
#define SCHEDULER_PREDICTOR_H

#include "scheduler/step_load.h"

#include <stdbool.h>

#define PREDICTOR_TERMS   5
#define PREDICTOR_BINS    31 /* ranges of tokens: predictor.c */
#define PREDICTOR_WEIGHTS (PREDICTOR_TERMS + PREDICTOR_BINS)

/* A guess, good to a factor of two or three: microseconds for a step, a token of
 * it, a row, a slot of context and a unit of prefill attention. Each from LEAST to MOST. */
#define STEP_PRIOR_LEAST 1e-9
#define STEP_PRIOR_MOST  1e9
struct step_prior {
    double fixed_us, token_us, row_us, context_us, attention_us;
};

double step_prior_single_row_us(const struct step_prior *prior);
/* In the same proportions (as far as LEAST and MOST allow), with a single row of so many
 * microseconds. */
struct step_prior step_prior_scaled(const struct step_prior *prior, double single_row_us);

struct predictor {
    enum shared_prefix shared;
    int64_t steps; /* observed */
    double spread; /* mean size of the relative error of late */
    double weight[PREDICTOR_WEIGHTS];
    double covariance[PREDICTOR_WEIGHTS][PREDICTOR_WEIGHTS];
    double most[PREDICTOR_WEIGHTS]; /* variances of the prior */
    double prior[PREDICTOR_TERMS];
    double least[PREDICTOR_TERMS];   /* of a weight in predictions */
    int32_t seen[PREDICTOR_BINS];    /* steps of that many tokens */
    double low_us[PREDICTOR_BINS];   /* the table: at the range's first number of tokens... */
    double slope_us[PREDICTOR_BINS]; /* ...and for each further one */
    double row_us, context_us, attention_us;
};

/* Knows the prior. */
void predictor_init(struct predictor *predictor, enum shared_prefix shared,
                    const struct step_prior *prior);

/* One step that took `us` microseconds; what no step can take (nothing, 1000 s) is ignored. */
void predictor_observe(struct predictor *predictor, const struct step_load *load, double us);
double predictor_predict(const struct predictor *predictor, const struct step_load *load);

/* As the scheduler takes it; borrowed. */
struct step_predictor predictor_door(struct predictor *predictor);

/* What was learned, as numbers to keep and to put back into a predictor that was made with the same
 * prior. */
#define PREDICTOR_NUMBERS \
    (2 + PREDICTOR_BINS + PREDICTOR_WEIGHTS + PREDICTOR_WEIGHTS * (PREDICTOR_WEIGHTS + 1) / 2)
void predictor_save(const struct predictor *predictor, double numbers[PREDICTOR_NUMBERS]);
/* false: they are no predictor's, and it is as it was. */
bool predictor_restore(struct predictor *predictor, const double numbers[PREDICTOR_NUMBERS]);

#endif
