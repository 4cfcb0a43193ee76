/* mma.sync and ldmatrix of translated PTX, included by ptx_runtime.h.
 *
 * Which element of a matrix a register of a lane holds stands here as the PTX ISA words it (section
 * "Warp-level matrix multiply-accumulate instructions"), as formulas in the lane's group (lane / 4)
 * and its place in the group (lane % 4). test_layout.cu holds both these and the emulator's against
 * the shape:stride layouts that CUTLASS publishes for the same instructions.
 */
#ifndef PTX_MATRIX_H
#define PTX_MATRIX_H

namespace ptx
{

struct place {
    int row, column;
};

/* .m16n8k16 and .m16n8k32 with .s8 and .u8: element i of a lane, four to a register. */
inline place a_s8(int lane, int i)
{
    return {lane / 4 + (i / 4 % 2 ? 8 : 0), lane % 4 * 4 + i % 4 + (i >= 8 ? 16 : 0)};
}
inline place b_s8(int lane, int i)
{
    return {lane % 4 * 4 + i % 4 + (i >= 4 ? 16 : 0), lane / 4};
}

/* .m16n8k16 with .bf16: two to a register. */
inline place a_bf16(int lane, int i)
{
    return {lane / 4 + (i / 2 % 2 ? 8 : 0), lane % 4 * 2 + i % 2 + (i >= 4 ? 8 : 0)};
}
inline place b_bf16(int lane, int i)
{
    return {lane % 4 * 2 + i % 2 + (i >= 2 ? 8 : 0), lane / 4};
}

/* C and D of all of them. */
inline place c_m16n8(int lane, int i)
{
    return {lane / 4 + (i >= 2 ? 8 : 0), lane % 4 * 2 + i % 2};
}

template <class T> struct mma_input {
    u32 a[4], b[2];
    T c[4];
};

inline bool whole_warp(unsigned mask, const void *const *in, const char *opcode)
{
    for (int lane = 0; lane < 32; lane++)
        if (!(mask >> lane & 1) || !in[lane]) {
            emu_fail("%s: lane %d does not take part", opcode, lane);
            return false;
        }
    return true;
}

/* Byte i of an operand, as .s8 or .u8. */
template <class T> EMU_UNCHECKED inline s32 byte_of(const u32 *registers, int i)
{
    return (T)(registers[i / 4] >> 8 * (i % 4));
}

template <int K, class A, class B>
EMU_UNCHECKED void mma_int8_warp(unsigned mask, const void *const *in, void *const *out)
{
    s32 a[16][K], b[K][8];
    if (!whole_warp(mask, in, "mma of int8")) return;
    for (int lane = 0; lane < 32; lane++) {
        const mma_input<s32> &mine = *(const mma_input<s32> *)in[lane];
        for (int i = 0; i < K / 2; i++)
            a[a_s8(lane, i).row][a_s8(lane, i).column] = byte_of<A>(mine.a, i);
        for (int i = 0; i < K / 4; i++)
            b[b_s8(lane, i).row][b_s8(lane, i).column] = byte_of<B>(mine.b, i);
    }
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            place at = c_m16n8(lane, i);
            s32 sum = 0;
            for (int k = 0; k < K; k++)
                sum += a[at.row][k] * b[k][at.column];
            ((s32 *)out[lane])[i] = add(sum, ((const mma_input<s32> *)in[lane])->c[i]);
        }
}

EMU_UNCHECKED inline void mma_bf16_warp(unsigned mask, const void *const *in, void *const *out)
{
    f32 a[16][16], b[16][8];
    if (!whole_warp(mask, in, "mma.bf16")) return;
    for (int lane = 0; lane < 32; lane++) {
        const mma_input<f32> &mine = *(const mma_input<f32> *)in[lane];
        for (int i = 0; i < 8; i++)
            a[a_bf16(lane, i).row][a_bf16(lane, i).column] =
                from_bf16((u16)(mine.a[i / 2] >> 16 * (i % 2)));
        for (int i = 0; i < 4; i++)
            b[b_bf16(lane, i).row][b_bf16(lane, i).column] =
                from_bf16((u16)(mine.b[i / 2] >> 16 * (i % 2)));
    }
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            place at = c_m16n8(lane, i);
            f32 sum = 0; /* a tensor core's order and intermediate rounding are its own */
            for (int k = 0; k < 16; k++)
                sum += a[at.row][k] * b[k][at.column];
            ((f32 *)out[lane])[i] = ((const mma_input<f32> *)in[lane])->c[i] + sum;
        }
}

/* A of a k16 product of s8 takes two registers and B one, hence the lengths of a and b. */
template <class T, size_t A, size_t B>
inline mma_input<T> mma_operands(const u32 (&a)[A], const u32 (&b)[B], const T (&c)[4])
{
    mma_input<T> in = {};
    std::memcpy(in.a, a, sizeof a);
    std::memcpy(in.b, b, sizeof b);
    std::memcpy(in.c, c, sizeof c);
    return in;
}

template <int K, class A, class B>
inline void mma_int8(s32 (&d)[4], const u32 (&a)[K / 8], const u32 (&b)[K / 16], const s32 (&c)[4],
                     emu_loc at)
{
    mma_input<s32> in = mma_operands(a, b, c);
    emu_warp_collective(~0u, mma_int8_warp<K, A, B>, "mma of int8", false, &in, d, at);
}

inline void mma_bf16(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2], const f32 (&c)[4],
                     emu_loc at)
{
    mma_input<f32> in = mma_operands(a, b, c);
    emu_warp_collective(~0u, mma_bf16_warp, "mma.bf16", false, &in, d, at);
}

/* ldmatrix: lane 8 j + r has the address of row r of matrix j; every lane gets two neighbours of
 * row lane / 4, or with .trans of column lane / 4, of each matrix. The rows are loaded by the lanes
 * that name them. */
struct ldmatrix_row {
    u16 element[8];
};

template <int N, bool transposed>
EMU_UNCHECKED void ldmatrix_warp(unsigned mask, const void *const *in, void *const *out)
{
    if (!whole_warp(mask, in, "ldmatrix")) return;
    auto element = [&](int matrix, int row, int column) {
        return (u32)((const ldmatrix_row *)in[8 * matrix + row])->element[column];
    };
    for (int lane = 0; lane < 32; lane++)
        for (int j = 0; j < N; j++) {
            int row = lane / 4, column = lane % 4 * 2;
            u32 low = transposed ? element(j, column, row) : element(j, row, column);
            u32 high = transposed ? element(j, column + 1, row) : element(j, row, column + 1);
            ((u32 *)out[lane])[j] = low | high << 16;
        }
}

template <int N, bool transposed> inline void ldmatrix(u32 (&d)[N], u64 address, emu_loc at)
{
    ldmatrix_row row = {};
    if (lane_id() < 8 * N) {
        u64 from = check_access<space_shared>(address, 16, "ldmatrix", at);
        for (int i = 0; i < 8; i++)
            row.element[i] = ((const u16 *)from)[i];
    }
    emu_warp_collective(~0u, ldmatrix_warp<N, transposed>, "ldmatrix", false, &row, d, at);
}

} // namespace ptx

#endif
