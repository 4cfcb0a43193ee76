#include "server/token_log.h"
#include "base/alloc.h"
#include "base/status.h"

#include <stdlib.h>

bool token_log_init(struct token_log *log, size_t capacity)
{
    log->records = try_alloc(capacity, sizeof *log->records);
    log->capacity = capacity;
    atomic_init(&log->count, 0);
    return log->records != NULL;
}

void token_log_release(struct token_log *log)
{
    free(log->records);
    log->records = NULL;
}

void token_log_append(struct token_log *log, struct token_record record)
{
    size_t count = atomic_load_explicit(&log->count, memory_order_relaxed);
    invariant(count < log->capacity, "token log of %zu records is full", log->capacity);
    log->records[count] = record;
    atomic_store(&log->count, count + 1);
}
