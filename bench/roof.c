#include "bench/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_BYTES \
    ((size_t)256 << 20) /* eight times the last-level cache of the machines we know */
#define REPEATS 5

struct reading {
    const unsigned char *memory;
    _Atomic uint64_t sink;
};

typedef uint64_t u64x8 __attribute__((vector_size(64)));

/* Sums one member's share, eight words at a time: a plain stream of loads. */
static void read_share(void *argument, int member, int members)
{
    struct reading *job = argument;
    size_t share = READ_BYTES / (size_t)members / 256 * 256;
    const u64x8 *at = (const u64x8 *)(job->memory + share * (size_t)member);
    u64x8 sum[4] = {{0}};
    for (size_t i = 0; i < share / sizeof *at; i += 4)
        for (int k = 0; k < 4; k++)
            sum[k] += at[i + (size_t)k];
    u64x8 all = sum[0] + sum[1] + sum[2] + sum[3];
    job->sink += all[0] ^ all[7];
}

static double seconds_since(int64_t start_us)
{
    struct clock clock = clock_monotonic();
    return (double)(clock_now(&clock) - start_us) / 1e6;
}

static double read_bandwidth(struct thread_pool *pool)
{
    struct clock clock = clock_monotonic();
    struct reading job = {0};
    void *memory = pages_alloc(READ_BYTES, 1);
    if (!memory) return 0;
    memset(memory, 1, READ_BYTES); /* untouched pages would all be one page of zeros */
    job.memory = memory;
    double best = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        int64_t start = clock_now(&clock);
        thread_pool_run(pool, read_share, &job);
        double seconds = seconds_since(start);
        if (seconds < best) best = seconds;
    }
    pages_free(memory, READ_BYTES);
    return (double)READ_BYTES / best;
}

struct looping {
    double (*loop)(int64_t rounds);
    int64_t rounds;
    double operations[256]; /* by member */
};

static void loop_member(void *argument, int member, int members)
{
    struct looping *job = argument;
    (void)members;
    job->operations[member % 256] = job->loop(job->rounds);
}

static double loop_rate(struct thread_pool *pool, double (*loop)(int64_t rounds))
{
    struct clock clock = clock_monotonic();
    struct looping job = {.loop = loop, .rounds = 1000000};
    double best = 0;
    for (int i = 0; i < REPEATS; i++) {
        int64_t start = clock_now(&clock);
        thread_pool_run(pool, loop_member, &job);
        double seconds = seconds_since(start), total = 0;
        for (int m = 0; m < thread_pool_size(pool) && m < 256; m++)
            total += job.operations[m];
        if (seconds > 0 && total / seconds > best) best = total / seconds;
    }
    return best;
}

struct roof roof_measure(struct thread_pool *pool, enum cpu_isa isa)
{
    const struct roof_loops *loops = isa == CPU_AVX512 ? &roof_loops_avx512
                                     : isa == CPU_AVX2 ? &roof_loops_avx2
                                                       : &roof_loops_portable;
    return (struct roof){.bytes_per_s = read_bandwidth(pool),
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
