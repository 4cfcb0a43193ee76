#include "scheduler/step_load.h"

#include "base/base.h"

#include <stdlib.h>
#include <string.h>

/* A context that several rows begin their views with: the rows of one stage point at the same
 * blocks of the same tables, and no other rows do. */
struct seen {
    const int32_t *blocks; /* of the first span */
    uint64_t step;         /* of which it was seen; older ones are free places */
};

struct load_meter {
    enum shared_prefix shared;
    uint64_t step;
    struct seen *seen; /* [mask + 1] SHARED_SIBLINGS: open addressing, at most half full */
    size_t mask;
    uint64_t *read_in; /* [block_count] SHARED_BLOCKS: the step that read the block last */
};

struct load_meter *load_meter_create(enum shared_prefix shared, int32_t max_rows,
                                     int32_t block_count)
{
    struct load_meter *meter = try_alloc(1, sizeof *meter);
    if (!meter) return NULL;
    size_t places = 16;
    while (places < 2 * (size_t)max_rows)
        places *= 2;
    meter->shared = shared;
    meter->mask = places - 1;
    if (shared == SHARED_SIBLINGS) meter->seen = try_alloc(places, sizeof *meter->seen);
    if (shared == SHARED_BLOCKS)
        meter->read_in = try_alloc((size_t)block_count, sizeof *meter->read_in);
    if (shared == SHARED_NONE || meter->seen || meter->read_in) return meter;
    free(meter);
    return NULL;
}

void load_meter_free(struct load_meter *meter)
{
    if (!meter) return;
    free(meter->seen);
    free(meter->read_in);
    free(meter);
}

/* Whether an earlier row of the step began with this context. */
static bool seen_before(struct load_meter *meter, const int32_t *blocks)
{
    size_t at = (size_t)mix64((uint64_t)(uintptr_t)blocks) & meter->mask;
    while (meter->seen[at].step == meter->step) {
        if (meter->seen[at].blocks == blocks) return true;
        at = (at + 1) & meter->mask;
    }
    meter->seen[at] = (struct seen){blocks, meter->step};
    return false;
}

/* All spans but the last, which is the row's own, are those of its siblings too. */
static int32_t read_by_siblings(struct load_meter *meter, const struct kv_view *view,
                                const int32_t **last)
{
    if (view->span_count < 2) return view->length;
    const int32_t *blocks = view->spans[0].blocks;
    bool again = blocks == *last || seen_before(meter, blocks);
    *last = blocks;
    return again ? view->spans[view->span_count - 1].length : view->length;
}

static int64_t read_by_blocks(struct load_meter *meter, const struct kv_view *view)
{
    int64_t slots = 0;
    for (int32_t i = 0; i < view->span_count; i++) {
        const struct kv_span *span = &view->spans[i];
        int32_t slot = span->first_slot, left = span->length;
        for (const int32_t *block = span->blocks; left > 0; block++, slot = 0) {
            int32_t here = min_i32(KV_BLOCK_SLOTS - slot, left);
            left -= here;
            if (meter->read_in[*block] != meter->step) slots += here;
            meter->read_in[*block] = meter->step;
        }
    }
    return slots;
}

struct step_load load_meter_measure(struct load_meter *meter, const struct plan_row *rows,
                                    int32_t count)
{
    struct step_load load = {0};
    const int32_t *last = NULL;
    meter->step++;
    for (int32_t i = 0; i < count; i++) {
        const struct plan_row *row = &rows[i];
        if (!row_decodes(row)) {
            load.prefill_tokens += row->count;
            load.prefill_attention += prefill_attention(row->count, row->view.length);
            continue;
        }
        load.decode_rows++;
        switch (meter->shared) {
        case SHARED_NONE:
            load.context_read += row->view.length;
            break;
        case SHARED_SIBLINGS:
            load.context_read += read_by_siblings(meter, &row->view, &last);
            break;
        case SHARED_BLOCKS:
            load.context_read += read_by_blocks(meter, &row->view);
            break;
        }
    }
    return load;
}
