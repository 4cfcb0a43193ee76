/* Texts by number: classes and reasons, of which a trace or a server may send as many as it likes.
 */
#ifndef TRACES_RESULTS_NAMES_H
#define TRACES_RESULTS_NAMES_H

#include <stddef.h>
#include <stdint.h>

struct names {      /* zero-initialise */
    char **texts;   /* [count] copies, in order of first appearance */
    uint32_t *tags; /* [count] what `names_find` was given beside it */
    size_t count, capacity;
    size_t *slots; /* [slot_count] a power of two; index + 1, 0: free */
    size_t slot_count;
};

/* The index of (text, tag), new ones at the end. */
size_t names_find(struct names *names, const char *text, uint32_t tag);
void names_free(struct names *names);

#endif
