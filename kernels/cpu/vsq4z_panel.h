/* The bytes of a VSQ4z panel: 16 outputs, all inputs, cut into blocks of 64 inputs (4 vectors).
 *
 *     codes      [block][vector][half][16 outputs][4]  two a byte: inputs 8 half + i (low nibble)
 *                                                      and 8 half + 4 + i (high) of the vector
 *     scales     [block][2][16 outputs]                two a byte, the even vector in the low
 * nibble zeros      [block][vector]                       u16, a bit an output: 1 means z = 8
 *     row_scale  [16 outputs]                          f32
 *
 * all behind each other, then up to the next cache line: a panel, and one panel after the other, is
 * a single stream from memory. 64 bytes of codes are one AVX-512 register whose dwords are outputs;
 * its low nibbles and its high ones are what one vpdpbusd multiplies. Vectors behind the last input
 * have s = 0, outputs behind the last one s = 0 and row_scale = 0: they weigh nothing.
 *
 * `Expanded` is the same panel as u8 = level + 128, [quad of inputs][16 outputs][4]: what a W8
 * panel looks like. The tiles for many rows read that, made once for all rows in a member's
 * scratch.
 */
#ifndef KERNELS_CPU_VSQ4Z_PANEL_H
#define KERNELS_CPU_VSQ4Z_PANEL_H

#include "kernels/cpu/cpu.h"

#define VSQ4Z_BLOCK   64                           /* inputs */
#define BLOCK_VECTORS (VSQ4Z_BLOCK / VSQ4Z_VECTOR) /* 4 */
#define BLOCK_CODES   (VSQ4Z_BLOCK / 2 * PANEL)    /* bytes */
#define BLOCK_SCALES  (BLOCK_VECTORS / 2 * PANEL)  /* bytes */

struct vsq4z_panel {
    unsigned char *codes, *scales;
    uint16_t *zeros;
    float *row_scale;
};

static inline int64_t vsq4z_blocks(int64_t cols)
{
    return (cols + VSQ4Z_BLOCK - 1) / VSQ4Z_BLOCK;
}

static inline size_t vsq4z_panel_bytes(int64_t cols)
{
    int64_t block = BLOCK_CODES + BLOCK_SCALES + BLOCK_VECTORS * (int64_t)sizeof(uint16_t);
    return (size_t)round_up(vsq4z_blocks(cols) * block + PANEL * (int64_t)sizeof(float),
                            CACHE_LINE);
}

static inline struct vsq4z_panel vsq4z_panel(const struct weight *w, int64_t panel)
{
    struct vsq4z_panel p = {.codes = w->data + (size_t)panel * w->panel_bytes};
    int64_t blocks = vsq4z_blocks(w->cols);
    p.scales = p.codes + blocks * BLOCK_CODES;
    p.zeros = (uint16_t *)(p.scales + blocks * BLOCK_SCALES);
    p.row_scale = (float *)(p.zeros + blocks * BLOCK_VECTORS);
    return p;
}

/* Bytes of an expanded panel. */
static inline size_t vsq4z_expanded_bytes(int64_t cols)
{
    return (size_t)vsq4z_blocks(cols) * VSQ4Z_BLOCK * PANEL;
}

/* The level s * (q - z) of one input and output of a panel. */
static inline int32_t vsq4z_panel_level(const struct vsq4z_panel *p, int64_t k, int64_t output)
{
    int64_t vector = k / VSQ4Z_VECTOR;
    int32_t q = p->codes[(k / 8 * PANEL + output) * 4 + k % 4] >> k / 4 % 2 * 4 & 15;
    int32_t s = p->scales[vector / 2 * PANEL + output] >> vector % 2 * 4 & 15;
    return s * (q - 7 - (p->zeros[vector] >> output & 1));
}

#endif
