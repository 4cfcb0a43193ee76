/* Who holds blocks: admission, growth, preemption, and giving back.
 *
 * A request is admitted with what it needs of ended sequences and its first live sequence, in the
 * queue's order: the first waits until the pool has room for everything it knows, and nobody
 * overtakes it. So a big request is not starved by small ones: while it waits, those that run come
 * to their end and nobody takes their room. Beside others a newcomer also leaves one free block for
 * each resident sequence, or the next few tokens of those would preempt it again. The other live
 * sequences of a request are admitted by the same rule, in the same line.
 *
 * When the pool is dry, a sequence takes room from what stands last: the last live sequence of the
 * last running request. It keeps its tokens and computes them again later. When it is the only one,
 * its whole request goes back to the queue. A request that runs and has none resident (a stage has
 * just begun) may take room like that too, so everything accepted comes to its end: the first
 * request can always grow, it is never a victim while another runs, and alone the whole pool is its
 * own. That is enough, because requests that could be longer than the pool are refused; one whose
 * model forks by itself, which cannot be told before, ends with FINISH_LENGTH there.
 *
 * Blocks are given back only when no step in flight can still write them, and what others attend to
 * only when no row of its request is in flight; until then a sequence that needs some waits a step
 * instead of preempting another.
 */
#include "scheduler/core.h"

#include "base/base.h"

#include <string.h>

/* --- lists */

static void running_insert(struct scheduler *s, struct request *request)
{
    int32_t at = s->running_count++;
    for (; at > 0 && request_before(request, s->running[at - 1]); at--)
        s->running[at] = s->running[at - 1];
    s->running[at] = request;
    request->state = REQUEST_RUNNING;
}

void running_remove(struct scheduler *s, const struct request *request)
{
    int32_t at = s->running_count - 1; /* victims stand at the back */
    while (at >= 0 && s->running[at] != request)
        at--;
    invariant(at >= 0, "request %llu does not run", (unsigned long long)request->id);
    size_t after = (size_t)(s->running_count - 1 - at);
    memmove(&s->running[at], &s->running[at + 1], after * sizeof s->running[0]);
    s->running_count--;
}

static bool is_resident(const struct sequence *seq)
{
    return sequence_is_live(seq) && seq->state == SEQUENCE_RESIDENT;
}

/* The live sequences of the stage that runs: first or last in a state, NULL: none. */
static struct sequence *first_live(const struct request *request, enum sequence_state state)
{
    struct stage *stage = request->stage;
    for (int32_t i = 0; i < stage->count; i++)
        if (!stage->sequences[i].finished && stage->sequences[i].state == state)
            return &stage->sequences[i];
    return NULL;
}

static struct sequence *first_absent_of(struct request *request)
{
    if (!request->any_absent) return NULL;
    struct sequence *seq = first_live(request, SEQUENCE_ABSENT);
    request->any_absent = seq != NULL;
    return seq;
}

static struct sequence *last_resident(const struct request *request)
{
    struct stage *stage = request->stage;
    for (int32_t i = stage->count - 1; i >= 0; i--)
        if (is_resident(&stage->sequences[i])) return &stage->sequences[i];
    return NULL;
}

int32_t request_resident_count(const struct request *request)
{
    int32_t count = 0;
    for (int32_t i = 0; i < request->stage->count; i++)
        count += is_resident(&request->stage->sequences[i]);
    return count;
}

int32_t resident_count(const struct scheduler *s)
{
    int32_t count = 0;
    for (int32_t i = 0; i < s->running_count; i++)
        count += request_resident_count(s->running[i]);
    return count;
}

/* --- giving back */

void sequence_release(struct scheduler *s, struct sequence *seq)
{
    block_table_clear(&seq->table, s->pool);
    seq->computed = seq->landed = 0;
    seq->same = seq->needed;
    prefix_reset(seq);
    seq->request->any_absent = true;
    seq->state = seq->finished && seq->needed == 0 ? SEQUENCE_GONE : SEQUENCE_ABSENT;
}

/* Deepest first: a stage holds what the stages behind it descend from. */
static void release_from(struct scheduler *s, struct stage *stage)
{
    if (!stage) return;
    release_from(s, stage->next);
    if (stage->context) stage->context->landed = false;
    for (int32_t i = stage->count - 1; i >= 0; i--)
        sequence_release(s, &stage->sequences[i]);
}

void request_release_blocks(struct scheduler *s, struct request *request)
{
    release_from(s, request->first_stage);
    request->ended_want = true;
}

void request_requeue(struct scheduler *s, struct request *request)
{
    request_release_blocks(s, request);
    request->state = REQUEST_WAITING;
    request_queue_push(&s->waiting, request);
}

static void preempt_request(struct scheduler *s, struct request *request)
{
    running_remove(s, request);
    if (request->in_flight == 0)
        request_requeue(s, request);
    else
        request->state = REQUEST_LEAVING;
}

static void preempt_sequence(struct scheduler *s, struct sequence *seq)
{
    if (seq->in_flight == 0)
        sequence_release(s, seq);
    else
        seq->state = SEQUENCE_LEAVING;
}

/* The least that gives room, of what stands last. Returns whether `seq` lost its own. */
static bool preempt_last(struct scheduler *s, const struct sequence *seq)
{
    struct request *request = s->running[s->running_count - 1];
    struct sequence *victim = last_resident(request);
    bool alone = !victim || victim == first_live(request, SEQUENCE_RESIDENT);
    s->counters.preemptions++;
    s->residency_change++;
    request->stats.preemptions++;
    if (alone) {
        preempt_request(s, request);
        return request == seq->request;
    }
    preempt_sequence(s, victim);
    return victim == seq;
}

/* Blocks come back when a step in flight is collected. */
static bool blocks_return(const struct scheduler *s)
{
    for (int32_t i = 0; i < s->in_flight; i++) {
        const struct step *step = &s->steps[(s->oldest + i) % s->capacity.depth];
        for (int32_t row = 0; row < step->plan.row_count; row++) {
            const struct sequence *seq = step->owners[row];
            bool leaves = seq->state == SEQUENCE_LEAVING || (seq->finished && seq->needed == 0);
            if (leaves || seq->request->state == REQUEST_LEAVING ||
                seq->request->state == REQUEST_ENDED)
                return true;
        }
    }
    return false;
}

/* Nobody else holds a block, nothing comes back, and it has no sequence to spare: what does not fit
 * now never will. */
static bool has_pool_alone(const struct scheduler *s, const struct request *request)
{
    return s->running_count == 1 && s->running[0] == request &&
           last_resident(request) == first_live(request, SEQUENCE_RESIDENT) && !blocks_return(s);
}

/* It ends before the next step is planned: plans in the making name its sequences. */
static void end_at_pool(struct scheduler *s, struct request *request)
{
    invariant(request->params.events.next,
              "request %llu does not fit into a pool of %d blocks that it was checked against",
              (unsigned long long)request->id, s->capacity.block_count);
    request->at_pool = s->any_ends = true;
}

/* The pool has not what `slots` take: no failure that another try would not meet. */
static bool is_short(const struct scheduler *s, const struct sequence *seq, int32_t slots)
{
    return block_table_missing(&seq->table, slots) > block_pool_available(s->pool);
}

bool make_room(struct scheduler *s, struct sequence *seq, int32_t slots)
{
    while (!block_table_grow(&seq->table, s->pool, slots)) {
        if (blocks_return(s)) return false;
        if (has_pool_alone(s, seq->request)) {
            if (is_short(s, seq, slots)) end_at_pool(s, seq->request);
            return false;
        }
        if (preempt_last(s, seq)) return false;
    }
    return true;
}

/* --- admission */

/* Slots a sequence needs blocks for before it can be resident. */
static int32_t known_slots(const struct sequence *seq)
{
    if (seq->finished) return seq->needed;
    return seq->length - sequence_leaves_last(seq);
}

/* Of an absent one: takes what the tree has and then what is missing, leaving `spare` blocks free;
 * or nothing. */
static bool take_blocks(struct scheduler *s, struct sequence *seq, int32_t spare)
{
    int32_t slots = known_slots(seq);
    prefix_take(s, seq);
    int64_t need = (int64_t)block_table_missing(&seq->table, slots) + spare;
    if (need > block_pool_available(s->pool) || !block_table_grow(&seq->table, s->pool, slots)) {
        sequence_release(s, seq);
        return false;
    }
    prefix_taken(s, seq);
    seq->state = SEQUENCE_RESIDENT;
    s->residency_change++;
    return true;
}

/* What its stages attend to, and its first live sequence: all of it or nothing. */
static bool admit_request(struct scheduler *s, struct request *request)
{
    bool fits = true;
    int32_t spare = resident_count(s);
    for (struct sequence *seq = request_begin(request); seq && fits; seq = sequence_next(seq))
        if (seq->finished && seq->state == SEQUENCE_ABSENT) fits = take_blocks(s, seq, spare);
    if (fits && take_blocks(s, first_live(request, SEQUENCE_ABSENT), spare)) return true;
    request_release_blocks(s, request);
    return false;
}

/* What it needs to be admitted, each sequence by itself. */
static int64_t blocks_known(const struct request *request)
{
    int64_t blocks = blocks_for_slots(known_slots(first_live(request, SEQUENCE_ABSENT)));
    for (const struct sequence *seq = request_begin(request); seq; seq = sequence_next(seq))
        if (seq->finished) blocks += blocks_for_slots(seq->needed);
    return blocks;
}

/* Of the running requests, the first live sequence without blocks; NULL: none. */
static struct sequence *first_absent(const struct scheduler *s)
{
    for (int32_t i = 0; i < s->running_count; i++) {
        struct sequence *seq = first_absent_of(s->running[i]);
        if (seq) return seq;
    }
    return NULL;
}

/* A stage has begun, or all were preempted: one sequence comes in even if others must go. */
static void admit_first(struct scheduler *s, struct request *request)
{
    struct sequence *seq = first_absent_of(request);
    if (!seq || last_resident(request) || first_live(request, SEQUENCE_LEAVING)) return;
    while (request->state == REQUEST_RUNNING && !take_blocks(s, seq, 0)) {
        if (blocks_return(s)) return;
        if (has_pool_alone(s, request)) {
            if (is_short(s, seq, known_slots(seq))) end_at_pool(s, request);
            return;
        }
        preempt_last(s, seq);
    }
}

void admit_firsts(struct scheduler *s)
{
    for (int32_t i = 0; i < s->running_count; i++) {
        struct request *request = s->running[i];
        admit_first(s, request);
        if (i >= s->running_count || s->running[i] != request) i--; /* it ended or went */
    }
}

/* false: it does not fit yet. */
static bool admit_front(struct scheduler *s, struct request *request)
{
    if (!admit_request(s, request)) {
        bool alone = s->running_count == 0 && !blocks_return(s);
        if (alone && blocks_known(request) > s->capacity.block_count) end_at_pool(s, request);
        return false;
    }
    note_admission(s, first_live(request, SEQUENCE_RESIDENT)->table.count);
    request_queue_remove(&s->waiting, request);
    running_insert(s, request);
    if (request->stats.scheduled_us == 0) request->stats.scheduled_us = clock_now(&s->clock);
    stage_pass_trunk(s, request);
    return true;
}

void admit_waiting(struct scheduler *s)
{
    for (;;) {
        struct sequence *seq = first_absent(s);
        struct request *request =
            s->running_count < s->max_rows ? request_queue_first(&s->waiting) : NULL;
        if (request && (!seq || request_before(request, seq->request))) {
            if (!admit_front(s, request)) return;
        } else if (!seq || !take_blocks(s, seq, resident_count(s))) {
            return;
        }
    }
}
