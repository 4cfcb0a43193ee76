/* Which instruction set to use: the best of this machine, or the one that ESPALIER_CPU names. */
#include "kernels/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

const char *cpu_isa_name(enum cpu_isa isa)
{
    switch (isa) {
    case CPU_AUTO:
        return "auto";
    case CPU_PORTABLE:
        return "portable";
    case CPU_AVX2:
        return "avx2";
    case CPU_AVX512:
        return "avx512";
    }
    die("instruction set %d", (int)isa);
}

#if defined(__x86_64__)
/* By hand: clang 14 does not know the name "f16c" to __builtin_cpu_supports. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}
#endif

/* What kernels_ISA.c is compiled for (CMakeLists.txt: AVX2_FLAGS, AVX512_FLAGS). */
bool cpu_isa_supported(enum cpu_isa isa)
{
#if defined(__x86_64__)
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    if (isa == CPU_AVX2) return avx2;
    if (isa == CPU_AVX512)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vnni");
#endif
    return isa == CPU_PORTABLE;
}

enum status cpu_isa_select(enum cpu_isa *isa, struct error *err)
{
    const char *forced = getenv("ESPALIER_CPU");
    const enum cpu_isa best_first[] = {CPU_AVX512, CPU_AVX2, CPU_PORTABLE};
    for (size_t i = 0; i < COUNT_OF(best_first); i++) {
        enum cpu_isa candidate = best_first[i];
        if (forced && *forced && strcmp(forced, "auto") != 0) {
            if (strcmp(forced, cpu_isa_name(candidate)) != 0) continue;
            if (!cpu_isa_supported(candidate))
                return fail(err, ST_NO_DEVICE, "ESPALIER_CPU=%s: this machine lacks it", forced);
        } else if (!cpu_isa_supported(candidate)) {
            continue;
        }
        *isa = candidate;
        return ST_OK;
    }
    return fail(err, ST_INVALID, "ESPALIER_CPU=%s: not one of auto, avx512, avx2, portable",
                forced);
}
