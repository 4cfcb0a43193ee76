/* VSQ4, the format of the VS-Quant paper (arXiv 2102.04503, equations 2 to 7), for study:
 *
 *     w[k] = row_scale * s * q[k]             q in -7..7, s in 0..2^M - 1 for V inputs each
 *
 * 4 + M / V bits a weight. Nothing is kept in it: a row is quantized and comes back as f32, so that
 * `perplexity --weights vsq4:V,M` shows what V and M buy on a model. What we serve is
 * quant/vsq4z.h.
 */
#ifndef QUANT_VSQ_H
#define QUANT_VSQ_H

#include "base/status.h"
#include "quant/clip.h"

#include <stdint.h>

struct vsq_format {
    int32_t vector;     /* V: 16, 32 or 64 */
    int32_t scale_bits; /* M: 4, 6, 8 or 10 */
    enum clip clip;     /* CLIP_MAX is the paper's */
};

/* "vsq4:32,6", or with a clip, "vsq4:32,6,search". ST_USAGE with what is allowed. */
enum status vsq_parse(const char *text, struct vsq_format *out, struct error *err);

static inline double vsq_bits(const struct vsq_format *format)
{
    return 4 + (double)format->scale_bits / format->vector;
}

static inline int64_t vsq_vectors(const struct vsq_format *format, int64_t cols)
{
    return (cols + format->vector - 1) / format->vector;
}

/* weights[cols] -> out[cols], which may be the same. Weights have passed quant/check.h; a row below
 * 1e-30 is zeros. scratch[vectors]. Returns the squared error. */
double vsq_simulate_row(const float *weights, int64_t cols, const struct vsq_format *format,
                        float *scratch, float *out);

#endif
