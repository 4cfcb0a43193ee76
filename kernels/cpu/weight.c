/* Packing weights into panels (cpu.h has the layout), and reading single rows back for embeddings.
 *
 * The pool's members take panels as they get free; each reads 16 rows from the source, which is
 * where the time goes (dequantising a file's blocks), and scatters them. */
#include "kernels/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

float half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = (uint32_t)(half & 0x7fff) << 13;
    float value;
    memcpy(&value, &magnitude, sizeof value);
    value *= 0x1p112f; /* exact, subnormals included */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (magnitude >= 0x7c00u << 13) bits = magnitude | 0x7f800000u;
    bits |= sign;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t float_to_half(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return (uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x1ff));
    if (bits >= 0x47800000u) return (uint16_t)(sign | 0x7c00); /* 65536 and more */
    if (bits < 0x38800000u) {
        /* Below 2^-14 a half counts in steps of 2^-24: adding 0.5 leaves that count in the low
         * bits. */
        float magnitude, shifted;
        memcpy(&magnitude, &bits, sizeof magnitude);
        shifted = magnitude + 0.5f;
        memcpy(&bits, &shifted, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000u));
    }
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | (bits - 0x38000000u) >> 13);
}

static size_t native_bytes(enum dtype type)
{
    return type == DT_F32 ? 4 : 2;
}

/* --- the panels */

struct pack_job {
    const struct cpu_backend *cpu;
    const struct weight_spec *spec;
    struct weight *w;
    uint16_t *scales;
};

/* Rows of `panel` into rows[16][stride], those beyond the matrix zero. Without pairs, the parts'
 * rows follow each other and a panel may cover the end of one and the start of the next. */
static void read_panel(const struct pack_job *job, int64_t panel, float *rows, int64_t stride)
{
    const struct weight_spec *spec = job->spec;
    int part = job->w->paired ? (int)(panel % 2) : 0;
    int64_t row = (job->w->paired ? panel / 2 : panel) * PANEL;
    int lane = 0;
    for (; part < spec->part_count && lane < PANEL; part++) {
        const struct weight_source *source = &spec->parts[part];
        for (; row < source->rows && lane < PANEL; row++, lane++)
            source->read(source->context, row, 1, rows + lane * stride);
        if (job->w->paired) break;
        row = row > source->rows ? row - source->rows : 0;
    }
    for (; lane < PANEL; lane++)
        memset(rows + lane * stride, 0, (size_t)spec->cols * sizeof *rows);
}

/* The smallest bf16 that is no smaller than `value` (>= 0): a group's largest weight stays within
 * 127. */
static uint16_t bf16_above(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0xffff) >> 16);
}

/* Row `lane` of a panel: a scale and int8 values for each group of 64 inputs. */
static void pack_w8_lane(const struct pack_job *job, int64_t panel, int lane, const float *row,
                         int8_t *quantized)
{
    const struct cpu_kernels *kernels = job->cpu->kernels;
    int64_t cols = job->spec->cols, quads = (cols + 3) / 4, groups = w8_groups(cols);
    unsigned char *out = job->w->data + (size_t)panel * job->w->panel_bytes;
    for (int64_t group = 0; group < groups; group++) {
        int64_t at = group * W8_GROUP, count = cols - at < W8_GROUP ? cols - at : W8_GROUP;
        float limit = kernels->largest(row + at, count);
        uint16_t bits = limit < 1e-30f ? 0 : bf16_above(limit / 127.0f);
        float inverse = bits ? 1.0f / bf16_to_float(bits) : 0.0f;
        job->scales[(panel * groups + group) * PANEL + lane] = bits;
        kernels->quantize(row + at, count, inverse, quantized + at);
    }
    for (int64_t k = 0; k < quads; k++) {
        uint32_t four;
        memcpy(&four, quantized + k * 4, 4);
        four ^= 0x80808080u; /* s8 to u8 = s8 + 128 */
        memcpy(out + k * 4 * PANEL + lane * 4, &four, 4);
    }
}

static void pack_w8(const struct pack_job *job, int64_t panel, const float *rows, int64_t stride,
                    int8_t *quantized)
{
    for (int lane = 0; lane < PANEL; lane++)
        pack_w8_lane(job, panel, lane, rows + lane * stride, quantized);
}

static void pack_native(const struct pack_job *job, int64_t panel, const float *rows,
                        int64_t stride)
{
    unsigned char *out = job->w->data + (size_t)panel * job->w->panel_bytes;
    for (int64_t k = 0; k < job->spec->cols; k++)
        for (int lane = 0; lane < PANEL; lane++) {
            float value = rows[lane * stride + k];
            int64_t at = k * PANEL + lane;
            if (job->w->native == DT_F32)
                ((float *)out)[at] = value;
            else
                ((uint16_t *)out)[at] =
                    job->w->native == DT_F16 ? float_to_half(value) : float_to_bf16(value);
        }
}

static void pack_panels(void *argument, int64_t begin, int64_t end, int member)
{
    const struct pack_job *job = argument;
    (void)member;
    int64_t stride = round_up(job->spec->cols, 16);
    float *rows = must_alloc((size_t)(PANEL * stride) * sizeof *rows);
    int8_t *quantized = must_alloc((size_t)stride);
    for (int64_t panel = begin; panel < end; panel++) {
        read_panel(job, panel, rows, stride);
        if (job->w->format == WEIGHT_W8)
            pack_w8(job, panel, rows, stride, quantized);
        else
            pack_native(job, panel, rows, stride);
    }
    free(quantized);
    free(rows);
}

/* --- memory */

#define CHUNK_BYTES ((size_t)64 << 20) /* address space: pages come when they are written */

/* `bytes` of memory that starts on a cache line, in the backend's chunk or a new one. */
static bool chunk_take(struct cpu_backend *cpu, struct weight *w)
{
    size_t bytes = (size_t)round_up((int64_t)w->bytes, CACHE_LINE);
    struct weight_chunk *chunk = cpu->chunk;
    if (!chunk || bytes > chunk->bytes - chunk->used) {
        size_t size = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        char *memory = pages_alloc(size, cpu->hugepages);
        if (!memory) return false;
        chunk = must_alloc(sizeof *chunk);
        *chunk = (struct weight_chunk){.memory = memory, .bytes = size};
        cpu->chunk = chunk;
    }
    w->chunk = chunk;
    w->data = (unsigned char *)chunk->memory + chunk->used;
    chunk->used += bytes;
    chunk->live++;
    return true;
}

static void chunk_give_back(struct cpu_backend *cpu, struct weight_chunk *chunk)
{
    if (--chunk->live) return;
    if (cpu->chunk == chunk) cpu->chunk = NULL;
    pages_free(chunk->memory, chunk->bytes);
    free(chunk);
}

/* --- create and free */

static enum status check_spec(const struct weight_spec *spec, int64_t *outputs, struct error *err)
{
    invariant(spec->part_count >= 1 && spec->part_count <= 3, "%d parts", spec->part_count);
    invariant(!spec->paired || spec->part_count == 2, "a pair of %d parts", spec->part_count);
    uint64_t rows = 0;
    for (int i = 0; i < spec->part_count; i++)
        if (spec->parts[i].rows <= 0 || !checked_add(rows, (uint64_t)spec->parts[i].rows, &rows))
            return fail(err, ST_INVALID, "a matrix with a part of %lld rows",
                        (long long)spec->parts[i].rows);
    if (spec->paired && spec->parts[0].rows != spec->parts[1].rows)
        return fail(err, ST_INVALID, "gate has %lld rows, up %lld; they must be equal",
                    (long long)spec->parts[0].rows, (long long)spec->parts[1].rows);
    if (spec->format == WEIGHT_VSQ4Z)
        return fail(err, ST_UNSUPPORTED, "VSQ4z weights: the products of this backend come next");
    int64_t limit = INT32_MAX / 64;
    if (spec->cols <= 0 || spec->cols > limit || rows > INT32_MAX)
        return fail(err, ST_UNSUPPORTED,
                    "a matrix of %lld outputs by %lld inputs; inputs are 1 to %lld here",
                    (long long)rows, (long long)spec->cols, (long long)limit);
    *outputs = spec->paired ? (int64_t)rows / 2 : (int64_t)rows;
    return ST_OK;
}

enum status cpu_weight_create(struct backend *backend, const struct weight_spec *spec,
                              struct weight **out, struct error *err)
{
    struct cpu_backend *cpu = cpu_of(backend);
    struct weight *w = must_alloc(sizeof *w);
    enum status status = check_spec(spec, &w->outputs, err);
    if (status) goto refuse;
    w->format = spec->format;
    w->native = spec->native;
    w->paired = spec->paired;
    w->cols = spec->cols;
    w->panels = (w->outputs + PANEL - 1) / PANEL * (w->paired ? 2 : 1);
    w->panel_bytes = w->format == WEIGHT_W8 ? (size_t)(w->cols + 3) / 4 * 4 * PANEL
                                            : (size_t)w->cols * PANEL * native_bytes(w->native);
    size_t scale_bytes =
        w->format == WEIGHT_W8 ? (size_t)w8_groups(w->cols) * PANEL * sizeof(uint16_t) : 0;
    uint64_t bytes;
    if (!checked_mul((uint64_t)w->panels, w->panel_bytes + scale_bytes, &bytes)) bytes = UINT64_MAX;
    w->bytes = bytes;
    if (bytes > SIZE_MAX / 4 || !chunk_take(cpu, w)) {
        status = fail(err, ST_NO_MEMORY, "no memory for a matrix of %llu bytes",
                      (unsigned long long)bytes);
        goto refuse;
    }
    struct pack_job job = {.cpu = cpu, .spec = spec, .w = w};
    job.scales = (uint16_t *)(w->data + (size_t)w->panels * w->panel_bytes);
    w->scales = w->format == WEIGHT_W8 ? job.scales : NULL;
    thread_pool_for(cpu->pool, w->panels, 8, pack_panels, &job);
    *out = w;
    return ST_OK;
refuse:
    free(w);
    return status;
}

void cpu_weight_free(struct backend *backend, struct weight *weight)
{
    if (!weight) return;
    chunk_give_back(cpu_of(backend), weight->chunk);
    free(weight);
}

size_t cpu_weight_bytes(const struct weight *weight)
{
    return weight->bytes;
}

void weight_row(const struct weight *w, int64_t output, float *out)
{
    invariant(output >= 0 && output < w->outputs && !w->paired, "row %lld of %lld",
              (long long)output, (long long)w->outputs);
    const unsigned char *panel = weight_panel(w, output / PANEL);
    int64_t lane = output % PANEL;
    if (w->format == WEIGHT_W8) {
        const uint16_t *scales = w->scales + output / PANEL * w8_groups(w->cols) * PANEL + lane;
        for (int64_t k = 0; k < w->cols; k++)
            out[k] = (float)(panel[k / 4 * 4 * PANEL + lane * 4 + k % 4] - 128) *
                     bf16_to_float(scales[k / W8_GROUP * PANEL]);
        return;
    }
    for (int64_t k = 0; k < w->cols; k++) {
        int64_t at = k * PANEL + lane;
        out[k] = w->native == DT_F32   ? ((const float *)panel)[at]
                 : w->native == DT_F16 ? half_to_float(((const uint16_t *)panel)[at])
                                       : bf16_to_float(((const uint16_t *)panel)[at]);
    }
}
