#include "server/token_log.h"
#include "base/alloc.h"
#include "base/status.h"

#include <stdlib.h>
#include <string.h>

bool token_log_init(struct token_log *log, size_t capacity, size_t top)
{
    *log = (struct token_log){.capacity = capacity, .top = top};
    if (capacity >= UINT32_MAX) return false; /* token_record.link numbers them from 1 */
    log->records = try_alloc(capacity, sizeof *log->records);
    if (top) log->tops = try_alloc(capacity, top * sizeof *log->tops);
    return log->records && (!top || log->tops);
}

void token_log_release(struct token_log *log)
{
    free(log->records);
    free(log->tops);
    log->records = NULL;
    log->tops = NULL;
}

void token_log_append(struct token_log *log, struct token_record record,
                      const struct token_logprob *top)
{
    size_t count = atomic_load_explicit(&log->count, memory_order_relaxed);
    invariant(count < log->capacity, "token log of %zu records is full", log->capacity);
    invariant(record.top_count <= log->top, "%d alternatives, made for %zu", record.top_count,
              log->top);
    log->records[count] = record;
    if (record.top_count) memcpy(log->tops + count * log->top, top, record.top_count * sizeof *top);
    atomic_store(&log->count, count + 1);
}
