// RMS norm and int8 activations, a block for each token.
//
// The int8 and the scale equal kernels/cpu's bit for bit, because every rounding is the same one:
// the mean of squares is 16 lane sums (value i to sum i mod 16, ascending, fused multiply-adds) and
// one tree; products, quotient and root round to nearest; no contraction that is not written here.
// The 16 chains are the slow part of a row, 16 threads' work while the others copy what comes next
// into shared memory; everything after them is wide.
//
// A row is read three times (squares, largest, int8), from memory once and then from L1 or L2: h is
// computed again rather than kept, so that no row is too long.
#include "kernels/cuda/device.cuh"
extern "C" {
#include "kernels/cuda/cuda.h"
}

namespace rmsnorm_quantize
{

constexpr int KEPT = CUDA_OUTLIERS + 1; // the outliers, and the largest of the rest

// Magnitude and column in one number, so that the largest is the first in cuda_outliers' order: the
// magnitude's bits (as ordered as the magnitudes are), then the lower column. 0: no value.
typedef unsigned long long key_t;

__device__ __forceinline__ key_t make_key(unsigned magnitude, int column)
{
    return static_cast<key_t>(magnitude) << 32 | (0xffffffffu - static_cast<unsigned>(column));
}

__device__ __forceinline__ unsigned key_magnitude(key_t key)
{
    return static_cast<unsigned>(key >> 32);
}

__device__ __forceinline__ int key_column(key_t key)
{
    return static_cast<int>(0xffffffffu - static_cast<unsigned>(key));
}

// The largest keys of this thread, in falling order.
__device__ __forceinline__ void keep(key_t (&kept)[KEPT], key_t key)
{
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        key_t larger = key > kept[i] ? key : kept[i];
        key = key > kept[i] ? kept[i] : key;
        kept[i] = larger;
    }
}

// The KEPT largest keys of a warp into out[KEPT]. Keys are unique, but for 0.
__device__ __forceinline__ void keep_of_warp(key_t (&kept)[KEPT], int lane, key_t *out)
{
    for (int i = 0; i < KEPT; i++) {
        key_t largest = kept[0];
#pragma unroll
        for (int with = 16; with > 0; with /= 2) {
            key_t other = __shfl_xor_sync(ALL_LANES, largest, with);
            largest = other > largest ? other : largest;
        }
        if (lane == 0) out[i] = largest;
        if (kept[0] != largest) continue;
#pragma unroll
        for (int j = 0; j + 1 < KEPT; j++)
            kept[j] = kept[j + 1];
        kept[KEPT - 1] = 0;
    }
}

// Values k .. k + 3 of x[cols], 0 behind its end.
__device__ __forceinline__ float4 load4(const float *x, int k, int cols)
{
    if (k + 4 <= cols) return *reinterpret_cast<const float4 *>(x + k);
    float4 v = make_float4(0, 0, 0, 0);
    if (k < cols) v.x = x[k];
    if (k + 1 < cols) v.y = x[k + 1];
    if (k + 2 < cols) v.z = x[k + 2];
    return v;
}

struct Row {
    const float *x, *norm;
    int cols;
    float factor;

    __device__ __forceinline__ float4 normalised(int k) const
    {
        float4 v = load4(x, k, cols);
        if (!norm) return v;
        float4 n = load4(norm, k, cols);
        return make_float4(
            __fmul_rn(__fmul_rn(v.x, factor), n.x), __fmul_rn(__fmul_rn(v.y, factor), n.y),
            __fmul_rn(__fmul_rn(v.z, factor), n.z), __fmul_rn(__fmul_rn(v.w, factor), n.w));
    }

    __device__ __forceinline__ float normalised_one(int k) const
    {
        return norm ? __fmul_rn(__fmul_rn(x[k], factor), norm[k]) : x[k];
    }
};

// Starts the copy of chunk `chunk` of x into `staged`, zeros behind the row's end.
template <int THREADS, int CHUNK>
__device__ __forceinline__ void stage(float *staged, const float *x, int cols, int chunk)
{
    for (int i = static_cast<int>(threadIdx.x) * 4; i < CHUNK; i += THREADS * 4) {
        int k = chunk * CHUNK + i, left = min(max(cols - k, 0), 4);
        cp_async16(staged + i, left ? x + k : x, left * 4);
    }
    cp_async_commit();
}

// The sum of x[k]^2 in thread 0.
template <int THREADS, int CHUNK>
__device__ __forceinline__ float sum_of_squares(float *staged, const float *x, int cols)
{
    int tid = static_cast<int>(threadIdx.x), chunks = (cols + CHUNK - 1) / CHUNK;
    float sum = 0;
    stage<THREADS, CHUNK>(staged, x, cols, 0);
    for (int chunk = 0; chunk < chunks; chunk++) {
        cp_async_wait<0>();
        __syncthreads(); // chunk is there, and nobody reads the one before it any more
        if (chunk + 1 < chunks)
            stage<THREADS, CHUNK>(staged + (chunk + 1) % 2 * CHUNK, x, cols, chunk + 1);
        if (tid >= 16) continue;
        const float *values = staged + chunk % 2 * CHUNK + tid;
        int count = min(cols - chunk * CHUNK, CHUNK);
#pragma unroll 8
        for (int i = 0; i < count; i += 16) // beyond `count` are zeros, which change no sum
            sum = __fmaf_rn(values[i], values[i], sum);
    }
    if (tid >= 32) return 0;
#pragma unroll
    for (int by = 8; by > 0; by /= 2)
        sum = __fadd_rn(sum, __shfl_down_sync(ALL_LANES, sum, by));
    return sum;
}

// The KEPT largest of the row into kept_of_block. Ends with a barrier.
template <int THREADS>
__device__ __forceinline__ void find_largest(const Row &row, key_t *kept_of_warps,
                                             key_t *kept_of_block)
{
    int tid = static_cast<int>(threadIdx.x), lane = tid % 32;
    key_t kept[KEPT] = {};
    for (int k = tid * 4; k < row.cols; k += THREADS * 4) {
        float4 h = row.normalised(k);
        const float four[4] = {h.x, h.y, h.z, h.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            unsigned magnitude = __float_as_uint(four[i]) & 0x7fffffffu;
            // a NaN is no value; an equal one of a higher column comes later
            if (magnitude <= 0x7f800000u && magnitude > key_magnitude(kept[KEPT - 1]))
                keep(kept, make_key(magnitude, k + i));
        }
    }
    keep_of_warp(kept, lane, kept_of_warps + tid / 32 * KEPT);
    __syncthreads();
    if (tid < 32) {
        key_t of_all[KEPT] = {};
        for (int i = lane; i < THREADS / 32 * KEPT; i += 32)
            keep(of_all, kept_of_warps[i]);
        keep_of_warp(of_all, lane, kept_of_block);
    }
    __syncthreads();
}

// round(h * inverse) of every column but the outliers'; the sum of them in thread 0.
template <int THREADS>
__device__ __forceinline__ int quantize(const Row &row, float inverse, const key_t *kept,
                                        int8_t *q8, int *sums)
{
    int tid = static_cast<int>(threadIdx.x), sum = 0;
    int outlier[CUDA_OUTLIERS];
#pragma unroll
    for (int o = 0; o < CUDA_OUTLIERS; o++)
        outlier[o] = kept[o] ? key_column(kept[o]) : -1;
    for (int k = tid * 4; k < (row.cols + 15) / 16 * 16; k += THREADS * 4) {
        float4 h = row.normalised(k);
        int q[4] = {
            __float2int_rn(__fmul_rn(h.x, inverse)), __float2int_rn(__fmul_rn(h.y, inverse)),
            __float2int_rn(__fmul_rn(h.z, inverse)), __float2int_rn(__fmul_rn(h.w, inverse))};
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int o = 0; o < CUDA_OUTLIERS; o++)
                if (k + i == outlier[o]) q[i] = 0;
            sum += q[i];
        }
        *reinterpret_cast<char4 *>(q8 + k) =
            make_char4(static_cast<signed char>(q[0]), static_cast<signed char>(q[1]),
                       static_cast<signed char>(q[2]), static_cast<signed char>(q[3]));
    }
#pragma unroll
    for (int by = 16; by > 0; by /= 2)
        sum += __shfl_down_sync(ALL_LANES, sum, by);
    if (tid % 32 == 0) sums[tid / 32] = sum;
    __syncthreads();
    for (int warp = 1; tid == 0 && warp < THREADS / 32; warp++)
        sum += sums[warp];
    return sum;
}

template <int THREADS, int CHUNK>
__global__ void __launch_bounds__(THREADS)
    rmsnorm_quantize_kernel(const float *__restrict__ x, int64_t x_stride,
                            const float *__restrict__ norm, int cols, float eps,
                            int8_t *__restrict__ q8, int64_t q8_stride, float *__restrict__ scale,
                            int32_t *__restrict__ sum, cuda_outliers *__restrict__ outliers)
{
    SmemCarver shared;
    float *staged = shared.take<float>(2 * CHUNK);
    key_t *kept_of_warps = shared.take<key_t>(THREADS / 32 * KEPT);
    key_t *kept = shared.take<key_t>(KEPT);
    int *sums = shared.take<int>(THREADS / 32);
    float *factor = shared.take<float>(1);

    int tid = static_cast<int>(threadIdx.x);
    int64_t token = blockIdx.x;
    Row row = {x + token * x_stride, norm, cols, 1.0f};
    if (norm) {
        float squares = sum_of_squares<THREADS, CHUNK>(staged, row.x, cols);
        float mean = __fdiv_rn(squares, __int2float_rn(cols));
        if (tid == 0) *factor = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, eps)));
        __syncthreads();
        row.factor = *factor;
    }
    find_largest<THREADS>(row, kept_of_warps, kept);

    float limit = __uint_as_float(key_magnitude(kept[CUDA_OUTLIERS]));
    bool zero = limit < 1e-30f; // 127 / limit would not be finite
    int total = quantize<THREADS>(row, zero ? 0.0f : __fdiv_rn(127.0f, limit), kept,
                                  q8 + token * q8_stride, sums);
    if (tid == 0) {
        scale[token] = zero ? 0.0f : __fdiv_rn(limit, 127.0f);
        sum[token] = total;
    }
    if (tid < CUDA_OUTLIERS) {
        int column = kept[tid] ? key_column(kept[tid]) : 0;
        outliers[token].column[tid] = column;
        outliers[token].value[tid] = kept[tid] ? row.normalised_one(column) : 0.0f;
    }
}

static bool aligned(const void *memory, size_t to)
{
    return reinterpret_cast<size_t>(memory) % to == 0;
}

static bool valid(const struct cuda_norm_args *args)
{
    const cuda_activations *out = &args->out;
    return out->rows >= 0 && out->rows <= INT32_MAX && out->cols > 0 &&
           out->cols <= VSQ4Z_MAX_COLS && args->x_stride >= out->cols && args->x_stride % 4 == 0 &&
           out->q8_stride >= out->cols && out->q8_stride % 16 == 0 && aligned(args->x, 16) &&
           aligned(args->norm, 16) && aligned(out->q8, 16);
}

} // namespace rmsnorm_quantize

extern "C" enum status cuda_rmsnorm_quantize(const struct cuda_norm_args *args, void *stream)
{
    using namespace rmsnorm_quantize;
    constexpr int THREADS = 256, CHUNK = 2048;
    constexpr size_t SHARED_BYTES =
        2 * CHUNK * sizeof(float) + (THREADS / 32 + 1) * KEPT * 8 + THREADS / 32 * sizeof(int) + 64;
    const cuda_activations *out = &args->out;
    if (!valid(args)) return ST_INVALID;
    if (out->rows == 0) return ST_OK;
    LAUNCH((rmsnorm_quantize_kernel<THREADS, CHUNK>), static_cast<unsigned>(out->rows), THREADS,
           SHARED_BYTES, static_cast<cudaStream_t>(stream), args->x, args->x_stride, args->norm,
           static_cast<int>(out->cols), args->eps, out->q8, out->q8_stride, out->scale, out->sum,
           out->outliers);
    return launch_status();
}
