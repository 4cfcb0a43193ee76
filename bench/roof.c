#include "bench/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The best of what fits into this time, and of that many at least: on a machine that others use
 * too, a few moments may all be bad ones. */
#define MEASURE_US 500000
#define LEAST_RUNS 5

static double seconds_since(int64_t start_us)
{
    struct clock clock = clock_monotonic();
    return (double)(clock_now(&clock) - start_us) / 1e6;
}

static double best_seconds(struct thread_pool *pool, thread_pool_fn work, void *job)
{
    struct clock clock = clock_monotonic();
    int64_t begin = clock_now(&clock);
    double best = 1e9;
    for (int i = 0; i < LEAST_RUNS || clock_now(&clock) - begin < MEASURE_US; i++) {
        int64_t start = clock_now(&clock);
        thread_pool_run(pool, work, job);
        double seconds = seconds_since(start);
        if (seconds > 0 && seconds < best) best = seconds;
    }
    return best;
}

/* --- memory */

#define LEAST_BYTES ((size_t)256 << 20)
#define MOST_BYTES  ((size_t)2 << 30)
#define CACHE_TIMES 8 /* larger than the cache so many times: next to nothing of it is there */

/* What a core of this machine can keep: sysconf would add the caches of all. */
size_t last_level_cache(void)
{
    char path[96], text[32];
    size_t largest = 0;
    for (int index = 0; index < 8; index++) {
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        FILE *file = fopen(path, "r");
        if (!file) break;
        char *unit = NULL;
        size_t size = fgets(text, sizeof text, file) ? strtoul(text, &unit, 10) : 0;
        fclose(file);
        if (unit) size <<= *unit == 'K' ? 10 : *unit == 'M' ? 20 : *unit == 'G' ? 30 : 0;
        if (size > largest) largest = size;
    }
    return largest;
}

static size_t read_bytes(void)
{
    size_t bytes = CACHE_TIMES * last_level_cache();
    if (bytes < LEAST_BYTES) return LEAST_BYTES;
    return bytes < MOST_BYTES ? bytes : MOST_BYTES;
}

struct reading {
    const struct roof_loops *loops;
    const unsigned char *memory;
    size_t bytes;
};

/* As weights are read: each member its own stretch, from one end to the other. */
static void read_share(void *argument, int member, int members)
{
    const struct reading *job = argument;
    size_t share = job->bytes / (size_t)members / ROOF_READ_BLOCK * ROOF_READ_BLOCK;
    job->loops->read(job->memory + share * (size_t)member, share);
}

static double read_bandwidth(struct thread_pool *pool, const struct roof_loops *loops)
{
    struct reading job = {.loops = loops, .bytes = read_bytes()};
    void *memory = pages_alloc(job.bytes, 1);
    if (!memory) return 0;
    memset(memory, 1, job.bytes); /* untouched pages would all be one page of zeros */
    job.memory = memory;
    double best = best_seconds(pool, read_share, &job);
    pages_free(memory, job.bytes);
    return (double)job.bytes / best;
}

/* --- arithmetic */

struct looping {
    double (*loop)(int64_t rounds);
    int64_t rounds;
};

static void loop_member(void *argument, int member, int members)
{
    const struct looping *job = argument;
    (void)member;
    (void)members;
    job->loop(job->rounds);
}

/* Long enough for members to begin together, and short enough for none to be interrupted. */
static double loop_rate(struct thread_pool *pool, double (*loop)(int64_t rounds))
{
    struct looping job = {.loop = loop, .rounds = 1000000};
    double operations = thread_pool_size(pool) * loop(job.rounds);
    return operations / best_seconds(pool, loop_member, &job);
}

struct roof roof_measure(struct thread_pool *pool, enum cpu_isa isa)
{
    const struct roof_loops *loops = isa == CPU_AVX512 ? &roof_loops_avx512
                                     : isa == CPU_AVX2 ? &roof_loops_avx2
                                                       : &roof_loops_portable;
    return (struct roof){.bytes_per_s = read_bandwidth(pool, loops),
                         .int8_ops_per_s = loop_rate(pool, loops->int8),
                         .f32_ops_per_s = loop_rate(pool, loops->f32)};
}

/* --- the command's */

enum status bench_machine_open(const struct bench_options *o, struct bench_machine *machine,
                               struct error *err)
{
    enum status status = cpu_isa_select(&machine->isa, err);
    if (!status) status = thread_pool_create((int)o->load.threads, &machine->pool, err);
    if (!status) machine->roof = roof_measure(machine->pool, machine->isa);
    return status;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

void roof_raise(struct roof *roof, struct roof other)
{
    roof->bytes_per_s = larger(roof->bytes_per_s, other.bytes_per_s);
    roof->int8_ops_per_s = larger(roof->int8_ops_per_s, other.int8_ops_per_s);
    roof->f32_ops_per_s = larger(roof->f32_ops_per_s, other.f32_ops_per_s);
}

void roof_to_json(const struct roof *roof, json_t *doc)
{
    json_object_set_new(doc, "roof_gb_per_s", json_real(roof->bytes_per_s / 1e9));
    json_object_set_new(doc, "roof_int8_gop_per_s", json_real(roof->int8_ops_per_s / 1e9));
    json_object_set_new(doc, "roof_f32_gop_per_s", json_real(roof->f32_ops_per_s / 1e9));
    json_object_set_new(doc, "last_level_cache_bytes",
                        json_integer((json_int_t)last_level_cache()));
}

void print_roof_words(const json_t *doc)
{
    printf("%lld threads; roof %.1f GB/s, %.0f int8 Gop/s, %.0f f32 Gop/s\n",
           json_integer_value(json_object_get(doc, "threads")),
           json_number_value(json_object_get(doc, "roof_gb_per_s")),
           json_number_value(json_object_get(doc, "roof_int8_gop_per_s")),
           json_number_value(json_object_get(doc, "roof_f32_gop_per_s")));
}

enum status measure_roof(const struct bench_options *o, json_t **out, struct error *err)
{
    struct bench_machine machine;
    enum status status = bench_machine_open(o, &machine, err);
    if (status) return status;
    *out = json_pack("{s:s, s:s, s:s, s:i}", "command", "bench --roof", "version", ESPALIER_VERSION,
                     "isa", cpu_isa_name(machine.isa), "threads", thread_pool_size(machine.pool));
    roof_to_json(&machine.roof, *out);
    thread_pool_free(machine.pool);
    return ST_OK;
}

void print_roof(const json_t *doc)
{
    printf("%s, ", json_string_value(json_object_get(doc, "isa")));
    print_roof_words(doc);
}
