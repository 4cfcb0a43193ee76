#include "scheduler/slo.h"

bool slo_tpot_met(int64_t tpot_us, int64_t first_us, int64_t last_us, int64_t tokens)
{
    int64_t most;
    if (tokens < 1) return false;
    /* Limits come from clients and traces and may be anything. */
    if (__builtin_mul_overflow(tpot_us, tokens - 1, &most)) return true;
    return last_us - first_us <= most;
}

bool slo_met(const struct request_slo *slo, int64_t arrival_us, int64_t first_us, int64_t last_us,
             int64_t tokens)
{
    if (slo_is_none(slo)) return true;
    if (tokens < 1) return false;
    if (slo->ttft_us && first_us - arrival_us > slo->ttft_us) return false;
    return slo->tpot_us == 0 || slo_tpot_met(slo->tpot_us, first_us, last_us, tokens);
}
