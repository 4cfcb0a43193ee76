/* What a step of a model may take, from its bytes and operations: where the step-latency predictor
 * begins (scheduler/predictor.h). Its proportions are right to a factor of two or three, its size
 * to a factor of ten: step_prior_scaled, with a measured step, is for that. */
#ifndef MODEL_STEP_PRIOR_H
#define MODEL_STEP_PRIOR_H

#include "model/model.h"
#include "scheduler/predictor.h"

struct step_prior model_step_prior(const struct model *model);

#endif
