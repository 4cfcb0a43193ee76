/* A Hugging Face tokenizer (tokenizer.json + tokenizer_config.json) as a tokenizer_spec. */
#ifndef MODEL_TOKENIZER_JSON_H
#define MODEL_TOKENIZER_JSON_H

#include "model/tokenizer.h"

/* Reads both files of directory `dir`. On ST_OK the spec owns its texts: tokenizer_spec_free. */
enum status tokenizer_spec_from_json(const char *dir, struct tokenizer_spec *spec,
                                     struct error *err);
void tokenizer_spec_free(struct tokenizer_spec *spec);

#endif
