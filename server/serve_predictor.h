/* The step-latency predictor of `espalier serve` (docs/taper.md, "The predictor").
 *
 *   create   a guess from the model's bytes and operations; a few steps of one row make its size
 *            right; what an earlier run kept of this model on this machine takes its place
 *   attach   random steps on the engine's thread until the first request comes, 2 s at most
 *   then     it learns from every step
 *   free     what was learned is kept
 *
 * A step that fails here ends the profiling with a warning; the server serves with what is known.
 */
#ifndef SERVER_SERVE_PREDICTOR_H
#define SERVER_SERVE_PREDICTOR_H

#include "model/model.h"
#include "scheduler/engine.h"

struct serve_predictor;

/* `model` is borrowed, and nothing else may use its executor yet. */
struct serve_predictor *serve_predictor_create(struct model *model, int32_t max_rows,
                                               int32_t prefill_chunk);
/* When the engine is gone, the model not yet. */
void serve_predictor_free(struct serve_predictor *predictor);

/* For the engine's scheduler; borrowed. */
struct step_predictor serve_predictor_door(struct serve_predictor *predictor);
/* Before engine_start. */
void serve_predictor_attach(struct serve_predictor *predictor, struct engine *engine);

/* One line for the start: later than create, so that a server that cannot start says that alone. */
void serve_predictor_tell(const struct serve_predictor *predictor);
/* A step of a single row, as measured at the start; 0: it failed. */
double serve_predictor_single_row_us(const struct serve_predictor *predictor);

#endif
