/* What a search that is stopped leaves, said when it is. */
#ifndef TRACES_SIMULATE_STOPPING_H
#define TRACES_SIMULATE_STOPPING_H

/* From now on SIGINT and SIGTERM say that finished searches are kept, then end the process as they
 * would have. A signal that is ignored stays so. */
void stopping_tells_what_is_kept(void);

#endif
