#include "scheduler/taper_batch.h"
#include "scheduler/sequence.h"

#include "base/base.h"

static int32_t context_slots(const struct sequence *seq)
{
    return seq->stage->context ? seq->stage->context->slots : 0;
}

static int32_t blocks_missing(const struct sequence *seq)
{
    return block_table_missing(&seq->table, sequence_target(seq));
}

/* `again`: its siblings' context is read in this step already. */
static void add_decode(struct step_load *load, const struct sequence *seq,
                       enum shared_prefix shared, bool again)
{
    int32_t own = sequence_target(seq);
    load->decode_rows++;
    load->context_read += again && shared != SHARED_NONE ? own : own + context_slots(seq);
}

/* The rows in prefill share the chunk as plan.c lets them: in order, each one token at least. */
static struct step_load prefill_load(const struct taper_batch *batch, int32_t chunk)
{
    struct step_load load = {0};
    int32_t behind = batch->filling_count;
    for (int32_t i = 0; i < batch->filling_count; i++) {
        const struct sequence *seq = batch->filling[i];
        int32_t start = sequence_start(seq);
        int32_t count = min_i32(max_i32(1, chunk - --behind), sequence_target(seq) - start);
        load.prefill_tokens += count;
        load.prefill_attention += prefill_attention(count, context_slots(seq) + start + count);
        chunk -= count;
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
    return predictor->predict(predictor->self, &load);
}

double taper_now_us(const struct taper_batch *batch)
{
    return sum_us(batch, &batch->decode, &batch->prefill);
}

double taper_chunk_us(const struct taper_batch *batch, int32_t chunk)
{
    struct step_load prefill = prefill_load(batch, chunk);
    return sum_us(batch, &batch->decode, &prefill);
}

double taper_row_us(const struct taper_batch *batch, const struct sequence *seq)
{
    struct step_load decode = batch->decode, prefill = batch->prefill;
    if (sequence_is_decoding(seq)) {
        add_decode(&decode, seq, batch->ready->predictor.shared, true);
    } else { /* what it computes is taken from the chunk, save its one token */
        prefill.prefill_tokens++;
        prefill.prefill_attention += context_slots(seq) + sequence_start(seq);
    }
    return sum_us(batch, &decode, &prefill);
}

void taper_set_chunk(struct taper_batch *batch, int32_t chunk)
{
    batch->chunk = chunk;
    batch->prefill = prefill_load(batch, chunk);
}

int32_t taper_fit_chunk(const struct taper_batch *batch, int32_t least, double most_us)
{
    int32_t high = min_i32(batch->wanted, batch->ready->prefill_chunk), low = least;
    if (high <= low || taper_chunk_us(batch, high) <= most_us) return max_i32(high, low);
    while (high - low > 1) {
        int32_t middle = low + (high - low) / 2;
        if (taper_chunk_us(batch, middle) <= most_us)
            low = middle;
        else
            high = middle;
    }
    return low;
}

bool taper_has_room(const struct taper_batch *batch, const struct sequence *seq)
{
    int32_t missing = blocks_missing(seq);
    return missing == 0 || missing <= batch->left_blocks;
}

static void add_chosen(struct taper_batch *batch, struct sequence *seq, bool again)
{
    if (sequence_is_decoding(seq)) {
        add_decode(&batch->decode, seq, batch->ready->predictor.shared, again);
    } else {
        batch->filling[batch->filling_count++] = seq;
        batch->wanted += sequence_target(seq) - sequence_start(seq);
    }
    batch->left_blocks -= blocks_missing(seq);
    batch->left_rows--;
    batch->rows++;
}

void taper_choose(struct taper_batch *batch, struct sequence *seq)
{
    bool decodes = sequence_is_decoding(seq);
    seq->chosen_step = batch->ready->step;
    add_chosen(batch, seq, true);
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
    bool any = false;
    for (int32_t i = first; i < end && ready->chosen > 0; i++) {
        struct sequence *seq = ready->sequences[i];
        if (seq->chosen_step != ready->step) continue;
        add_chosen(batch, seq, any);
        any = true;
    }
    return any;
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
    for (; at < ready->count && ready->sequences[at]->request == request; at++)
        if (ready->sequences[at]->chosen_step != ready->step)
            line.heap[line.count++] = ready->sequences[at];
    *end = at;
    for (int32_t i = line.count / 2 - 1; i >= 0; i--)
        sink(&line, i);
    return line;
}

struct sequence *taper_line_pop(struct taper_line *line)
{
    if (line->count == 0) return NULL;
    struct sequence *top = line->heap[0];
    line->heap[0] = line->heap[--line->count];
    if (line->count > 0) sink(line, 0);
    return top;
}
