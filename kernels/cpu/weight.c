/* Packing weights into panels (cpu.h has the layout), and reading single rows back for embeddings.
 *
 * The pool's members take panels as they get free; each reads 16 rows from the source, which is
 * where the time goes (dequantising a file's blocks), and scatters them. Ready codes only change
 * places. */
#include "kernels/cpu/vsq4z_panel.h"

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

/* A member's, for one panel: rows as f32 (native: all 16, else one), one row as int8. */
struct pack_buffers {
    float *rows;
    int64_t stride;
    int8_t *values;
    uint16_t *scales;
};

/* Where lane `lane` of `panel` comes from: NULL beyond the matrix's end, else a part and in *row
 * its row. Without pairs, the parts' rows follow each other and a panel may cover the end of one
 * and the start of the next. */
static const struct weight_source *lane_source(const struct pack_job *job, int64_t panel, int lane,
                                               int64_t *row)
{
    const struct weight_spec *spec = job->spec;
    if (job->w->paired) {
        *row = panel / 2 * PANEL + lane;
        const struct weight_source *source = &spec->parts[panel % 2];
        return *row < source->rows ? source : NULL;
    }
    *row = panel * PANEL + lane;
    for (int part = 0; part < spec->part_count; part++) {
        if (*row < spec->parts[part].rows) return &spec->parts[part];
        *row -= spec->parts[part].rows;
    }
    return NULL;
}

/* The smallest bf16 that is no smaller than `value` (>= 0): a group's largest weight stays within
 * 127. */
static uint16_t bf16_above(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0xffff) >> 16);
}

/* A row to int8: a scale and values for each group of 64 inputs. */
static void quantize_w8(const struct pack_job *job, const float *row, int8_t *values,
                        uint16_t *scales)
{
    const struct cpu_kernels *kernels = job->cpu->kernels;
    int64_t cols = job->spec->cols;
    for (int64_t at = 0; at < cols; at += W8_GROUP) {
        int64_t count = cols - at < W8_GROUP ? cols - at : W8_GROUP;
        float limit = kernels->largest(row + at, count);
        uint16_t bits = limit < 1e-30f ? 0 : bf16_above(limit / 127.0f);
        float inverse = bits ? 1.0f / bf16_to_float(bits) : 0.0f;
        *scales++ = bits;
        kernels->quantize(row + at, count, inverse, values + at);
    }
}

static void pack_w8(const struct pack_job *job, int64_t panel, const struct pack_buffers *buffers)
{
    int64_t cols = job->spec->cols, quads = (cols + 3) / 4, groups = w8_groups(cols), row;
    unsigned char *out = job->w->data + (size_t)panel * job->w->panel_bytes;
    for (int lane = 0; lane < PANEL; lane++) {
        const struct weight_source *source = lane_source(job, panel, lane, &row);
        int8_t *values = buffers->values; /* zero behind the last column */
        uint16_t *scales = buffers->scales;
        if (!source) {
            memset(values, 0, (size_t)cols);
            memset(scales, 0, (size_t)groups * sizeof *scales);
        } else if (source->w8) {
            memcpy(values, source->w8->values + row * cols, (size_t)cols);
            memcpy(scales, source->w8->scales + row * groups, (size_t)groups * sizeof *scales);
        } else {
            source->read(source->context, row, 1, buffers->rows);
            quantize_w8(job, buffers->rows, values, scales);
        }
        for (int64_t group = 0; group < groups; group++)
            job->scales[(panel * groups + group) * PANEL + lane] = scales[group];
        for (int64_t k = 0; k < quads; k++) {
            uint32_t four;
            memcpy(&four, values + k * 4, 4);
            four ^= 0x80808080u; /* s8 to u8 = s8 + 128 */
            memcpy(out + k * 4 * PANEL + lane * 4, &four, 4);
        }
    }
}

/* 16 codes of one output, from two neighbours a byte to the panel's order. */
static void pack_vector(const uint8_t *from, unsigned char *to)
{
    for (int half = 0; half < 2; half++, from += 4, to += 4 * PANEL)
        for (int i = 0; i < 4; i++) {
            int shift = i % 2 * 4;
            to[i] =
                (unsigned char)((from[i / 2] >> shift & 15) | (from[2 + i / 2] >> shift & 15) << 4);
        }
}

static void pack_vsq4z(const struct pack_job *job, int64_t panel)
{
    struct vsq4z_panel to = vsq4z_panel(job->w, panel); /* zeroed pages */
    int64_t cols = job->spec->cols, vectors = vsq4z_vectors(cols), row;
    for (int lane = 0; lane < PANEL; lane++) {
        const struct weight_source *source = lane_source(job, panel, lane, &row);
        if (!source) continue;
        const struct vsq4z_matrix *from = source->vsq4z;
        const uint8_t *codes = from->codes + row * vsq4z_code_bytes(cols);
        to.row_scale[lane] = from->row_scale[row];
        for (int64_t v = 0; v < vectors; v++) {
            pack_vector(codes + v * 8, to.codes + v * 8 * PANEL + lane * 4);
            to.scales[v / 2 * PANEL + lane] |=
                (unsigned char)(vsq4z_scale(from, row, v) << v % 2 * 4);
            to.zeros[v] |= (uint16_t)((vsq4z_zero(from, row, v) - 7) << lane);
        }
    }
}

static void pack_native(const struct pack_job *job, int64_t panel,
                        const struct pack_buffers *buffers)
{
    unsigned char *out = job->w->data + (size_t)panel * job->w->panel_bytes;
    int64_t cols = job->spec->cols, row;
    for (int lane = 0; lane < PANEL; lane++) {
        const struct weight_source *source = lane_source(job, panel, lane, &row);
        float *values = buffers->rows + lane * buffers->stride;
        if (source)
            source->read(source->context, row, 1, values);
        else
            memset(values, 0, (size_t)cols * sizeof *values);
    }
    for (int64_t k = 0; k < cols; k++)
        for (int lane = 0; lane < PANEL; lane++) {
            float value = buffers->rows[lane * buffers->stride + k];
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
    int64_t cols = job->spec->cols;
    struct pack_buffers buffers = {.stride = round_up(cols, 16)};
    buffers.rows = must_alloc((size_t)(PANEL * buffers.stride) * sizeof *buffers.rows);
    buffers.values = must_alloc((size_t)buffers.stride);
    buffers.scales = must_alloc((size_t)w8_groups(cols) * sizeof *buffers.scales);
    for (int64_t panel = begin; panel < end; panel++) {
        switch (job->w->format) {
        case WEIGHT_NATIVE:
            pack_native(job, panel, &buffers);
            break;
        case WEIGHT_W8:
            pack_w8(job, panel, &buffers);
            break;
        case WEIGHT_VSQ4Z:
            pack_vsq4z(job, panel);
            break;
        }
    }
    free(buffers.scales);
    free(buffers.values);
    free(buffers.rows);
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
    /* int32 sums hold that many inputs: a W8 group's always do, the rest is addresses. */
    int64_t limit = spec->format == WEIGHT_VSQ4Z ? VSQ4Z_MAX_COLS : INT32_MAX / 64;
    if (spec->cols <= 0 || spec->cols > limit || rows > INT32_MAX)
        return fail(err, ST_UNSUPPORTED,
                    "a matrix of %lld outputs by %lld inputs; inputs are 1 to %lld here",
                    (long long)rows, (long long)spec->cols, (long long)limit);
    *outputs = spec->paired ? (int64_t)rows / 2 : (int64_t)rows;
    return ST_OK;
}

/* Ready codes must be of the shape that the spec says. */
static void check_codes(const struct weight_spec *spec)
{
    for (int i = 0; i < spec->part_count; i++) {
        const struct weight_source *part = &spec->parts[i];
        const struct vsq4z_matrix *vsq4z = part->vsq4z;
        invariant(spec->format != WEIGHT_VSQ4Z ||
                      (vsq4z && vsq4z->rows == part->rows && vsq4z->cols == spec->cols),
                  "part %d of a VSQ4z matrix has other codes", i);
        invariant(spec->format != WEIGHT_W8 || !part->w8 ||
                      (part->w8->rows == part->rows && part->w8->cols == spec->cols),
                  "part %d of a W8 matrix has other codes", i);
    }
}

static size_t panel_bytes(const struct weight *w)
{
    switch (w->format) {
    case WEIGHT_NATIVE:
        return (size_t)w->cols * PANEL * native_bytes(w->native);
    case WEIGHT_W8:
        return (size_t)(w->cols + 3) / 4 * 4 * PANEL;
    case WEIGHT_VSQ4Z:
        return vsq4z_panel_bytes(w->cols);
    }
    die("a weight of format %d", (int)w->format);
}

enum status cpu_weight_create(struct backend *backend, const struct weight_spec *spec,
                              struct weight **out, struct error *err)
{
    struct cpu_backend *cpu = cpu_of(backend);
    struct weight *w = must_alloc(sizeof *w);
    enum status status = check_spec(spec, &w->outputs, err);
    if (status) goto refuse;
    check_codes(spec);
    w->format = spec->format;
    w->native = spec->native;
    w->paired = spec->paired;
    w->cols = spec->cols;
    w->panels = (w->outputs + PANEL - 1) / PANEL * (w->paired ? 2 : 1);
    w->panel_bytes = panel_bytes(w);
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
    if (w->format == WEIGHT_VSQ4Z) {
        struct vsq4z_panel packed = vsq4z_panel(w, output / PANEL);
        for (int64_t k = 0; k < w->cols; k++)
            out[k] = (float)vsq4z_panel_level(&packed, k, lane) * packed.row_scale[lane];
        return;
    }
    for (int64_t k = 0; k < w->cols; k++) {
        int64_t at = k * PANEL + lane;
        out[k] = w->native == DT_F32   ? ((const float *)panel)[at]
                 : w->native == DT_F16 ? half_to_float(((const uint16_t *)panel)[at])
                                       : bf16_to_float(((const uint16_t *)panel)[at]);
    }
}
