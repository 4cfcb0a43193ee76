/* One chunk of attention (attention_plan.h has the definition): scores, softmax, weighted sum of V.
 *
 *   scores   for each block: Q queries by 16 slots of accumulators, d ascending. A K register holds
 * one dimension of 16 slots and serves all Q queries. softmax  for each query over its own slots of
 * the chunk. values   Q queries by D registers of accumulators, slots ascending. Queries of a tile
 * share the slots that all of them see; what only some see follows query by query, in the same
 * order.
 *
 * bf16 is split into even and odd places, which says where a sum lies and not what it is: it is put
 * in order when it is stored. In L2 a decode unit of SmolLM2 (3 queries, 128 slots) takes 560 ns
 * where its 3,072 products of 16 lanes take 360; from memory its bytes are the floor.
 *
 * Slots that a query does not see are never touched with arithmetic that could carry them over: K
 * of such a slot only reaches its own lane, which is masked by position, and V is not read. */

/* So few queries take SCORE_MOST_ITEMS items at once: a tile of fewer than eight sums waits for the
 * sums, each product for the one before it. */
#define SCORE_FEW 4

/* Blocks that are fetched ahead of the products: 128 lines. Zen 5 has about 124 fetches under way
 * and drops what comes on top of them; 2, 3, 6, 8 and 12 blocks were slower, fetching K and V in
 * the order of addresses and into L2 as well. */
#define FETCH_ITEMS 4

INLINE const void *ISA(item_k)(const struct attend_args *a, const struct plan_item *item)
{
    return a->kv + (size_t)item->block * a->block_bytes;
}

/* Scores are kept by context slot, so that the order of every later sum knows nothing of blocks. A
 * whole register may be written where the item starts its block (the lanes behind it are written
 * again by the next item, or lie beyond every limit); else only its own lanes. */
INLINE void ISA(store_scores)(float *scores, const struct plan_item *item, const vf sum[VN])
{
    if (item->first == 0) {
        for (int j = 0; j < VN; j++)
            vf_store(scores + item->offset + j * VL, sum[j]);
        return;
    }
    float lanes[BLOCK_SLOTS];
    for (int j = 0; j < VN; j++)
        vf_store(lanes + j * VL, sum[j]);
    for (int i = 0; i < item->count; i++)
        scores[item->offset + i] = lanes[item->first + i];
}

INLINE const char *ISA(item_v)(const struct attend_args *a, const struct plan_item *item)
{
    return (const char *)ISA(item_k)(a, item) + a->v_offset;
}

/* The K or V that is fetched while the scores of item i are computed: in the order in which they
 * are read, FETCH_ITEMS ahead; the item's own when there is nothing more. */
INLINE const char *ISA(behind_scores)(const struct attend_args *a, int32_t i)
{
    int32_t next = i + FETCH_ITEMS;
    if (next < a->item_count) return ISA(item_k)(a, &a->items[next]);
    next -= a->item_count;
    return next < a->item_count ? ISA(item_v)(a, &a->items[next]) : ISA(item_k)(a, &a->items[i]);
}

/* The same while the values of item i are added: behind the chunk's V comes the next chunk's K, or
 * the next unit's. */
INLINE const char *ISA(behind_values)(const struct attend_args *a, int32_t i)
{
    int32_t next = i + FETCH_ITEMS;
    if (next < a->item_count) return ISA(item_v)(a, &a->items[next]);
    next -= a->item_count;
    if (next < a->items_behind) return ISA(item_k)(a, &a->items[a->item_count + next]);
    if (a->items_behind == 0 && next < a->next_count)
        return a->next_kv + (size_t)a->next_items[next].block * a->block_bytes;
    return ISA(item_v)(a, &a->items[i]);
}

/* Whether the columns of N items are loaded as pairs of registers (vf_split_pair). */
#define SCORE_PAIRS(type, N) ((type) == DT_BF16 && (N)*VN % 2 == 0)

/* Dimension d of N items, for all the tile's queries. */
INLINE void ISA(load_columns)(enum dtype type, const char *const k[], int32_t d, vf column[],
                              const int N)
{
    const int32_t at = d * BLOCK_SLOTS;
    if (SCORE_PAIRS(type, N)) {
        UNROLL for (int c = 0; c < N * VN; c += 2)
        {
            const uint16_t *low = (const uint16_t *)k[c / VN] + at + c % VN * VL;
            const uint16_t *high = (const uint16_t *)k[(c + 1) / VN] + at + (c + 1) % VN * VL;
            vf_split_pair(vu_load_pair(low, high), column + c);
        }
        return;
    }
    UNROLL for (int c = 0; c < N * VN; c++) column[c] =
        vf_load_as(type, k[c / VN], at + c % VN * VL);
}

/* Scores of Q queries and the N items from item i on. The first queries fetch the K that comes. */
INLINE void ISA(score_tile)(const struct attend_args *a, int32_t i, int query, enum dtype type,
                            const int Q, const int N)
{
    const int32_t row_bytes = BLOCK_SLOTS * (type == DT_F32 ? 4 : 2);
    const char *k[SCORE_MOST_ITEMS], *ahead[SCORE_MOST_ITEMS];
    const float *q = a->q + (int64_t)query * QUERY_STRIDE;
    vf sum[SCORE_QUERIES][SCORE_MOST_ITEMS * VN] = {};
    UNROLL for (int n = 0; n < N; n++)
    {
        k[n] = ISA(item_k)(a, &a->items[i + n]);
        ahead[n] = query ? k[n] : ISA(behind_scores)(a, i + n);
    }
    for (int32_t even = 0; even < a->head_dim; even += 2) {
        UNROLL for (int n = 0; n < N; n++)
            UNROLL for (int b = 0; b < 2 * row_bytes; b += CACHE_LINE)
                __builtin_prefetch(ahead[n] + even * row_bytes + b);
        UNROLL for (int d = even; d < even + 2; d++)
        {
            vf column[SCORE_MOST_ITEMS * VN];
            ISA(load_columns)(type, k, d, column, N);
            UNROLL for (int r = 0; r < Q; r++)
            {
                vf weight = vf_set(q[r * QUERY_STRIDE + d]);
                UNROLL for (int c = 0; c < N * VN; c++) sum[r][c] =
                    vf_fma(weight, column[c], sum[r][c]);
            }
        }
    }
    UNROLL for (int r = 0; r < Q; r++)
    {
        if (SCORE_PAIRS(type, N))
            UNROLL for (int c = 0; c < N * VN; c += 2) vf_order_pair(&sum[r][c]);
        UNROLL for (int n = 0; n < N; n++) ISA(store_scores)(a->scores + (query + r) * SCORE_STRIDE,
                                                             &a->items[i + n], &sum[r][n * VN]);
    }
}

/* N items against all queries from `query` on. */
INLINE void ISA(score_items)(const struct attend_args *a, int32_t i, int query, enum dtype type,
                             const int N)
{
    while (query < a->queries) {
        int left = a->queries - query;
#define TRY(Q)                                               \
    if (left >= Q && (N <= SCORE_ITEMS || Q <= SCORE_FEW)) { \
        ISA(score_tile)(a, i, query, type, Q, N);            \
        query += Q;                                          \
        continue;                                            \
    }
        SCORE_TILES(TRY)
#undef TRY
    }
}

/* Several items at once, so that a query is loaded for each of them once. */
INLINE void ISA(scores)(const struct attend_args *a, enum dtype type)
{
    int query = 0;
    for (int32_t i = 0; i < a->item_count;) {
        while (query < a->queries && a->limit[query] <= a->items[i].offset)
            query++; /* limits ascend: the first queries may end before this item */
        int32_t items = a->item_count - i;
        if (SCORE_MOST_ITEMS > SCORE_ITEMS && items >= SCORE_MOST_ITEMS &&
            a->queries - query <= SCORE_FEW) {
            ISA(score_items)(a, i, query, type, SCORE_MOST_ITEMS);
            i += SCORE_MOST_ITEMS;
        } else if (SCORE_ITEMS > 1 && items >= SCORE_ITEMS) {
            ISA(score_items)(a, i, query, type, SCORE_ITEMS);
            i += SCORE_ITEMS;
        } else {
            ISA(score_items)(a, i, query, type, 1);
            i++;
        }
    }
}

/* scores -> exp(score - top) in place for N times 16 slots, added to their lanes' sums in order. */
INLINE void ISA(exponentials)(float *scores, vf top, vf sums[VN], const int N)
{
    vf p[EXP_REGISTERS];
    UNROLL for (int i = 0; i < N * VN; i++) p[i] = vf_load(scores + i * VL) - top;
    vf_exp_down(p, N * VN);
    UNROLL for (int i = 0; i < N * VN; i++)
    {
        vf_store(scores + i * VL, p[i]);
        sums[i % VN] += p[i];
    }
}

/* scores -> exp(score - m) in place; m and l of one query that sees `limit` slots. */
static void ISA(softmax)(float *scores, int32_t limit, float *m, float *l)
{
    vf largest[VN], sums[VN] = {};
    int32_t whole = limit / 16 * 16;
    for (int j = 0; j < VN; j++)
        largest[j] = vf_set(-__builtin_inff());
    for (int32_t i = 0; i < whole; i += 16)
        for (int j = 0; j < VN; j++)
            largest[j] = vf_max(vf_load(scores + i + j * VL), largest[j]);
    for (int j = 0; j < VN && whole < limit; j++) {
        vf s = vf_load(scores + whole + j * VL);
        s = vf_select(vi_lanes_below(limit - whole, j), s, vf_set(-__builtin_inff()));
        vf_store(scores + whole + j * VL, s);
        largest[j] = vf_max(s, largest[j]);
    }
    *m = lanes_max(largest);
    vf top = vf_set(*m);
    const int together = EXP_REGISTERS / VN;
    int32_t i = 0;
    for (; i + 16 * together <= limit; i += 16 * together)
        ISA(exponentials)(scores + i, top, sums, together);
    for (; i < limit; i += 16)
        ISA(exponentials)(scores + i, top, sums, 1);
    *l = lanes_sum(sums);
}

/* D registers of a row of V. */
INLINE void ISA(load_row)(enum dtype type, const char *v, int64_t at, vf row[], const int D)
{
    if (type == DT_BF16 && D % 2 == 0) {
        UNROLL for (int j = 0; j < D; j += 2)
        {
            vu both;
            __builtin_memcpy(&both, (const uint16_t *)v + at + j * VL, sizeof both);
            vf_split_pair(both, row + j);
        }
        return;
    }
    UNROLL for (int j = 0; j < D; j++) row[j] = vf_load_as(type, v, at + j * VL);
}

/* o[Q][D registers from column] += p * V over the context slots [from, to) of the chunk. The first
 * queries fetch the V that comes: with K, in the scores, it was more than memory gives meanwhile.
 */
INLINE void ISA(value_tile)(const struct attend_args *a, int query, int32_t column, int32_t from,
                            int32_t to, enum dtype type, const int Q, const int D)
{
    float *o = a->o + (int64_t)query * a->v_stride + column;
    const float *p = a->scores + (int64_t)query * SCORE_STRIDE;
    const int32_t width = type == DT_F32 ? 4 : 2;
    const bool pairs = type == DT_BF16 && D % 2 == 0;
    vf sum[VALUE_QUERIES][VALUE_REGISTERS];
    UNROLL for (int i = 0; i < Q; i++) UNROLL for (int j = 0; j < D; j++) sum[i][j] =
        from ? vf_load(o + i * a->v_stride + j * VL) : (vf){};
    if (pairs && from)
        UNROLL for (int i = 0; i < Q; i++) UNROLL for (int j = 0; j < D; j += 2)
            vf_unorder_pair(&sum[i][j]);
    for (int32_t n = 0; n < a->item_count; n++) {
        const struct plan_item *item = &a->items[n];
        int32_t begin = max_i32(from, item->offset), end = min_i32(to, item->offset + item->count);
        if (begin >= end) continue;
        const char *v = ISA(item_v)(a, item);
        const char *ahead = query ? v : ISA(behind_values)(a, n);
        int64_t at = (int64_t)(item->first + begin - item->offset) * a->v_stride + column;
        for (int32_t slot = begin; slot < end; slot++, at += a->v_stride) {
            vf row[VALUE_REGISTERS];
            UNROLL for (int32_t b = 0; b < D * VL * width; b += CACHE_LINE)
                __builtin_prefetch(ahead + at * width + b);
            ISA(load_row)(type, v, at, row, D);
            UNROLL for (int i = 0; i < Q; i++)
            {
                vf weight = vf_set(p[i * SCORE_STRIDE + slot]);
                UNROLL for (int j = 0; j < D; j++) sum[i][j] = vf_fma(weight, row[j], sum[i][j]);
            }
        }
    }
    UNROLL for (int i = 0; i < Q; i++)
    {
        if (pairs) UNROLL for (int j = 0; j < D; j += 2) vf_order_pair(&sum[i][j]);
        UNROLL for (int j = 0; j < D; j++) vf_store(o + i * a->v_stride + j * VL, sum[i][j]);
    }
}

/* All columns of Q queries. */
INLINE void ISA(value_columns)(const struct attend_args *a, int query, int32_t from, int32_t to,
                               enum dtype type, const int Q)
{
    int32_t column = 0;
    while (column < a->v_stride) {
        int32_t left = (a->v_stride - column) / VL;
#define TRY(D)                                                   \
    if (left >= D) {                                             \
        ISA(value_tile)(a, query, column, from, to, type, Q, D); \
        column += D * VL;                                        \
        continue;                                                \
    }
        TRY(4) TRY(2) TRY(1)
#undef TRY
    }
}

INLINE void ISA(value_queries)(const struct attend_args *a, int query, enum dtype type, const int Q)
{
    int32_t common = a->limit[query]; /* limits ascend */
    ISA(value_columns)(a, query, 0, common, type, Q);
    for (int i = 1; i < Q; i++)
        if (a->limit[query + i] > common)
            ISA(value_columns)(a, query + i, common, a->limit[query + i], type, 1);
}

INLINE void ISA(values)(const struct attend_args *a, enum dtype type)
{
    int query = 0;
    while (query < a->queries) {
        int left = a->queries - query;
#define TRY(Q)                                 \
    if (left >= Q) {                           \
        ISA(value_queries)(a, query, type, Q); \
        query += Q;                            \
        continue;                              \
    }
        VALUE_TILES(TRY)
#undef TRY
    }
}

/* Functions of their own: in one that holds all tiles of both types GCC 12 puts sums in memory. */
#define TILES_OF(type, TYPE)                                                              \
    static __attribute__((noinline)) void ISA(scores_##type)(const struct attend_args *a) \
    {                                                                                     \
        ISA(scores)(a, TYPE);                                                             \
    }                                                                                     \
    static __attribute__((noinline)) void ISA(values_##type)(const struct attend_args *a) \
    {                                                                                     \
        ISA(values)(a, TYPE);                                                             \
    }
TILES_OF(f32, DT_F32)
TILES_OF(bf16, DT_BF16)
#undef TILES_OF

static void ISA(attend)(const struct attend_args *a)
{
    a->type == DT_BF16 ? ISA(scores_bf16)(a) : ISA(scores_f32)(a);
    for (int32_t i = 0; i < a->queries; i++)
        ISA(softmax)(a->scores + (int64_t)i * SCORE_STRIDE, a->limit[i], &a->m[i], &a->l[i]);
    a->type == DT_BF16 ? ISA(values_bf16)(a) : ISA(values_f32)(a);
}

static void ISA(attend_merge)(float *m, float *l, float *o, float mc, float lc, const float *oc,
                              int32_t count)
{
    float largest = mc > *m ? mc : *m;
    vf keep = vf_exp(vf_set(*m - largest)), take = vf_exp(vf_set(mc - largest));
    *l = *l * keep[0] + lc * take[0];
    for (int32_t i = 0; i < count; i += VL)
        vf_store(o + i, vf_load(o + i) * keep + vf_load(oc + i) * take);
    *m = largest;
}
