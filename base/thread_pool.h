/* A team of threads that runs one function on every member and meets at the end.
 *
 * The caller is member 0. Between runs the others spin for a few microseconds and then park on a
 * futex, so that a step's hundred short stages cost about a microsecond each and an idle server
 * costs nothing. One run at a time: a pool belongs to one caller (the engine thread, or a command's
 * main). What a member computes must not depend on `members`: results are the same bits for any
 * thread count.
 */
#ifndef BASE_THREAD_POOL_H
#define BASE_THREAD_POOL_H

#include "base/status.h"

#include <stdint.h>

struct thread_pool;

typedef void (*thread_pool_fn)(void *argument, int member, int members);

/* `threads` >= 1; 0 means one per online core. ST_NO_MEMORY when they cannot be had. */
enum status thread_pool_create(int threads, struct thread_pool **out, struct error *err);
void thread_pool_free(struct thread_pool *pool);
int thread_pool_size(const struct thread_pool *pool);

/* Runs fn(argument, member, members) on every member; returns when all are done. */
void thread_pool_run(struct thread_pool *pool, thread_pool_fn fn, void *argument);

/* Inside a run, called by every member: returns when all of them have called it. */
void thread_pool_meet(struct thread_pool *pool);

/* Splits [0, count) into pieces of `grain` that the members take as they get free. */
typedef void (*thread_pool_range_fn)(void *argument, int64_t begin, int64_t end, int member);
void thread_pool_for(struct thread_pool *pool, int64_t count, int64_t grain,
                     thread_pool_range_fn fn, void *argument);

#endif
