/* Host side: VSQ4z rows to the tiles of cuda.h. */
#include "kernels/cuda/cuda.h"

#include <stdbool.h>
#include <string.h>

static int64_t tiles_along(int64_t count, int64_t tile)
{
    return (count + tile - 1) / tile;
}

size_t cuda_vsq4z_tile_bytes(int64_t outputs, int64_t cols)
{
    return (size_t)(tiles_along(outputs, CUDA_TILE_OUTPUTS) * tiles_along(cols, CUDA_TILE_INPUTS)) *
           CUDA_TILE_BYTES;
}

/* One vector of the matrix, the v-th of its tile, to output `n` of the tile. */
static void pack_vector(const struct vsq4z_matrix *m, int64_t row, int64_t vector, int n, int v,
                        uint8_t *tile)
{
    uint8_t *scales = tile + CUDA_TILE_SCALES + 4 * n;
    scales[v / 2] |= (uint8_t)(vsq4z_scale(m, row, vector) << v % 2 * 4);
    bool eight = vsq4z_zero(m, row, vector) == 8;
    tile[CUDA_TILE_ZEROS + n] |= (uint8_t)(eight << v);
    uint8_t *half = tile + n / 8 * 512 + n % 8 * 4 * 16;
    for (int k = 0; k < VSQ4Z_VECTOR; k++) {
        int32_t code = vsq4z_code(m, row, vector * VSQ4Z_VECTOR + k);
        half[k / 4 * 16 + v / 2 * 4 + k % 4] |= (uint8_t)(code << v % 2 * 4);
    }
}

void cuda_vsq4z_pack(const struct vsq4z_matrix *m, uint8_t *tiles)
{
    const int64_t per_tile = CUDA_TILE_INPUTS / VSQ4Z_VECTOR;
    int64_t k_tiles = tiles_along(m->cols, CUDA_TILE_INPUTS);
    memset(tiles, 0, cuda_vsq4z_tile_bytes(m->rows, m->cols));
    for (int64_t row = 0; row < m->rows; row++)
        for (int64_t vector = 0; vector < vsq4z_vectors(m->cols); vector++) {
            int64_t tile = row / CUDA_TILE_OUTPUTS * k_tiles + vector / per_tile;
            pack_vector(m, row, vector, (int)(row % CUDA_TILE_OUTPUTS), (int)(vector % per_tile),
                        tiles + tile * CUDA_TILE_BYTES);
        }
}
