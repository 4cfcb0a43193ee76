// Warp collectives: votes, shuffles, tensor-core products with the fragment layouts of the PTX ISA
// (lane = 4 g + t), ldmatrix, cp.async; included by emulator.h.
#ifndef TESTS_CUDA_EMULATOR_WARP_H
#define TESTS_CUDA_EMULATOR_WARP_H

#define EMU_ALL_LANES 0xffffffffu

EMU_UNCHECKED static void emu_op_syncwarp(unsigned, const void *const *, void *const *) {}

static inline void __syncwarp(unsigned mask = EMU_ALL_LANES, EMU_LOC_ARGS)
{
    emu_warp_collective(mask, emu_op_syncwarp, "syncwarp", true, nullptr, nullptr, EMU_LOC);
}

// --- votes
EMU_UNCHECKED static inline void emu_op_ballot(unsigned, const void *const *in, void *const *out)
{
    unsigned votes = 0;
    for (int lane = 0; lane < 32; lane++)
        if (in[lane] && *(const int *)in[lane]) votes |= 1u << lane;
    for (int lane = 0; lane < 32; lane++)
        if (out[lane]) *(unsigned *)out[lane] = votes;
}

static inline unsigned __ballot_sync(unsigned mask, int predicate, EMU_LOC_ARGS)
{
    int vote = predicate != 0;
    unsigned votes = 0;
    emu_warp_collective(mask, emu_op_ballot, "vote.ballot", false, &vote, &votes, EMU_LOC);
    return votes;
}

static inline int __any_sync(unsigned mask, int predicate, EMU_LOC_ARGS)
{
    return __ballot_sync(mask, predicate, file, line) != 0;
}

// --- shuffles
enum emu_shuffle { EMU_SHFL_IDX, EMU_SHFL_UP, EMU_SHFL_DOWN, EMU_SHFL_BFLY };
struct emu_shuffle_in {
    unsigned long long value;
    int operand, width;
};

// The lane that `lane` reads: itself where its source would lie outside of its segment.
template <int MODE> EMU_UNCHECKED static inline int emu_shuffle_source(int lane, int by, int width)
{
    int first = lane & ~(width - 1), source;
    if (MODE == EMU_SHFL_IDX) return first | (by & (width - 1));
    if (MODE == EMU_SHFL_UP) source = lane - by;
    if (MODE == EMU_SHFL_DOWN) source = lane + by;
    if (MODE == EMU_SHFL_BFLY) source = lane ^ by;
    bool outside = MODE == EMU_SHFL_UP ? source < first : source >= first + width;
    return outside ? lane : source;
}

template <int MODE>
EMU_UNCHECKED static void emu_op_shuffle(unsigned mask, const void *const *in, void *const *out)
{
    for (int lane = 0; lane < 32; lane++) {
        if (!in[lane]) continue;
        const emu_shuffle_in *own = (const emu_shuffle_in *)in[lane];
        if (own->width < 1 || own->width > 32 || (own->width & (own->width - 1)))
            return emu_fail("shfl: width %d", own->width);
        int source = emu_shuffle_source<MODE>(lane, own->operand, own->width);
        if (source < 0 || source > 31 || !in[source])
            return emu_fail("shfl: lane %d reads lane %d, which takes no part (mask %08x)", lane,
                            source, mask);
        *(unsigned long long *)out[lane] = ((const emu_shuffle_in *)in[source])->value;
    }
}

template <int MODE, class T>
static inline T emu_shfl(unsigned mask, T value, int operand, int width, emu_loc where)
{
    static_assert(sizeof(T) <= 8, "shfl moves at most 8 bytes");
    emu_shuffle_in in{0, operand, width};
    unsigned long long moved = 0;
    __builtin_memcpy(&in.value, &value, sizeof value);
    emu_warp_collective(mask, emu_op_shuffle<MODE>, "shfl", false, &in, &moved, where);
    T result;
    __builtin_memcpy(&result, &moved, sizeof result);
    return result;
}

template <class T>
static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, EMU_LOC_ARGS)
{
    return emu_shfl<EMU_SHFL_IDX>(mask, value, lane, width, EMU_LOC);
}

template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, EMU_LOC_ARGS)
{
    return emu_shfl<EMU_SHFL_UP>(mask, value, (int)by, width, EMU_LOC);
}

template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, EMU_LOC_ARGS)
{
    return emu_shfl<EMU_SHFL_DOWN>(mask, value, (int)by, width, EMU_LOC);
}

template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32, EMU_LOC_ARGS)
{
    return emu_shfl<EMU_SHFL_BFLY>(mask, value, with, width, EMU_LOC);
}

// --- mma.m16n8k32 of int8: A is 16 x 32 row-major, B 32 x 8 column-major, D = A B + C
struct emu_mma_in {
    uint32_t a[4], b[2];
    int32_t c[4];
};

EMU_UNCHECKED static inline bool emu_whole_warp(const char *name, const void *const *in)
{
    for (int lane = 0; lane < 32; lane++)
        if (!in[lane]) {
            emu_fail("%s: lane %d takes no part", name, lane);
            return false;
        }
    return true;
}

// Byte `i` (0..3) of a register as the operand's type has it.
template <bool SIGNED> EMU_UNCHECKED static inline int emu_byte(uint32_t word, int i)
{
    uint32_t byte = word >> 8 * i & 255u;
    return SIGNED ? (int)(int8_t)byte : (int)byte;
}

// Register r of A holds row g + 8 (r & 1), k from 16 (r >> 1) + 4 t; register r of B holds column
// g, k from 16 r + 4 t. Register r of C and D holds row g + 8 (r >> 1), column 2 t + (r & 1).
template <bool A_SIGNED, bool B_SIGNED>
EMU_UNCHECKED static void emu_op_mma_16832(unsigned, const void *const *in, void *const *out)
{
    int a[16][32], b[8][32];
    if (!emu_whole_warp("mma.m16n8k32", in)) return;
    for (int lane = 0; lane < 32; lane++) {
        const emu_mma_in *own = (const emu_mma_in *)in[lane];
        int g = lane >> 2, t = lane & 3;
        for (int i = 0; i < 4; i++) {
            for (int r = 0; r < 4; r++)
                a[g + 8 * (r & 1)][16 * (r >> 1) + 4 * t + i] = emu_byte<A_SIGNED>(own->a[r], i);
            for (int r = 0; r < 2; r++)
                b[g][16 * r + 4 * t + i] = emu_byte<B_SIGNED>(own->b[r], i);
        }
    }
    for (int lane = 0; lane < 32; lane++)
        for (int r = 0; r < 4; r++) {
            const int *row = a[(lane >> 2) + 8 * (r >> 1)], *column = b[2 * (lane & 3) + (r & 1)];
            int sum = 0;
            for (int k = 0; k < 32; k++)
                sum += row[k] * column[k];
            // without .satfinite the accumulator wraps
            uint32_t c = (uint32_t)((const emu_mma_in *)in[lane])->c[r];
            ((int32_t *)out[lane])[r] = (int32_t)(c + (uint32_t)sum);
        }
}

template <bool A_SIGNED, bool B_SIGNED>
static inline void emu_mma_16832(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                 const int (&c)[4], emu_loc where)
{
    emu_mma_in in;
    __builtin_memcpy(in.a, a, sizeof in.a);
    __builtin_memcpy(in.b, b, sizeof in.b);
    __builtin_memcpy(in.c, c, sizeof in.c);
    emu_warp_collective(EMU_ALL_LANES, emu_op_mma_16832<A_SIGNED, B_SIGNED>, "mma.m16n8k32", false,
                        &in, d, where);
}

static inline void emu_mma_s8_16832(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                    const int (&c)[4], emu_loc where)
{
    emu_mma_16832<true, true>(d, a, b, c, where);
}

static inline void emu_mma_s8u8_16832(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                      const int (&c)[4], emu_loc where)
{
    emu_mma_16832<true, false>(d, a, b, c, where);
}

// --- ldmatrix: every lane reads its own row of 16 bytes, so that a sanitizer names the right one;
// then lane 4 g + t gets bytes 4 t .. 4 t + 3 of row g of each matrix.
template <int N>
EMU_UNCHECKED static void emu_op_ldmatrix(unsigned, const void *const *in, void *const *out)
{
    if (!emu_whole_warp("ldmatrix", in)) return;
    for (int lane = 0; lane < 32; lane++)
        for (int matrix = 0; matrix < N; matrix++) {
            const uint32_t *row = (const uint32_t *)in[matrix * 8 + (lane >> 2)];
            ((uint32_t *)out[lane])[matrix] = row[lane & 3];
        }
}

template <int N> static inline void emu_ldmatrix(uint32_t (&r)[N], const void *p, emu_loc where)
{
    uint32_t row[4] = {0, 0, 0, 0};
    if (emu_cur->lane < N * 8) {
        if ((uintptr_t)p & 15)
            emu_fail("%s:%d: ldmatrix: row at %p is not aligned to 16", where.file, where.line, p);
        const unsigned char *bytes = (const unsigned char *)p;
        for (int i = 0; i < 16; i++)
            row[i / 4] |= (uint32_t)bytes[i] << i % 4 * 8;
    }
    emu_warp_collective(EMU_ALL_LANES, emu_op_ldmatrix<N>, "ldmatrix", false, row, r, where);
}

// --- cp.async
static inline void emu_copy_bytes(void *to, const void *from, int bytes, int copied)
{
    unsigned char *t = (unsigned char *)to;
    const unsigned char *f = (const unsigned char *)from;
    for (int i = 0; i < bytes; i++)
        t[i] = copied < 0 ? 0xff : i < copied ? f[i] : 0;
}

static inline void emu_cp_async(void *to, const void *from, int bytes, int copied, emu_loc where)
{
    emu_cp_async_start(to, from, bytes, copied, emu_copy_bytes, where);
}

#endif
