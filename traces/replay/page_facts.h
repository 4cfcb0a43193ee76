/* How a run was made, in words, for its page. */
#ifndef TRACES_REPLAY_PAGE_FACTS_H
#define TRACES_REPLAY_PAGE_FACTS_H

#include "traces/results/report.h"

#define PAGE_FACTS 10

struct page_facts {
    struct report_fact list[PAGE_FACTS]; /* [count] the texts are owned */
    size_t count;
};

/* Out of a record's first line, which may be anybody's: what is not there is left out. */
void page_facts_make(const json_t *header, struct page_facts *facts);
void page_facts_free(struct page_facts *facts);

#endif
