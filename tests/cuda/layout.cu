// The fragment layouts of mma and ldmatrix against ones written down elsewhere.
//
// A GEMM that gives the right sums does not prove a layout: any permutation of k that A and B share
// passes. So each element of a fragment is held to the (thread, value) -> (row, column) layouts
// that CUTLASS publishes for these instructions, as shape:stride numbers (MMA_Traits of
// SM80_16x8x32_S32S8U8S32_TN, Copy_Traits of SM75_U32x4_LDSM_N). The same program runs on the
// emulator's C++ and on the asm of device.cuh, as translated PTX.
#include "kernels/cuda/device.cuh"

#include <cstdio>
#include <cstring>

struct fragments {
    uint32_t a[32][4], b[32][2];
    int c[32][4], d[32][4];
    unsigned char rows[32][16]; // what ldmatrix reads: the row of each lane
    uint32_t loaded[32][4];
};

__global__ void multiply_kernel(fragments *f)
{
    int lane = threadIdx.x;
    mma_s8u8_16832(f->d[lane], f->a[lane], f->b[lane], f->c[lane]);
}

__global__ void load_kernel(fragments *f)
{
    SHARED(uint4, rows, [32]);
    int lane = threadIdx.x;
    rows[lane] = *reinterpret_cast<const uint4 *>(f->rows[lane]);
    __syncwarp();
    ldmatrix_x4(f->loaded[lane], &rows[lane]);
}

// Lane = (lane % 4, lane / 4) with strides `lane`; value split by `shape`, the first factor
// fastest.
struct layout {
    int lane[2], shape[3], stride[3];
    int at(int thread, int value) const
    {
        int index = thread % 4 * lane[0] + thread / 4 * lane[1];
        for (int i = 0; i < 3; i++) {
            index += value % shape[i] * stride[i];
            value /= shape[i];
        }
        return index;
    }
};

static const layout A = {{64, 1}, {4, 2, 2}, {16, 8, 256}}; // -> row + 16 k
static const layout B = {{32, 1}, {4, 2, 1}, {8, 128, 0}};  // -> column + 8 k
static const layout C = {{32, 1}, {2, 2, 1}, {16, 8, 0}};   // -> row + 16 column

static unsigned random_state = 9;

static unsigned random_byte()
{
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 24;
}

static void fill(void *memory, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ((unsigned char *)memory)[i] = (unsigned char)random_byte();
}

static int wrong_products(const fragments &f)
{
    signed char a[16 * 32];
    unsigned char b[8 * 32];
    int wrong = 0;
    for (int lane = 0; lane < 32; lane++) {
        for (int i = 0; i < 16; i++)
            a[A.at(lane, i)] = (signed char)(f.a[lane][i / 4] >> 8 * (i % 4));
        for (int i = 0; i < 8; i++)
            b[B.at(lane, i)] = (unsigned char)(f.b[lane][i / 4] >> 8 * (i % 4));
    }
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            int at = C.at(lane, i);
            unsigned sum = (unsigned)f.c[lane][i];
            for (int k = 0; k < 32; k++)
                sum += (unsigned)(a[at % 16 + 16 * k] * b[at / 16 + 8 * k]);
            wrong += (int)sum != f.d[lane][i];
        }
    return wrong;
}

// Of the 4 x 8 rows in a line, lane t has in register j the 4 bytes from 4 t + 128 j on.
static int wrong_loads(const fragments &f)
{
    int wrong = 0;
    for (int lane = 0; lane < 32; lane++)
        for (int j = 0; j < 4; j++)
            wrong += std::memcmp(&f.loaded[lane][j], &f.rows[0][0] + 4 * lane + 128 * j, 4) != 0;
    return wrong;
}

int main()
{
    fragments f, *device;
    int wrong = 0;
    if (cudaMalloc((void **)&device, sizeof f) != cudaSuccess) return 1;
    for (int round = 0; round < 20; round++) {
        fill(&f, sizeof f);
        cudaMemcpy(device, &f, sizeof f, cudaMemcpyHostToDevice);
        LAUNCH(multiply_kernel, 1, 32, 0, nullptr, device);
        LAUNCH(load_kernel, 1, 32, 0, nullptr, device);
        if (cudaMemcpy(&f, device, sizeof f, cudaMemcpyDeviceToHost) != cudaSuccess) return 1;
        wrong += wrong_products(f) + wrong_loads(f);
    }
    cudaFree(device);
    std::printf("fragment layouts: %d elements of %d wrong\n", wrong, 20 * 32 * 8);
    return wrong != 0;
}
