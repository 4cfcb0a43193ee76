/* What the functions of quant/ may be given: a caller asks here before it quantizes what came from
 * a file or a forward pass. */
#ifndef QUANT_CHECK_H
#define QUANT_CHECK_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Largest magnitude of a weight and of an importance: a level times its scale stays finite. */
#define QUANT_MAX_VALUE 1e37f

static inline bool quant_value_allowed(float value)
{
    return value >= -QUANT_MAX_VALUE && value <= QUANT_MAX_VALUE; /* false for a NaN */
}

/* ST_INVALID with the index and value of the first that is not finite or is too large. */
enum status quant_check_weights(const float *weights, int64_t count, struct error *err);
/* The same, and for one below 0. */
enum status quant_check_importance(const float *importance, int64_t count, struct error *err);

#endif
