/* The engine's thread: owns a scheduler (and through it KV cache and executor) and runs its ticks.
 *
 * Other threads reach it through one inbox (submit, cancel) and never touch the scheduler. When
 * idle it sleeps until the inbox has something. Counters are published as a snapshot after each
 * tick, so that reading them never waits for a step.
 */
#ifndef SCHEDULER_ENGINE_H
#define SCHEDULER_ENGINE_H

#include "scheduler/scheduler.h"

struct engine;

enum status engine_create(const struct scheduler_options *options, struct executor executor,
                          struct clock clock, struct engine **out, struct error *err);

/* Before engine_start: until the first request comes, `work(context)` is called on the engine's
 * thread again and again, until it is false; a request waits for one call at most. It may use the
 * executor, which has no step in flight. */
void engine_before_first(struct engine *engine, bool (*work)(void *context), void *context);
enum status engine_start(struct engine *engine, struct error *err);

/* From any thread. The queue's places are taken here, atomically: ST_FULL, ST_LATE and ST_CLOSED
 * are decided before anything is accepted, and what is accepted always gets its done event. params
 * and what it points at are copied. Also ST_INVALID as scheduler_add (checked here too). */
enum status engine_submit(struct engine *engine, const struct request_params *params, uint64_t *id,
                          struct error *err);

/* `count` requests, all of them (ids[count]) or none. ST_LATE: the first of them would come too
 * late, *verdict (may be NULL) says how late. */
enum status engine_submit_all(struct engine *engine, const struct request_params *params,
                              int32_t count, uint64_t *ids, struct ttft_verdict *verdict,
                              struct error *err);

/* Sequences that may wait: what one submission asks for at most. Constant, from any thread. */
int32_t engine_max_queue(const struct engine *engine);

/* From any thread, at any time; takes effect within one step. */
void engine_cancel(struct engine *engine, uint64_t id);

/* From any thread: from now on `ticked(context)` is called on the engine's thread after each tick,
 * when its events are out and its counters published, and must not wait. NULL: no longer; it has
 * returned for the last time when this returns. One at a time. */
void engine_after_tick(struct engine *engine, void (*ticked)(void *context), void *context);

/* From any thread: no more submissions; returns at once. */
void engine_close(struct engine *engine);

/* Waits until nothing is running (true) or the time is over (false). */
bool engine_wait_idle(struct engine *engine, int64_t timeout_us);

/* As scheduler_max_length; constant, from any thread. */
int32_t engine_max_length(const struct engine *engine, int32_t n);

/* From any thread. `waiting` includes what still lies in the inbox. */
void engine_counters(const struct engine *engine, struct scheduler_counters *counters);

/* Cancels what is left (on the engine's thread, or on this one when it was never started), joins
 * the thread, frees everything. No other thread may use the engine any more. */
void engine_free(struct engine *engine);

#endif
