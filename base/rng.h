/* Random numbers from a seed.
 *
 * rng_*: a stream (splitmix64; Steele, Lea, Flood, OOPSLA 2014), for workloads, weights and tests.
 * mix64 / rng_at: counter-based, the number depends on (seed, index) alone, so that a request's
 * samples do not depend on what runs beside it.
 */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline uint64_t mix64(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    x ^= x >> 31;
    return x;
}

static inline uint64_t rng_next(struct rng *rng)
{
    return mix64(rng->state += 0x9e3779b97f4a7c15u);
}

/* The index-th number of the stream that starts at `seed`. */
static inline uint64_t rng_at(uint64_t seed, uint64_t index)
{
    return mix64(mix64(seed + 0x9e3779b97f4a7c15u) + (index + 1) * 0x9e3779b97f4a7c15u);
}

/* 53 uniform bits in [0, 1). */
static inline double unit_from_bits(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1p-53;
}

static inline double rng_unit(struct rng *rng)
{
    return unit_from_bits(rng_next(rng));
}

/* Uniform in [0, n), n > 0. The bias is under 2^-32 for n < 2^32. */
static inline uint64_t rng_below(struct rng *rng, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)rng_next(rng) * n) >> 64);
}

/* Standard normal (Box-Muller, one of the pair). */
double rng_normal(struct rng *rng);

#endif
