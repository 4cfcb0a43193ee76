/* What was learned of a machine's steps, kept between two runs of the server: one file a model,
 * backend, number of threads and machine, $XDG_CACHE_HOME/espalier/steps/MODEL-HASH.json.
 *
 * The file holds the text it is named by, and one whose text, version or numbers are not what this
 * program writes is as good as none. Nothing depends on it but how soon predictions are good.
 */
#ifndef SERVER_PREDICTOR_FILE_H
#define SERVER_PREDICTOR_FILE_H

#include "scheduler/predictor.h"

/* `about`: everything the steps depend on; `name`: its beginning for people. Caller frees. NULL:
 * there is no place for a file, said once on standard error. */
char *predictor_file_path(const char *name, const char *about);

/* false: there is no file, or (with a warning) none that fits; predictor and prior (what it began
 * with) are as they were then. */
bool predictor_file_read(const char *path, const char *about, struct predictor *predictor,
                         struct step_prior *prior);

/* Whole, or not at all (with a warning). */
void predictor_file_write(const char *path, const char *about, const struct step_prior *prior,
                          const struct predictor *predictor);

#endif
