/* base/: what every room stands on. Knows nobody.
 *
 *   status.h       what went wrong, in one enum and one struct with the words
 *   alloc.h        the policy for memory: stop for small objects, try for what clients ask for
 *   checked.h      sums and products of numbers that came from a file or a client
 *   cache_folder.h where what can be made again is kept
 *   clock.h        time as an argument (real, or virtual in tests and simulation)
 *   rng.h          random numbers from a seed; a counter-based form for sampling
 *   log.h          lines on standard error
 *   strbuf.h       a growing byte string
 *   thread_pool.h  a team of threads that runs one function on every member, then meets
 *   progress.h     a progress bar on a terminal, nothing elsewhere
 *   options.h      command lines: one table gives parsing and --help
 *   paths.h        files of a command line that must not be one and the same
 */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include "base/alloc.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/strbuf.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static inline int32_t min_i32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static inline int32_t max_i32(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static inline int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

#endif
