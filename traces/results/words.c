/* What the figures mean, wherever they are shown to people. */
#include "traces/results/results.h"

const char results_attainment_words[] =
    "share of all requests that met their SLO; refused, failed and unfinished requests "
    "miss it, a request without an SLO meets it by completing.";
const char results_goodput_words[] =
    "requests per second, and output tokens per second (branches included), of the "
    "requests that met their SLO; as a rate, the highest offered rate at which attainment still "
    "reaches its target.";

const char *results_slo_words(enum slo_kind kind)
{
    static const char *const words[SLO_KINDS] = {
        "TTFT within its limit, and the mean time per output token, over all of the request's "
        "output tokens, within the TPOT limit.",
        "output token j (0, 1, ..., branches included, in the order of their coming) no later than "
        "arrival + TTFT limit + j * TPOT limit.",
        "TTFT within its limit, and at least 95 % of the gaps between tokens of serial stages "
        "within the TPOT limit.",
        "TTFT within its limit, the mean gap of serial stages within the TPOT limit, and a request "
        "with branches ends no later than arrival + TTFT limit + TPOT limit * output tokens.",
    };
    return words[kind];
}
