#include "scheduler/taper_batch.h"
#include "scheduler/sequence.h"

#include "base/base.h"

static int32_t context_slots(const struct sequence *seq)
{
    return seq->stage->context ? seq->stage->context->slots : 0;
}

/* When the policy is asked again, decode rows are planned already, and the sequence stands behind
 * its own. */
static bool has_row(const struct ready *ready, const struct sequence *seq)
{
    return seq->row_step == ready->step;
}

static bool decodes(const struct ready *ready, const struct sequence *seq)
{
    return sequence_is_decoding(seq) || has_row(ready, seq);
}

static int32_t blocks_missing(const struct sequence *seq)
{
    int32_t slots = sequence_target(seq);
    return slots <= seq->table.count * KV_BLOCK_SLOTS ? 0 : block_table_missing(&seq->table, slots);
}

/* `again`: its siblings' context is read in this step already. */
static void add_decode(struct step_load *load, const struct ready *ready,
                       const struct sequence *seq, bool again)
{
    int32_t own = sequence_target(seq) - has_row(ready, seq);
    bool shares = again && ready->predictor.shared != SHARED_NONE;
    load->decode_rows++;
    load->context_read += shares ? own : own + context_slots(seq);
}

static int32_t tokens_left(const struct sequence *seq)
{
    return sequence_target(seq) - sequence_start(seq);
}

/* Its row in prefill has so many tokens in place of one. */
static void lengthen(struct step_load *load, const struct sequence *seq, int32_t count)
{
    int32_t before = context_slots(seq) + sequence_start(seq);
    load->prefill_tokens += count - 1;
    load->prefill_attention +=
        prefill_attention(count, before + count) - prefill_attention(1, before + 1);
}

/* The rows in prefill share the chunk as plan.c lets them: each has one token, and what is left
 * goes to them in their order. */
static struct step_load prefill_load(const struct taper_batch *batch, int32_t chunk)
{
    struct step_load load = batch->least;
    int32_t left = chunk - batch->filling_count;
    for (int32_t i = 0; i < batch->filling_count && left > 0; i++) {
        int32_t count = min_i32(1 + left, tokens_left(batch->filling[i]));
        lengthen(&load, batch->filling[i], count);
        left -= count - 1;
    }
    return load;
}

static double sum_us(const struct taper_batch *batch, const struct step_load *decode,
                     const struct step_load *prefill)
{
    const struct step_predictor *predictor = &batch->ready->predictor;
    struct step_load load = *decode;
    load.prefill_tokens = prefill->prefill_tokens;
    load.prefill_attention = prefill->prefill_attention;
    return batch->ready->fit.bias * predictor->predict(predictor->self, &load);
}

double taper_now_us(const struct taper_batch *batch)
{
    return sum_us(batch, &batch->decode, &batch->prefill);
}

double taper_row_us(const struct taper_batch *batch, const struct taper_line *line,
                    const struct sequence *seq)
{
    struct step_load decode = batch->decode, prefill = batch->prefill;
    if (sequence_is_decoding(seq)) {
        add_decode(&decode, batch->ready, seq, line->read);
    } else { /* what it computes is taken from the chunk, save its one token */
        prefill.prefill_tokens++;
        prefill.prefill_attention +=
            prefill_attention(1, context_slots(seq) + sequence_start(seq) + 1);
    }
    return sum_us(batch, &decode, &prefill);
}

void taper_set_chunk(struct taper_batch *batch, int32_t chunk)
{
    batch->chunk = min_i32(chunk, batch->wanted); /* who comes later finds none of it */
    batch->prefill = prefill_load(batch, batch->chunk);
}

/* The most tokens, 1 to `wanted`, of a row in prefill for the step to take most_us at most. */
static int32_t fit_row(const struct taper_batch *batch, const struct step_load *prefill,
                       const struct sequence *seq, int32_t wanted, double most_us)
{
    int32_t fits = 1;
    for (int32_t try = wanted, too_many = wanted + 1; too_many - fits > 1;
         try = fits + (too_many - fits) / 2) {
        struct step_load load = *prefill;
        lengthen(&load, seq, try);
        if (sum_us(batch, &batch->decode, &load) <= most_us)
            fits = try;
        else
            too_many = try;
    }
    return fits;
}

int32_t taper_fit_chunk(const struct taper_batch *batch, int32_t least, double most_us)
{
    int32_t most = min_i32(batch->wanted, batch->ready->prefill_chunk);
    int32_t chunk = batch->filling_count;
    struct step_load prefill = batch->least;
    for (int32_t i = 0; i < batch->filling_count && chunk < most; i++) {
        const struct sequence *seq = batch->filling[i];
        int32_t wanted = min_i32(1 + most - chunk, tokens_left(seq));
        int32_t count = fit_row(batch, &prefill, seq, wanted, most_us);
        lengthen(&prefill, seq, count);
        chunk += count - 1;
        if (count < wanted) break;
    }
    return max_i32(chunk, least);
}

bool taper_has_room(const struct taper_batch *batch, const struct sequence *seq)
{
    int32_t missing = blocks_missing(seq);
    return missing == 0 || missing <= batch->left_blocks;
}

static void add_chosen(struct taper_batch *batch, struct sequence *seq, bool again)
{
    if (decodes(batch->ready, seq)) {
        add_decode(&batch->decode, batch->ready, seq, again);
    } else {
        batch->filling[batch->filling_count++] = seq;
        batch->wanted += tokens_left(seq);
        batch->least.prefill_tokens++;
        batch->least.prefill_attention +=
            prefill_attention(1, context_slots(seq) + sequence_start(seq) + 1);
    }
    if (!has_row(batch->ready, seq)) batch->left_blocks -= blocks_missing(seq);
    batch->left_rows--;
    batch->rows++;
}

void taper_choose(struct taper_batch *batch, struct taper_line *line, struct sequence *seq)
{
    bool decodes = sequence_is_decoding(seq);
    seq->chosen_step = batch->ready->step;
    add_chosen(batch, seq, line->read);
    line->read = line->read || decodes;
    if (!decodes) taper_set_chunk(batch, batch->chunk);
}

/* --- the baseline */

/* Of the request whose sequences begin at `first`: the one that had no row for longest. */
static struct sequence *base_of(const struct ready *ready, int32_t first, int32_t *end)
{
    const struct request *request = ready->sequences[first]->request;
    struct sequence *found = ready->sequences[first];
    int32_t at = first + 1;
    for (; at < ready->count && ready->sequences[at]->request == request; at++)
        if (sequence_waits_longer(ready->sequences[at], found)) found = ready->sequences[at];
    *end = at;
    return found;
}

/* Of a request's sequences, those chosen before, when the policy is asked again. */
static bool add_earlier(struct taper_batch *batch, int32_t first, int32_t end)
{
    const struct ready *ready = batch->ready;
    bool any = false, read = false;
    for (int32_t i = first; i < end && ready->chosen > 0; i++) {
        struct sequence *seq = ready->sequences[i];
        if (seq->chosen_step != ready->step) continue;
        add_chosen(batch, seq, read);
        read = read || decodes(ready, seq);
        any = true;
    }
    return any;
}

/* Those that are late behind the others, as they fill the chunk. */
static void order_filling(struct taper_batch *batch)
{
    struct sequence **late = batch->ready->scratch;
    int32_t kept = 0, count = 0;
    for (int32_t i = 0; i < batch->filling_count; i++) {
        struct sequence *seq = batch->filling[i];
        if (request_is_late(seq->request, batch->ready->start_us))
            late[count++] = seq;
        else
            batch->filling[kept++] = seq;
    }
    for (int32_t i = 0; i < count; i++)
        batch->filling[kept + i] = late[i];
}

void taper_begin(struct taper_batch *batch, const struct ready *ready)
{
    *batch = (struct taper_batch){.ready = ready,
                                  .filling = ready->scratch + ready->count,
                                  .left_rows = ready->max_rows,
                                  .left_blocks = ready->free_blocks};
    for (int32_t first = 0, end; first < ready->count; first = end) {
        struct sequence *seq = base_of(ready, first, &end);
        if (add_earlier(batch, first, end)) continue;
        seq->chosen_step = ready->step;
        add_chosen(batch, seq, false);
    }
    if (ready->late_last) order_filling(batch);
    taper_set_chunk(batch, 0);
}

/* --- one request's line: a binary heap, so that taking k of n costs n + k log n */

static void sink(struct taper_line *line, int32_t at)
{
    struct sequence **heap = line->heap, *seq = heap[at];
    for (;;) {
        int32_t child = 2 * at + 1;
        if (child >= line->count) break;
        if (child + 1 < line->count && sequence_waits_longer(heap[child + 1], heap[child])) child++;
        if (!sequence_waits_longer(heap[child], seq)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = seq;
}

struct taper_line taper_line_of(const struct ready *ready, int32_t first, int32_t *end)
{
    const struct request *request = ready->sequences[first]->request;
    struct taper_line line = {.heap = ready->scratch + first};
    int32_t at = first;
    for (; at < ready->count && ready->sequences[at]->request == request; at++) {
        struct sequence *seq = ready->sequences[at];
        if (seq->chosen_step != ready->step)
            line.heap[line.count++] = seq;
        else
            line.read = line.read || decodes(ready, seq);
    }
    *end = at;
    return line;
}

bool taper_choose_line(struct taper_batch *batch, const struct taper_line *line, double most_us)
{
    struct step_load decode = batch->decode;
    int32_t missing = 0;
    if (line->count > batch->left_rows) return false;
    for (int32_t i = 0; i < line->count; i++) {
        const struct sequence *seq = line->heap[i];
        if (!sequence_is_decoding(seq)) return false;
        missing += blocks_missing(seq);
        add_decode(&decode, batch->ready, seq, line->read || i > 0);
    }
    if (missing > 0 && missing > batch->left_blocks) return false;
    if (!(sum_us(batch, &decode, &batch->prefill) <= most_us)) return false;
    for (int32_t i = 0; i < line->count; i++)
        line->heap[i]->chosen_step = batch->ready->step;
    batch->decode = decode;
    batch->left_blocks -= missing;
    batch->left_rows -= line->count;
    batch->rows += line->count;
    return true;
}

void taper_line_order(struct taper_line *line)
{
    for (int32_t i = line->count / 2 - 1; i >= 0; i--)
        sink(line, i);
}

struct sequence *taper_line_pop(struct taper_line *line)
{
    if (line->count == 0) return NULL;
    struct sequence *top = line->heap[0];
    line->heap[0] = line->heap[--line->count];
    if (line->count > 0) sink(line, 0);
    return top;
}
