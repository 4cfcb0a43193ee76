/* kv_copy: a fork's partial block. Every element of the pool is looked at, by its place in the
 * layout that cpu.h names: K [head_dim][slot], V [slot][v_stride]. */
#include "tests/kernels/support_rig.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 2, HEADS = 3, BLOCKS = 4, FROM = 2, TO = 1 };

/* Whether the element at `at` of a head's K and V is of one of the first `slots` slots. */
static bool in_first_slots(const struct kv_pool *pool, size_t at, int32_t slots)
{
    size_t k = (size_t)pool->head_dim * BLOCK_SLOTS;
    size_t slot = at < k ? at % BLOCK_SLOTS : (at - k) / (size_t)pool->v_stride;
    return slot < (size_t)slots;
}

static void check_copy(struct rig *rig, struct rng *rng, enum dtype type, int32_t head_dim,
                       int32_t slots)
{
    const struct backend_ops *ops = rig->backend->ops;
    struct kv_pool *pool = ops->kv_create(rig->backend, type, LAYERS, HEADS, head_dim, BLOCKS);
    cr_assert(pool);
    for (size_t i = 0; i < pool->bytes; i++)
        pool->data[i] = (char)rng_below(rng, 256);
    char *before = must_alloc(pool->bytes);
    memcpy(before, pool->data, pool->bytes);
    size_t element = type == DT_F32 ? 4 : 2, elements = pool->head_bytes / element;

    ops->kv_copy(rig->backend, pool, FROM, TO, slots);

    for (int32_t layer = 0; layer < LAYERS; layer++)
        for (int32_t block = 0; block < BLOCKS; block++)
            for (int32_t head = 0; head < HEADS; head++)
                for (size_t i = 0; i < elements; i++) {
                    bool copied = block == TO && in_first_slots(pool, i, slots);
                    const char *source = kv_head(pool, layer, copied ? FROM : block, head);
                    const char *expected = before + (source - pool->data) + i * element;
                    const char *found = kv_head(pool, layer, block, head) + i * element;
                    cr_assert(memcmp(found, expected, element) == 0,
                              "%s, head_dim %d, %d slots: layer %d block %d head %d element %zu",
                              dtype_name(type), head_dim, slots, layer, block, head, i);
                }
    free(before);
    ops->kv_free(rig->backend, pool);
}

Test(kv_copy, copies_the_first_slots_and_nothing_else)
{
    struct rig rig = rig_open(CPU_PORTABLE, 1);
    struct rng rng = {5};
    const int32_t dims[] = {2, 24, 64}, slots[] = {1, 2, 7, 15};
    for (size_t d = 0; d < COUNT_OF(dims); d++)
        for (size_t s = 0; s < COUNT_OF(slots); s++) {
            check_copy(&rig, &rng, DT_F32, dims[d], slots[s]);
            check_copy(&rig, &rng, DT_BF16, dims[d], slots[s]);
        }
    rig_close(&rig);
}
