/* What C++ made from PTX (ptx_to_cpp.py) runs on: the emulator's fibers, and registers of kernels.
 *
 * A translated file registers its kernels under the addresses of the C++ kernels of the same
 * mangled names, which g++ made from the same .cu. A launch that finds its kernel here runs the
 * translation in its place (emu_find_translated), so host code and tests stay what they are; one
 * that does not find it is an error, never the C++ kernel.
 *
 * Addresses. Shared memory has 32-bit addresses of its own, from 0: static arrays, then the dynamic
 * part. Generic pointers into it lie in a window no other memory is in. Every access is checked
 * here for its alignment and, in shared memory, its bounds.
 *
 * Warp operations are written again here, from the PTX ISA and not from the emulator's header, so
 * that one can be wrong without the other.
 */
#ifndef PTX_RUNTIME_H
#define PTX_RUNTIME_H

#include "tests/cuda/emulator.h"
#include "tests/cuda/ptx_operations.h"

#include <cstdio>
#include <map>

#define HERE (emu_loc{__FILE__, __LINE__})

namespace ptx
{

/* --- kernels */

struct kernel {
    const void *symbol; /* of the C++ kernel it stands for */
    const char *name;
    emu_translated run;             /* with the addresses of the arguments */
    u32 static_shared;              /* bytes */
    size_t most_dynamic_shared = 0; /* bytes a launch gave */
};

inline std::map<const void *, kernel> &kernels()
{
    static std::map<const void *, kernel> all;
    return all;
}

inline kernel *running; /* the kernel being launched: one at a time */

/* Says at the end that it was translations that ran: run_ptx.py wants to see it. */
struct launch_count {
    int count = 0;
    ~launch_count() { std::printf("%d launches of translated kernels\n", count); }
};
inline launch_count launches;

inline emu_translated find(const void *symbol)
{
    auto found = kernels().find(symbol);
    if (found == kernels().end()) {
        emu_fail("a kernel is launched that is not among the translated ones");
        return [](void **) {};
    }
    running = &found->second;
    launches.count++;
    return running->run;
}

struct registration {
    explicit registration(const kernel &k)
    {
        if (k.static_shared > 48 * 1024)
            emu_fail("%s has %u bytes of static shared memory", k.name, k.static_shared);
        kernels()[k.symbol] = k;
        emu_find_translated = find;
        mine = &kernels()[k.symbol];
    }
    ~registration()
    {
        if (mine->most_dynamic_shared)
            std::printf("shared memory of %s: %u bytes static, %zu dynamic\n", mine->name,
                        mine->static_shared, mine->most_dynamic_shared);
    }
    kernel *mine;
};

/* --- memory */

enum space { space_generic, space_global, space_shared, space_local, space_const, space_param };

const u64 SHARED_WINDOW = (u64)1 << 62; /* no pointer of this process is up there */

alignas(128) inline unsigned char static_shared[48 * 1024];
inline unsigned static_shared_seen;

inline u32 dynamic_offset()
{
    return (running->static_shared + 127) / 128 * 128;
}
inline u64 shared_static(u32 offset)
{
    return offset;
}
inline u64 shared_dynamic()
{
    if (running->most_dynamic_shared < emu_smem_bytes())
        running->most_dynamic_shared = emu_smem_bytes();
    return dynamic_offset();
}
inline u64 generic_from_shared(u64 address)
{
    return SHARED_WINDOW + (u32)address;
}
inline bool in_shared_window(u64 address)
{
    return address - SHARED_WINDOW < (u64)1 << 32;
}
inline u64 shared_from_generic(u64 address)
{
    if (!in_shared_window(address))
        emu_fail("cvta.to.shared of %#llx, which is not in shared memory",
                 (unsigned long long)address);
    return address - SHARED_WINDOW;
}

/* The host's address of shared memory. */
inline u64 shared_address(u64 address, u32 size, const char *opcode, emu_loc at)
{
    if (address + size <= running->static_shared) {
        emu_shared_touch(static_shared, running->static_shared, &static_shared_seen);
        return (u64)static_shared + address;
    }
    u64 offset = address - dynamic_offset();
    if (offset + size > emu_smem_bytes() || offset > offset + size) {
        emu_fail("%s:%d: %s of %u bytes at %#llx, outside of the kernel's shared memory", at.file,
                 at.line, opcode, size, (unsigned long long)address);
        return (u64)static_shared;
    }
    return (u64)emu_dyn_smem(16) + offset;
}

/* The host's address for `size` bytes at an address of `where`. */
template <space where>
inline u64 check_access(u64 address, u32 size, const char *opcode, emu_loc at)
{
    if (address % size)
        emu_fail("%s:%d: %s at %#llx is not aligned to %u bytes", at.file, at.line, opcode,
                 (unsigned long long)address, size);
    if (where == space_shared) return shared_address(address, size, opcode, at);
    if (where == space_generic && in_shared_window(address))
        return shared_address(address - SHARED_WINDOW, size, opcode, at);
    return address;
}

template <class T, size_t N> inline void load(T (&values)[N], u64 address)
{
    for (size_t i = 0; i < N; i++)
        values[i] = ((const T *)address)[i];
}

template <class T, size_t N> inline void store(u64 address, const T (&values)[N])
{
    for (size_t i = 0; i < N; i++)
        ((T *)address)[i] = values[i];
}

/* One OS thread: a plain read and write is atomic. */
template <class T, class F> inline T atomic(u64 at, F combine)
{
    T *where = (T *)at, old = *where;
    *where = combine(old);
    return old;
}
template <class T> inline T atomic_add(u64 at, T v)
{
    return atomic<T>(at, [=](T old) { return add(old, v); });
}
template <class T> inline T atomic_min(u64 at, T v)
{
    return atomic<T>(at, [=](T old) { return minimum(old, v); });
}
template <class T> inline T atomic_max(u64 at, T v)
{
    return atomic<T>(at, [=](T old) { return maximum(old, v); });
}
template <class T> inline T atomic_or(u64 at, T v)
{
    return atomic<T>(at, [=](T old) { return (T)(old | v); });
}
template <class T> inline T atomic_exch(u64 at, T v)
{
    return atomic<T>(at, [=](T) { return v; });
}

/* --- cp.async */

inline void copy_async(u64 to, u64 from, s32 size, s32 taken, bool past_l1, emu_loc at)
{
    if (past_l1 && size != 16)
        emu_fail("%s:%d: cp.async.cg copies 16 bytes, not %d", at.file, at.line, size);
    u64 destination = check_access<space_shared>(to, (u32)size, "cp.async", at);
    if (from % (u64)size)
        emu_fail("%s:%d: cp.async from %#llx, which is not aligned to %d", at.file, at.line,
                 (unsigned long long)from, size);
    emu_cp_async((void *)destination, (const void *)from, size, taken, at);
}
inline void copy_commit()
{
    emu_cp_async_commit();
}
inline void copy_wait(s32 pending)
{
    emu_cp_async_wait(pending);
}

/* --- threads, barriers */

inline u32 lane_id()
{
    return emu_cur->lane;
}
inline u32 warp_id()
{
    return emu_cur->warp;
}
inline void block_barrier(u32 id, u32 threads, emu_loc at)
{
    emu_block_sync((int)id, threads, 0, at);
}
inline void warp_barrier(u32 mask, emu_loc at)
{
    __syncwarp(mask, at.file, at.line);
}
inline void memory_fence()
{
    emu_fence();
}
inline void trap(emu_loc at)
{
    emu_fail("%s:%d: trap", at.file, at.line);
}

/* --- shfl.sync (ISA 9.7.9): b is the lane or offset, c holds a segment mask and a clamp */

enum shuffle_mode { shuffle_up, shuffle_down, shuffle_bfly, shuffle_idx };

struct shuffle_input {
    u32 value, b, c;
};
struct shuffled {
    u32 value;
    pred valid;
};

template <shuffle_mode mode>
EMU_UNCHECKED void shuffle_warp(unsigned mask, const void *const *in, void *const *out)
{
    for (u32 lane = 0; lane < 32; lane++) {
        if (!out[lane]) continue;
        const shuffle_input &mine = *(const shuffle_input *)in[lane];
        u32 segment = mine.c >> 8 & 31, clamp = mine.c & 31, b = mine.b & 31;
        s32 limit = (s32)((lane & segment) | (clamp & ~segment & 31)),
            first = (s32)(lane & segment), from = 0;
        switch (mode) {
        case shuffle_up:
            from = (s32)lane - (s32)b;
            break;
        case shuffle_down:
            from = (s32)(lane + b);
            break;
        case shuffle_bfly:
            from = (s32)(lane ^ b);
            break;
        case shuffle_idx:
            from = first | (s32)(b & ~segment);
            break;
        }
        pred valid = mode == shuffle_up ? from >= limit : from <= limit;
        if (!valid) from = (s32)lane;
        if (!(mask >> from & 1) || !in[from]) {
            emu_fail("shfl: lane %u reads lane %d, which does not take part (mask %08x)", lane,
                     from, mask);
            return;
        }
        *(shuffled *)out[lane] = {((const shuffle_input *)in[from])->value, valid};
    }
}

template <shuffle_mode mode> inline shuffled shuffle(u32 value, u32 b, u32 c, u32 mask, emu_loc at)
{
    shuffle_input in = {value, b, c};
    shuffled out = {};
    emu_warp_collective(mask, shuffle_warp<mode>, "shfl.sync", false, &in, &out, at);
    return out;
}

/* --- vote, redux */

EMU_UNCHECKED inline void ballot_warp(unsigned, const void *const *in, void *const *out)
{
    u32 all = 0;
    for (int lane = 0; lane < 32; lane++)
        if (in[lane] && *(const pred *)in[lane]) all |= 1u << lane;
    for (int lane = 0; lane < 32; lane++)
        if (out[lane]) *(u32 *)out[lane] = all;
}

inline u32 vote_ballot(pred asked, u32 mask, emu_loc at)
{
    u32 all = 0;
    emu_warp_collective(mask, ballot_warp, "vote.sync", false, &asked, &all, at);
    return all;
}
inline pred vote_any(pred asked, u32 mask, emu_loc at)
{
    return vote_ballot(asked, mask, at) != 0;
}
inline pred vote_all(pred asked, u32 mask, emu_loc at)
{
    return vote_ballot(!asked, mask, at) == 0;
}

template <class T, T (*combine)(T, T)>
EMU_UNCHECKED void redux_warp(unsigned, const void *const *in, void *const *out)
{
    bool first = true;
    T all = 0;
    for (int lane = 0; lane < 32; lane++)
        if (in[lane]) {
            all = first ? *(const T *)in[lane] : combine(all, *(const T *)in[lane]);
            first = false;
        }
    for (int lane = 0; lane < 32; lane++)
        if (out[lane]) *(T *)out[lane] = all;
}

template <class T, T (*combine)(T, T)> inline T redux(T value, u32 mask, emu_loc at)
{
    T out = 0;
    emu_warp_collective(mask, redux_warp<T, combine>, "redux.sync", false, &value, &out, at);
    return out;
}
template <class T> inline T redux_add(T v, u32 mask, emu_loc at)
{
    return redux<T, add<T>>(v, mask, at);
}
template <class T> inline T redux_min(T v, u32 mask, emu_loc at)
{
    return redux<T, minimum<T>>(v, mask, at);
}
template <class T> inline T redux_max(T v, u32 mask, emu_loc at)
{
    return redux<T, maximum<T>>(v, mask, at);
}

} // namespace ptx

#include "tests/cuda/ptx_matrix.h"

#endif
