/* What became of one request of a run, live or simulated, and whether it met its SLO: the one place
 * where TTFT, TPOT and the four SLO definitions are computed (`mean`, which also judges the
 * server's answers, in scheduler/slo.h).
 *
 * A record is fed token by token and keeps running figures only, so a simulated hour costs no
 * memory for its tokens. `espalier replay --record` writes the raw times beside it, and --from
 * feeds them again.
 *
 * SLO definitions (../shared/reference/controller.md: D1, D2, D4, D6). All need the request to be
 * completed; a limit that is 0 constrains nothing; refused, failed and unfinished requests miss,
 * and so does a request that completed without a token where there is a limit.
 *
 *   mean      TTFT, and mean time per output token over all output tokens, branches included:
 *             (last - first) / (tokens - 1) <= TPOT; one token meets any TPOT
 *   envelope  token j (0, 1, ...; all branches, in the order of their coming) no later than
 *             arrival + TTFT + j * TPOT
 *   gaps      TTFT, and at least 95 % of the gaps between tokens of a serial stage <= TPOT
 *   stages    TTFT, mean gap of serial stages <= TPOT, and, for a request with branches,
 *             end to end <= TTFT + TPOT * tokens
 *
 * With a TPOT and no TTFT, envelope and stages count from the first token instead of
 * arrival + TTFT. All comparisons are of whole microseconds, without rounding; equal is met.
 */
#ifndef TRACES_RESULTS_RECORD_H
#define TRACES_RESULTS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum slo_kind { SLO_MEAN, SLO_ENVELOPE, SLO_GAPS, SLO_STAGES };
#define SLO_KINDS 4

enum outcome {
    OUTCOME_UNFINISHED, /* the run ended first */
    OUTCOME_COMPLETED,
    OUTCOME_REFUSED, /* by the server, before any stream began (4xx, 503) */
    OUTCOME_FAILED,
};
#define OUTCOMES 4

struct slo_target {
    int64_t ttft_us, tpot_us; /* 0: none */
};

struct request_record {
    int64_t index; /* in the trace */
    bool branching;
    const char *class_name; /* borrowed; "": none */
    struct slo_target slo;
    int32_t prompt_tokens, cached_tokens;

    int64_t due_us;  /* when the trace wanted it sent */
    int64_t sent_us; /* arrival: TTFT and E2E count from here. Virtual time: the same as due_us */
    int64_t first_us, last_us; /* first and last token; 0 with output_tokens 0 */
    int32_t output_tokens;
    enum outcome outcome;
    const char *reason; /* of a refusal or failure, a few words ("503 queue_full", "stalled");
                           borrowed, NULL: none */
    struct {
        int64_t late_us; /* most by which a token missed its place on the envelope; 0: none */
        int64_t serial_gaps, late_gaps;
        int64_t serial_gap_us; /* sum */
        int32_t stage;         /* of the last token; -1 before the first */
        bool serial;
    } running;
};

/* All but times, outcome and what runs is given; the record starts empty. */
void record_start(struct request_record *record, int64_t due_us, int64_t sent_us);

/* A token came, not before the last one (what reads times from a file checks that). Gaps are
 * counted between two tokens of the same serial stage, whatever stood between them (a preemption, a
 * long step). Tokens of branches: parallel, in any order. */
void record_token(struct request_record *record, int64_t now_us, int32_t stage, bool parallel);

/* The last token's time is the end. */
void record_end(struct request_record *record, enum outcome outcome, const char *reason);

bool record_meets(const struct request_record *record, enum slo_kind kind);

int64_t record_ttft_us(const struct request_record *record); /* with output_tokens > 0 */
double record_tpot_us(const struct request_record *record);  /* 0 with fewer than 2 tokens */
int64_t record_e2e_us(const struct request_record *record);

const char *slo_kind_name(enum slo_kind kind); /* "mean", "envelope", "gaps", "stages" */
bool slo_kind_parse(const char *text, enum slo_kind *kind);

#endif
