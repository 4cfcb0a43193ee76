#include "quant/octav.h"

#include <math.h>

#define STEPS 32 /* ten are usual; the loop ends when the clip stands still */

float octav_clip(const float *x, int64_t count, int bits)
{
    double largest = 0, sum = 0, noise = ldexp(1.0, -2 * bits) / 3;
    for (int64_t i = 0; i < count; i++) {
        double size = fabs((double)x[i]);
        sum += size;
        if (size > largest) largest = size;
    }
    double clip = count > 0 ? sum / (double)count : 0;
    for (int step = 0; step < STEPS; step++) {
        double above = 0;
        int64_t above_count = 0, below_count = 0;
        for (int64_t i = 0; i < count; i++) {
            double size = fabs((double)x[i]);
            if (size > clip) {
                above += size;
                above_count++;
            } else if (size > 0) {
                below_count++;
            }
        }
        if (!above_count) break; /* nothing is clipped: a step would lead to 0 */
        double next = above / (noise * (double)below_count + (double)above_count);
        if (fabs(next - clip) <= 1e-7 * clip) break;
        clip = next;
    }
    return (float)(clip < largest ? clip : largest);
}
