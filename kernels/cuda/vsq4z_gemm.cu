// VSQ4z weights times int8 activations, 1..64 tokens: tensor cores, int32 sums, f32 at the very
// end.
//
// mma.m16n8k32 has tokens as rows and outputs as columns. The weights are operand B because there a
// register holds inputs of one vector of the format (b0 16 of them, over four lanes, b1 the next
// 16), so one integer multiply-add makes four int8 weights of four nibbles:
//     u = nibbles * s + (128 - s z) * 0x01010101        bytes 128 + s (q - z) in 8 .. 248, no carry
// They enter as unsigned, and 128 times the activations' sum is taken off at the end. The sums are
// int32 mod 2^32 all along, and what is left of them fits (VSQ4Z_MAX_COLS), so they are exact.
//
// A block makes 16 WARPS_N outputs of all tokens. Its warps split the inputs WARPS_K ways, tile by
// tile (cuda.h), because one token's product is nothing but reading weights and wants many bytes
// under way: STAGES - 1 slabs of WARPS_K tiles are being copied while one is multiplied. At the end
// the warps' sums meet in shared memory. Integers: in whatever order they are added, the same.
//
// Activations are copied with the weights, rows a padded slab apart: ldmatrix reads 8 rows of 16
// bytes at once, and an odd number of 16s between them puts each in banks of its own.
#include "kernels/cuda/device.cuh"
extern "C" {
#include "kernels/cuda/cuda.h"
}

namespace vsq4z_gemm
{

template <int ROW_TILES_, int WARPS_N_, int WARPS_K_, int STAGES_> struct Shape {
    static constexpr int ROW_TILES = ROW_TILES_, WARPS_N = WARPS_N_, WARPS_K = WARPS_K_;
    static constexpr int STAGES = STAGES_, WARPS = WARPS_N * WARPS_K, THREADS = WARPS * 32;
    static constexpr int ROWS = 16 * ROW_TILES, OUTPUTS = CUDA_TILE_OUTPUTS * WARPS_N;
    static constexpr int SLAB = CUDA_TILE_INPUTS * WARPS_K; // inputs of a stage
    static constexpr int ROW_BYTES = SLAB + 16, SUM_STRIDE = OUTPUTS + 8;
    static constexpr int TILES_BYTES = WARPS * CUDA_TILE_BYTES;
    static constexpr int LEVELS_BYTES = ROWS * CUDA_OUTLIERS * OUTPUTS;
    static constexpr size_t SHARED_BYTES = STAGES * (ROWS * ROW_BYTES + TILES_BYTES) + LEVELS_BYTES;
    static_assert(ROWS * CUDA_OUTLIERS <= THREADS, "a thread looks after one outlier");
    static_assert(WARPS_K * ROWS * SUM_STRIDE * 4 <= STAGES * ROWS * ROW_BYTES,
                  "the sums take the activations' place");
    static_assert(SHARED_BYTES <= 99 * 1024, "what a block of sm_120 can have");
};

struct Weights {
    const uint8_t *tiles;
    int panels, k_tiles, outputs; // panels of 16 outputs, tiles along the inputs
};

struct Tokens {
    const int8_t *q8;
    int64_t stride;
    int rows, cols;
};

template <class S> struct Shared {
    uint8_t *tokens; // [STAGES][ROWS][ROW_BYTES]
    uint8_t *tiles;  // [STAGES][WARPS_K][WARPS_N][CUDA_TILE_BYTES]
    int8_t *levels;  // [ROWS][CUDA_OUTLIERS][OUTPUTS] of the outliers' columns

    __device__ __forceinline__ uint8_t *token(int stage, int row) const
    {
        return tokens + (stage * S::ROWS + row) * S::ROW_BYTES;
    }
    __device__ __forceinline__ uint8_t *tile(int stage, int warp_k, int warp_n) const
    {
        return tiles + ((stage * S::WARPS_K + warp_k) * S::WARPS_N + warp_n) * CUDA_TILE_BYTES;
    }
};

// Who this thread is.
template <class S> struct Place {
    int tid, lane, warp, warp_n, warp_k;
    int panel; // of the warp's outputs
    __device__ __forceinline__ Place()
        : tid(static_cast<int>(threadIdx.x)), lane(tid % 32), warp(tid / 32),
          warp_n(warp % S::WARPS_N), warp_k(warp / S::WARPS_N),
          panel(static_cast<int>(blockIdx.x) * S::WARPS_N + warp_n)
    {
    }
};

// Starts the copies of one slab: activations by all threads, zeros behind the last column, and each
// warp the tile that it will multiply. Rows that have no token stay as they are: what is multiplied
// there is only ever added to sums that nobody reads.
template <class S>
__device__ __forceinline__ void start_slab(const Place<S> &me, const Shared<S> &shared,
                                           const Weights &w, const Tokens &in, int slab)
{
    constexpr int PIECES = S::SLAB / 16; // of a row
    int stage = slab % S::STAGES;
    for (int i = me.tid; i < in.rows * PIECES; i += S::THREADS) {
        int row = i / PIECES, at = i % PIECES * 16, k = slab * S::SLAB + at;
        bool there = k < in.cols;
        cp_async16(shared.token(stage, row) + at, there ? in.q8 + row * in.stride + k : in.q8,
                   there ? 16 : 0);
    }
    int k_tile = slab * S::WARPS_K + me.warp_k;
    if (me.panel < w.panels && k_tile < w.k_tiles) {
        const uint8_t *from =
            w.tiles + (static_cast<int64_t>(me.panel) * w.k_tiles + k_tile) * CUDA_TILE_BYTES;
        uint8_t *to = shared.tile(stage, me.warp_k, me.warp_n);
        for (int at = me.lane * 16; at < CUDA_TILE_BYTES; at += 32 * 16)
            cp_async16(to + at, from + at, 16);
    }
    cp_async_commit();
}

// Four weights of a vector with scale s and z = 7 + eight, as bytes that are 128 too large.
__device__ __forceinline__ uint32_t unpack(uint32_t nibbles, uint32_t s, uint32_t eight)
{
    return (nibbles & 0x0f0f0f0fu) * s + (128u - s * (7u + eight)) * 0x01010101u;
}

// The warp's tile of a slab times the tokens' 128 inputs.
template <class S>
__device__ __forceinline__ void multiply(const Place<S> &me, const Shared<S> &shared, int stage,
                                         int (&sums)[S::ROW_TILES][2][4])
{
    const uint8_t *tile = shared.tile(stage, me.warp_k, me.warp_n);
    uint32_t codes[2][4], scales[2], zeros[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        uint4 c = *reinterpret_cast<const uint4 *>(tile + (half * 32 + me.lane) * 16);
        codes[half][0] = c.x;
        codes[half][1] = c.y;
        codes[half][2] = c.z;
        codes[half][3] = c.w;
        int output = half * 8 + me.lane / 4;
        scales[half] = *reinterpret_cast<const uint32_t *>(tile + CUDA_TILE_SCALES + output * 4);
        zeros[half] = tile[CUDA_TILE_ZEROS + output];
    }
    int k = me.warp_k * CUDA_TILE_INPUTS + me.lane / 16 * 16; // where ldmatrix' lane reads its row
#pragma unroll
    for (int step = 0; step < CUDA_TILE_INPUTS / 32; step++) {
        uint32_t a[S::ROW_TILES][4];
#pragma unroll
        for (int r = 0; r < S::ROW_TILES; r++)
            ldmatrix_x4(a[r], shared.token(stage, r * 16 + me.lane % 16) + k + step * 32);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t s = scales[half] >> step * 8, eight = zeros[half] >> step * 2;
            const uint32_t b[2] = {unpack(codes[half][step], s & 15u, eight & 1u),
                                   unpack(codes[half][step] >> 4, s >> 4 & 15u, eight >> 1 & 1u)};
#pragma unroll
            for (int r = 0; r < S::ROW_TILES; r++)
                mma_s8u8_16832(sums[r][half], a[r], b, sums[r][half]);
        }
    }
}

// s (q - z) of one weight of a tile.
__device__ __forceinline__ int tile_level(const uint8_t *tile, int output, int k)
{
    int vector = k / 16, lane = output % 8 * 4 + k % 16 / 4;
    uint32_t two = tile[(output / 8 * 32 + lane) * 16 + k / 32 * 4 + k % 4];
    uint32_t four = tile[CUDA_TILE_SCALES + output * 4 + vector / 2];
    uint32_t eight = tile[CUDA_TILE_ZEROS + output] >> vector & 1u;
    int q = static_cast<int>(two >> vector % 2 * 4 & 15u);
    int s = static_cast<int>(four >> vector % 2 * 4 & 15u);
    return s * (q - 7 - static_cast<int>(eight));
}

// Keeps the levels of outlier columns that lie in this slab: later they would be gathered from
// global memory, a sector for each. `column`: of the outlier that this thread looks after.
template <class S>
__device__ __forceinline__ void keep_levels(const Place<S> &me, const Shared<S> &shared, int panels,
                                            int slab, int column)
{
    int at = column - slab * S::SLAB;
    unsigned hits = __ballot_sync(ALL_LANES, at >= 0 && at < S::SLAB);
    for (; hits; hits &= hits - 1) { // the warp together, one outlier after the other
        int lane = __ffs(static_cast<int>(hits)) - 1;
        int k = __shfl_sync(ALL_LANES, at, lane);
        int8_t *levels = shared.levels + (lane * S::WARPS + me.warp) * S::OUTPUTS;
        for (int n = me.lane; n < S::OUTPUTS; n += 32) {
            int warp_n = n / CUDA_TILE_OUTPUTS;
            if (me.panel - me.warp_n + warp_n >= panels) break;
            const uint8_t *tile = shared.tile(slab % S::STAGES, k / CUDA_TILE_INPUTS, warp_n);
            levels[n] =
                static_cast<int8_t>(tile_level(tile, n % CUDA_TILE_OUTPUTS, k % CUDA_TILE_INPUTS));
        }
    }
}

// The warp's sums to [WARPS_K][ROWS][SUM_STRIDE].
template <class S>
__device__ __forceinline__ void store_sums(const Place<S> &me, int *all,
                                           const int (&sums)[S::ROW_TILES][2][4])
{
#pragma unroll
    for (int r = 0; r < S::ROW_TILES; r++)
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int row = r * 16 + me.lane / 4 + i / 2 * 8;
                int n = me.warp_n * CUDA_TILE_OUTPUTS + half * 8 + me.lane % 4 * 2 + i % 2;
                all[(me.warp_k * S::ROWS + row) * S::SUM_STRIDE + n] = sums[r][half][i];
            }
}

template <class S>
__global__ void __launch_bounds__(S::THREADS)
    vsq4z_gemm_kernel(const uint8_t *__restrict__ tiles, const float *__restrict__ row_scale,
                      int outputs, int k_tiles, const int8_t *__restrict__ q8, int64_t q8_stride,
                      int rows, int cols, const float *__restrict__ scale,
                      const int32_t *__restrict__ sum, const cuda_outliers *__restrict__ outliers,
                      float *__restrict__ out, int32_t *__restrict__ out_sums, int64_t out_stride)
{
    SmemCarver carver;
    Shared<S> shared;
    shared.tokens = carver.take<uint8_t>(S::STAGES * S::ROWS * S::ROW_BYTES);
    shared.tiles = carver.take<uint8_t>(S::STAGES * S::TILES_BYTES);
    shared.levels = carver.take<int8_t>(S::LEVELS_BYTES);
    const Place<S> me;
    const Weights w = {tiles, (outputs + CUDA_TILE_OUTPUTS - 1) / CUDA_TILE_OUTPUTS, k_tiles,
                       outputs};
    const Tokens in = {q8, q8_stride, rows, cols};

    int slabs = (k_tiles + S::WARPS_K - 1) / S::WARPS_K;
    for (int slab = 0; slab < S::STAGES - 1; slab++)
        if (slab < slabs)
            start_slab(me, shared, w, in, slab);
        else
            cp_async_commit(); // an empty group, so that the same count is under way everywhere

    int sums[S::ROW_TILES][2][4] = {};
    int mine = me.lane * S::WARPS + me.warp, column = -1; // outliers are spread over the warps
    if (mine < rows * CUDA_OUTLIERS)
        column = outliers[mine / CUDA_OUTLIERS].column[mine % CUDA_OUTLIERS];
    for (int slab = 0; slab < slabs; slab++) {
        cp_async_wait<S::STAGES - 2>();
        __syncthreads(); // the slab is there for all, and the one before it is read by none
        if (slab + S::STAGES - 1 < slabs)
            start_slab(me, shared, w, in, slab + S::STAGES - 1);
        else
            cp_async_commit();
        if (me.panel < w.panels && slab * S::WARPS_K + me.warp_k < k_tiles)
            multiply(me, shared, slab % S::STAGES, sums);
        keep_levels(me, shared, w.panels, slab, column);
    }
    cp_async_wait<0>();
    __syncthreads();
    int *all = reinterpret_cast<int *>(shared.tokens);
    store_sums(me, all, sums);
    __syncthreads();

    for (int i = me.tid; i < rows * S::OUTPUTS; i += S::THREADS) {
        int row = i / S::OUTPUTS, n = i % S::OUTPUTS;
        int output = static_cast<int>(blockIdx.x) * S::OUTPUTS + n;
        if (output >= outputs) continue;
        uint32_t total = 0u - 128u * static_cast<uint32_t>(sum[row]);
#pragma unroll
        for (int part = 0; part < S::WARPS_K; part++)
            total += static_cast<uint32_t>(all[(part * S::ROWS + row) * S::SUM_STRIDE + n]);
        int exact = static_cast<int>(total);
        int64_t to = row * out_stride + output;
        if (out_sums) out_sums[to] = exact;
        if (!out) continue;
        float value = __fmul_rn(__int2float_rn(exact), scale[row]);
#pragma unroll
        for (int o = 0; o < CUDA_OUTLIERS; o++) {
            int level = shared.levels[(row * CUDA_OUTLIERS + o) * S::OUTPUTS + n];
            value = __fmaf_rn(outliers[row].value[o], __int2float_rn(level), value);
        }
        out[to] = __fmul_rn(value, row_scale[output]);
    }
}

template <class S> static enum status launch(const struct cuda_gemm_args *args, void *stream)
{
    const cuda_activations *in = &args->in;
    int outputs = static_cast<int>(args->w.outputs), cols = static_cast<int>(args->w.cols);
    allow_shared(vsq4z_gemm_kernel<S>, S::SHARED_BYTES);
    LAUNCH(vsq4z_gemm_kernel<S>, static_cast<unsigned>((outputs + S::OUTPUTS - 1) / S::OUTPUTS),
           S::THREADS, S::SHARED_BYTES, static_cast<cudaStream_t>(stream), args->w.tiles,
           args->w.row_scale, outputs, (cols + CUDA_TILE_INPUTS - 1) / CUDA_TILE_INPUTS, in->q8,
           in->q8_stride, static_cast<int>(in->rows), cols, in->scale, in->sum, in->outliers,
           args->out, args->sums, args->out_stride);
    return launch_status();
}

static bool aligned(const void *memory, size_t to)
{
    return reinterpret_cast<size_t>(memory) % to == 0;
}

static bool valid(const struct cuda_gemm_args *args)
{
    const cuda_activations *in = &args->in;
    return in->rows >= 1 && in->rows <= CUDA_GEMM_ROWS && in->cols == args->w.cols &&
           in->cols > 0 && in->cols <= VSQ4Z_MAX_COLS && in->q8_stride >= in->cols &&
           in->q8_stride % 16 == 0 && aligned(in->q8, 16) && aligned(args->w.tiles, 16) &&
           args->w.outputs >= 0 && args->w.outputs <= INT32_MAX - CUDA_GEMM_ROWS &&
           args->out_stride >= args->w.outputs;
}

} // namespace vsq4z_gemm

extern "C" enum status cuda_vsq4z_gemm(const struct cuda_gemm_args *args, void *stream)
{
    using namespace vsq4z_gemm;
    if (!valid(args)) return ST_INVALID;
    if (args->w.outputs == 0) return ST_OK;
    // Few tokens: many inputs under way. Many tokens: many outputs for each copy of the tokens.
    if (args->in.rows <= 16) return launch<Shape<1, 2, 4, 4>>(args, stream);
    if (args->in.rows <= 32) return launch<Shape<2, 2, 4, 3>>(args, stream);
    return launch<Shape<4, 4, 2, 3>>(args, stream);
}
