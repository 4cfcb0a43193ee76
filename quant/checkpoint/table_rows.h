/* The embedding and the head: W8, a few rows at a time, as they can be larger than a layer. */
#ifndef QUANT_CHECKPOINT_TABLE_ROWS_H
#define QUANT_CHECKPOINT_TABLE_ROWS_H

#include "base/thread_pool.h"
#include "quant/checkpoint/weight_file.h"

/* *error: squared error over squared weights. */
enum status table_write(const struct checkpoint_tensor *table, enum tensor_role role,
                        struct thread_pool *pool, struct weight_file *file, double *error,
                        struct error *err);

#endif
