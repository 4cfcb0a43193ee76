/* What PTX's arithmetic means (PTX ISA, chapter 9), as C++ functions. Nothing here knows of
 * threads.
 *
 * Registers are bits: get and put read and write one as the type an instruction names. Integer
 * arithmetic wraps. The approximate instructions (.approx, .full) are computed exactly rounded or
 * by libm: a GPU may differ in the last bits, which is the caller's tolerance to know.
 */
#ifndef PTX_OPERATIONS_H
#define PTX_OPERATIONS_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace ptx
{

typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef uint8_t u8, b8;
typedef uint16_t u16, b16;
typedef uint32_t u32, b32;
typedef uint64_t u64, b64;
typedef float f32;
typedef double f64;
typedef bool pred;

/* --- registers */

template <class T, class From> inline T bits(From from)
{
    static_assert(sizeof(T) <= sizeof from, "an instruction reads more than the register has");
    T to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

template <class T, class Register> inline T get(Register r)
{
    return bits<T>(r);
}

/* A narrower value is extended by its own sign, as ld and cvt do. */
template <class T, class Register> inline void put(Register &r, T value)
{
    static_assert(sizeof(T) <= sizeof(Register),
                  "an instruction writes more than the register has");
    if constexpr (sizeof(T) == sizeof(Register))
        std::memcpy(&r, &value, sizeof r);
    else
        r = (Register)value;
}

/* --- integers; f32 where a name is shared. Unsigned underneath, because signed overflow is
 * undefined in C++ and defined in PTX. */

template <class T> using unsigned_of = typename std::make_unsigned<T>::type;

/* Twice as wide, with T's sign. */
template <class T> struct wider;
template <> struct wider<s16> {
    typedef s32 type;
};
template <> struct wider<u16> {
    typedef u32 type;
};
template <> struct wider<s32> {
    typedef s64 type;
};
template <> struct wider<u32> {
    typedef u64 type;
};
template <> struct wider<s64> {
    typedef __int128 type;
};
template <> struct wider<u64> {
    typedef unsigned __int128 type;
};
template <class T> using wide = typename wider<T>::type;

template <class T> inline T add(T a, T b)
{
    if constexpr (std::is_floating_point<T>::value)
        return a + b;
    else
        return (T)((u64)a + (u64)b);
}

template <class T> inline T sub(T a, T b)
{
    if constexpr (std::is_floating_point<T>::value)
        return a - b;
    else
        return (T)((u64)a - (u64)b);
}

template <class T> inline T mul_lo(T a, T b)
{
    return (T)((u64)a * (u64)b);
}
template <class T> inline T mul_hi(T a, T b)
{
    return (T)(((wide<T>)a * (wide<T>)b) >> (8 * sizeof(T)));
}
template <class T> inline wide<T> mul_wide(T a, T b)
{
    return (wide<T>)a * (wide<T>)b;
}
template <class T> inline T mad_lo(T a, T b, T c)
{
    return add(mul_lo(a, b), c);
}
template <class T> inline T mad_hi(T a, T b, T c)
{
    return add(mul_hi(a, b), c);
}
template <class T> inline wide<T> mad_wide(T a, T b, wide<T> c)
{
    return add(mul_wide(a, b), c);
}

/* Division by zero and the one overflowing quotient have no defined result: all ones shows. */
template <class T> inline T divide(T a, T b)
{
    if constexpr (std::is_floating_point<T>::value)
        return a / b;
    else
        return b == 0 || (std::is_signed<T>::value && b == (T)-1 &&
                          a == (T)((u64)1 << (8 * sizeof(T) - 1)))
                   ? (T)-1
                   : (T)(a / b);
}

template <class T> inline T remainder(T a, T b)
{
    return b == 0 || (std::is_signed<T>::value && b == (T)-1) ? (T)(b == 0 ? -1 : 0) : (T)(a % b);
}

template <class T> inline T negate(T a)
{
    if constexpr (std::is_floating_point<T>::value)
        return -a;
    else
        return (T)(0 - (u64)a);
}

template <class T> inline T absolute(T a)
{
    if constexpr (std::is_floating_point<T>::value)
        return std::fabs(a);
    else
        return a < 0 ? negate(a) : a;
}

template <class T> inline T bit_and(T a, T b)
{
    return (T)(a & b);
}
template <class T> inline T bit_or(T a, T b)
{
    return (T)(a | b);
}
template <class T> inline T bit_xor(T a, T b)
{
    return (T)(a ^ b);
}
template <class T> inline T bit_not(T a)
{
    return (T)~a;
}
inline pred bit_not(pred a)
{
    return !a;
}

/* Amounts beyond the width shift everything out. */
template <class T> inline T shift_left(T a, u32 n)
{
    return n >= 8 * sizeof(T) ? (T)0 : (T)((u64)a << n);
}
template <class T> inline T shift_right(T a, u32 n)
{
    return n >= 8 * sizeof(T) ? (T)(a < 0 ? -1 : 0) : (T)(a >> n);
}

/* shf: the 64 bits b:a, of which a left shift keeps the upper and a right shift the lower half. */
inline u32 funnel(bool left, u32 a, u32 b, u32 n)
{
    u64 both = (u64)b << 32 | a;
    return left ? (u32)(both << n >> 32) : (u32)(both >> n);
}
inline u32 funnel_left_wrap(u32 a, u32 b, u32 n)
{
    return funnel(true, a, b, n & 31);
}
inline u32 funnel_left_clamp(u32 a, u32 b, u32 n)
{
    return funnel(true, a, b, n > 32 ? 32 : n);
}
inline u32 funnel_right_wrap(u32 a, u32 b, u32 n)
{
    return funnel(false, a, b, n & 31);
}
inline u32 funnel_right_clamp(u32 a, u32 b, u32 n)
{
    return funnel(false, a, b, n > 32 ? 32 : n);
}

/* prmt: each nibble of the selector picks a byte of b:a, or with bit 3 its sign over the byte. */
inline u32 permute(u32 a, u32 b, u32 selector)
{
    u64 both = (u64)b << 32 | a;
    u32 out = 0;
    for (int i = 0; i < 4; i++) {
        u32 pick = selector >> 4 * i & 15, byte = (u32)(both >> 8 * (pick & 7)) & 255;
        if (pick & 8) byte = byte & 128 ? 255 : 0;
        out |= byte << 8 * i;
    }
    return out;
}

/* lop3: bit i of the table is the result where a, b and c are the bits 2, 1 and 0 of i. */
inline u32 lop3(u32 a, u32 b, u32 c, u32 table)
{
    u32 out = 0;
    for (u32 i = 0; i < 8; i++)
        if (table >> i & 1) out |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return out;
}

/* bfe: `count` bits from `first`; beyond the register, and above a signed field, its sign. */
template <class T> inline T bit_extract(T a, u32 first, u32 count)
{
    const int width = 8 * sizeof(T);
    first &= 255, count &= 255;
    int last = (int)(first + count) - 1 < width - 1 ? (int)(first + count) - 1 : width - 1;
    bool sign = std::is_signed<T>::value && count && ((u64)a >> last & 1);
    u64 out = 0;
    for (int i = 0; i < width; i++) {
        bool inside = i < (int)count && (int)first + i < width;
        out |= (u64)(inside ? (u64)a >> ((int)first + i) & 1 : sign) << i;
    }
    return (T)out;
}

template <class T> inline T bit_insert(T a, T b, u32 first, u32 count)
{
    first &= 255, count &= 255;
    for (u32 i = 0; i < count && first + i < 8 * sizeof(T); i++) {
        T one = (T)((T)1 << (first + i));
        b = (T)(a >> i & 1 ? b | one : b & ~one);
    }
    return b;
}

inline u32 bit_reverse(u32 a)
{
    u32 out = 0;
    for (int i = 0; i < 32; i++)
        out |= (a >> i & 1) << (31 - i);
    return out;
}

template <class T> inline u32 popcount(T a)
{
    return (u32)__builtin_popcountll(a);
}
template <class T> inline u32 leading_zeros(T a)
{
    return a ? (u32)__builtin_clzll(a) - (64 - 8 * sizeof(T)) : 8 * sizeof(T);
}

/* bfind: the place of the highest 1, or how far left it is to be shifted to the top. */
inline u32 find_highest(u32 a)
{
    return a ? 31 - leading_zeros(a) : ~0u;
}
inline u32 find_highest_shift(u32 a)
{
    return a ? leading_zeros(a) : ~0u;
}

inline s32 dot4(s32 a, s32 b, s32 c)
{
    for (int i = 0; i < 4; i++)
        c = add(c, (s32)(s8)(a >> 8 * i) * (s32)(s8)(b >> 8 * i));
    return c;
}

template <class T> inline T select(T a, T b, pred p)
{
    return p ? a : b;
}

/* --- f32. min and max: a number wins over NaN, +0 over -0. */

inline bool unordered(f32 a, f32 b)
{
    return a != a || b != b;
}

template <class T> inline T minimum(T a, T b)
{
    if constexpr (std::is_floating_point<T>::value) {
        if (a != a || b != b) return a != a ? (b != b ? bits<f32>(0x7fffffffu) : b) : a;
        if (a == b) return std::signbit(a) ? a : b;
    }
    return a < b ? a : b;
}

template <class T> inline T maximum(T a, T b)
{
    if constexpr (std::is_floating_point<T>::value) {
        if (a != a || b != b) return a != a ? (b != b ? bits<f32>(0x7fffffffu) : b) : a;
        if (a == b) return std::signbit(a) ? b : a;
    }
    return a > b ? a : b;
}

inline f32 minimum_nan(f32 a, f32 b)
{
    return unordered(a, b) ? bits<f32>(0x7fffffffu) : minimum(a, b);
}
inline f32 maximum_nan(f32 a, f32 b)
{
    return unordered(a, b) ? bits<f32>(0x7fffffffu) : maximum(a, b);
}
inline f32 multiply(f32 a, f32 b)
{
    return a * b;
}
inline f32 fused_multiply_add(f32 a, f32 b, f32 c)
{
    return std::fmaf(a, b, c);
}
inline f32 reciprocal(f32 a)
{
    return 1.0f / a;
}
inline f32 square_root(f32 a)
{
    return std::sqrt(a);
}
inline f32 reciprocal_root(f32 a)
{
    return (f32)(1.0 / std::sqrt((f64)a));
}
inline f32 exp2(f32 a)
{
    return std::exp2(a);
}
inline f32 log2(f32 a)
{
    return std::log2(a);
}
inline f32 flush(f32 a)
{
    return std::fpclassify(a) == FP_SUBNORMAL ? std::copysign(0.0f, a) : a;
}
inline f32 exp2_flush(f32 a)
{
    return flush(exp2(flush(a)));
}
inline f32 copy_sign(f32 a, f32 b)
{
    return std::copysign(b, a);
} /* the sign is the first operand's */

/* --- conversions. To an integer: NaN is 0, and what does not fit is the nearest that does. */

template <class T> inline T fit(f64 a)
{
    const f64 low = std::is_signed<T>::value ? -std::ldexp(1.0, 8 * sizeof(T) - 1) : 0;
    const f64 over = std::ldexp(1.0, 8 * sizeof(T) - (std::is_signed<T>::value ? 1 : 0));
    const T most = (T)(std::is_signed<T>::value ? ((u64)1 << (8 * sizeof(T) - 1)) - 1 : ~(u64)0);
    if (a != a) return 0;
    return a >= over ? most : a < low ? (T)low : (T)a;
}
template <class T> inline T round_even(f32 a)
{
    return fit<T>(std::nearbyint((f64)a));
}
template <class T> inline T round_zero(f32 a)
{
    return fit<T>(std::trunc((f64)a));
}
template <class T> inline T round_down(f32 a)
{
    return fit<T>(std::floor((f64)a));
}
template <class T> inline T round_up(f32 a)
{
    return fit<T>(std::ceil((f64)a));
}
template <class T> inline f32 to_f32(T a)
{
    return (f32)a;
}
template <class T> inline f64 to_f64(T a)
{
    return (f64)a;
}
inline f32 nearest_integer(f32 a)
{
    return std::nearbyint(a);
}
inline f32 saturate_unit(f32 a)
{
    return a > 0 ? (a < 1 ? a : 1.0f) : 0.0f;
}
template <class T, class From> inline T saturate(From a)
{
    const s64 low = std::is_signed<T>::value ? -((s64)1 << (8 * sizeof(T) - 1)) : 0;
    const s64 high = std::is_signed<T>::value ? -low - 1 : ((s64)1 << 8 * sizeof(T)) - 1;
    return (T)((s64)a < low ? low : (s64)a > high ? high : (s64)a);
}

/* cvt.pack: a over b below the lower half of c. */
inline u32 pack_s8(s32 a, s32 b, u32 c)
{
    return c << 16 | (u32)(u8)saturate<s8>(a) << 8 | (u8)saturate<s8>(b);
}

inline u16 to_bf16(f32 a)
{
    u32 u = bits<u32>(a);
    return a != a ? 0x7fff : (u16)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
inline u32 to_bf16x2(f32 high, f32 low)
{
    return (u32)to_bf16(high) << 16 | to_bf16(low);
}
inline f32 from_bf16(u16 a)
{
    return bits<f32>((u32)a << 16);
}
inline u16 to_f16(f32 a)
{
    return a != a ? 0x7fff : bits<u16>((_Float16)a);
}
inline f32 from_f16(u16 a)
{
    return (f32)bits<_Float16>(a);
}

} // namespace ptx

#endif
