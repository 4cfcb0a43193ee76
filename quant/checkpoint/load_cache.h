/* --weights vsq4z on a model that is not quantized: quantized once, without a text, and kept.
 *
 * It lies in $XDG_CACHE_HOME/espalier/quantized (or ~/.cache/...) under the model's name and a hash
 * of where the model is, how large and how old its files are, and this program's version. Two
 * programs that start at once agree by a lock on NAME.lock: one quantizes, the other waits. A
 * directory that does not load any more is made anew.
 *
 * Rounding without a text costs quality that nobody should pay unseen: what it costs is measured
 * once against w8, on a text that is part of this program, and said at every start together with
 * the command that makes a better one.
 */
#ifndef QUANT_CHECKPOINT_LOAD_CACHE_H
#define QUANT_CHECKPOINT_LOAD_CACHE_H

#include "model/model.h"

/* model_load, for commands: with WEIGHT_VSQ4Z a model of any format, through the cache. */
enum status load_cache_model(const struct model_options *options, struct model **out,
                             struct error *err);

#endif
