#include "quant/check.h"

enum status quant_check_weights(const float *weights, int64_t count, struct error *err)
{
    for (int64_t i = 0; i < count; i++)
        if (!quant_value_allowed(weights[i]))
            return fail(err, ST_INVALID, "weight %lld is %g; allowed are finite values up to %g",
                        (long long)i, (double)weights[i], (double)QUANT_MAX_VALUE);
    return ST_OK;
}

enum status quant_check_importance(const float *importance, int64_t count, struct error *err)
{
    for (int64_t i = 0; i < count; i++)
        if (!(importance[i] >= 0 && importance[i] <= QUANT_MAX_VALUE))
            return fail(err, ST_INVALID, "the importance of input %lld is %g; allowed are 0 to %g",
                        (long long)i, (double)importance[i], (double)QUANT_MAX_VALUE);
    return ST_OK;
}
