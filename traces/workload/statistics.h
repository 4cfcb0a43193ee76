/* What a trace is like, in bounded memory: lengths, arrivals, branches, shared prefixes. The same
 * figures stand in the header line of a native trace.
 */
#ifndef TRACES_WORKLOAD_STATISTICS_H
#define TRACES_WORKLOAD_STATISTICS_H

#include "traces/trace.h"

#include <jansson.h>
#include <stdio.h>

struct statistics;

struct statistics *statistics_create(void);
void statistics_free(struct statistics *statistics);
void statistics_add(struct statistics *statistics, const struct trace_request *request);
int64_t statistics_requests(const struct statistics *statistics);

/* Figures of which there are none (no request, no branch) are null.
 *
 *   requests, duration_s       first to last arrival
 *   rate_per_s, gap_cv         standard deviation of the gaps between arrivals over their mean;
 *                              Poisson: 1
 *   prompt_tokens, output_tokens, branch_tokens, width
 *                              mean, min, p5 ... p99, max; output of whole requests, width:
 *                              branches of a parallel stage
 *   branching_share            of requests
 *   stages_per_request         parallel ones, of those that branch
 *   balance                    mean over maximum length in a stage
 *   token_share_in_branches
 *   degree_of_parallelism      all tokens over those of the longest paths
 *   degree_by_formula          1 / (1 - f (1 - 1 / (w b))) with f, w and b the share, mean width
 *                              and balance (../shared/reference/branches-and-slo.md section 3)
 *   prefix_reuse               share of all prompt tokens that an earlier prompt began with
 *   prefix_reuse_exact         false: an estimate (prefix_reuse.h)
 *   cached_share
 *   classes                    name, ttft_ms, tpot_ms (null: none) and requests of each
 */
json_t *statistics_json(const struct statistics *statistics);
void statistics_print(const struct statistics *statistics, FILE *out);

#endif
