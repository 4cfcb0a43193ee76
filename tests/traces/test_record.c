/* Records: TTFT, TPOT, E2E and the four SLO definitions, on cases worked out by hand. */
#include "traces/results/record.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

/* Sent at 1,000,000 us. Limits: TTFT 1 s, TPOT 50 ms, unless a test says otherwise. */
#define SENT 1000000
#define TTFT 1000000
#define TPOT 50000

static struct request_record begun(int64_t ttft_us, int64_t tpot_us, bool branching)
{
    struct request_record record = {.index = 7,
                                    .branching = branching,
                                    .class_name = "",
                                    .slo = {ttft_us, tpot_us},
                                    .prompt_tokens = 10};
    record_start(&record, SENT, SENT);
    return record;
}

/* A token of stage 0 at each time, relative to sending; then completed. */
static struct request_record serial(int64_t ttft_us, int64_t tpot_us, const int64_t *times,
                                    int count)
{
    struct request_record record = begun(ttft_us, tpot_us, false);
    for (int i = 0; i < count; i++)
        record_token(&record, SENT + times[i], 0, false);
    record_end(&record, OUTCOME_COMPLETED, NULL);
    return record;
}

static void meets(const struct request_record *record, bool mean, bool envelope, bool gaps,
                  bool stages, int line)
{
    bool expected[SLO_KINDS] = {mean, envelope, gaps, stages};
    for (int k = 0; k < SLO_KINDS; k++)
        cr_assert_eq(record_meets(record, (enum slo_kind)k), expected[k], "line %d: %s", line,
                     slo_kind_name((enum slo_kind)k));
}
#define MEETS(record, mean, envelope, gaps, stages) \
    meets(&(record), mean, envelope, gaps, stages, __LINE__)

Test(record, times)
{
    int64_t times[] = {300000, 340000, 500000};
    struct request_record record = serial(TTFT, TPOT, times, 3);
    cr_assert_eq(record_ttft_us(&record), 300000);
    cr_assert_eq(record_tpot_us(&record), 100000); /* (500 - 300) / 2 */
    cr_assert_eq(record_e2e_us(&record), 500000);
    cr_assert_eq(record.running.serial_gaps, 2);
    cr_assert_eq(record.running.late_gaps, 1);
    cr_assert_eq(record.running.serial_gap_us, 200000);
    /* mean 100 > 50; 500 <= 1000 + 100; 1 of 2 gaps late; mean gap 100 */
    MEETS(record, false, true, false, false);
}

Test(record, sent_late_counts_from_sending)
{
    struct request_record record = begun(TTFT, TPOT, false);
    record_start(&record, SENT - 400000, SENT);
    record_token(&record, SENT + TTFT, 0, false);
    record_end(&record, OUTCOME_COMPLETED, NULL);
    cr_assert_eq(record_ttft_us(&record), TTFT);
    MEETS(record, true, true, true, true);
}

Test(record, start_empties)
{
    int64_t times[] = {300000, 340000, 500000};
    struct request_record record = serial(TTFT, TPOT, times, 3);
    record_end(&record, OUTCOME_FAILED, "stalled");
    record_start(&record, 5, 6);
    struct request_record fresh = begun(TTFT, TPOT, false);
    record_start(&fresh, 5, 6);
    cr_assert_eq(record.output_tokens, 0);
    cr_assert_eq(record.first_us, 0);
    cr_assert_eq(record.last_us, 0);
    cr_assert_null(record.reason);
    cr_assert_eq(record.outcome, OUTCOME_UNFINISHED);
    cr_assert_eq(memcmp(&record.running, &fresh.running, sizeof fresh.running), 0);
    cr_assert_eq(record.running.stage, -1);
    cr_assert_eq(record.index, 7);
}

Test(record, one_token_meets_any_tpot)
{
    int64_t times[] = {TTFT};
    struct request_record record = serial(TTFT, 1, times, 1);
    cr_assert_eq(record_tpot_us(&record), 0);
    MEETS(record, true, true, true, true);
    times[0] = TTFT + 1;
    record = serial(TTFT, 1, times, 1);
    MEETS(record, false, false, false, false);
}

Test(record, no_limit_constrains_nothing)
{
    int64_t times[] = {900000000, 1800000000};
    struct request_record record = serial(0, 0, times, 2);
    MEETS(record, true, true, true, true);
    record_end(&record, OUTCOME_REFUSED, "503 queue_full");
    MEETS(record, false, false, false, false);
    record_end(&record, OUTCOME_FAILED, "stalled");
    MEETS(record, false, false, false, false);
    record_end(&record, OUTCOME_UNFINISHED, NULL);
    MEETS(record, false, false, false, false);
}

Test(record, only_ttft)
{
    int64_t times[] = {TTFT, 900000000};
    struct request_record record = serial(TTFT, 0, times, 2);
    MEETS(record, true, true, true, true);
    times[0]++;
    record = serial(TTFT, 0, times, 2);
    MEETS(record, false, false, false, false);
}

/* The first token, whenever it came, is where envelope and stages begin. */
Test(record, only_tpot)
{
    int64_t times[] = {7000000, 7000000 + TPOT, 7000000 + 2 * TPOT};
    struct request_record record = serial(0, TPOT, times, 3);
    MEETS(record, true, true, true, true);
    times[1]++;
    record = serial(0, TPOT, times, 3);
    MEETS(record, true, false, false, true);
    times[2]++;
    record = serial(0, TPOT, times, 3);
    MEETS(record, false, false, false, false);
}

Test(record, completed_without_a_token)
{
    struct request_record record = begun(TTFT, TPOT, false);
    record_end(&record, OUTCOME_COMPLETED, NULL);
    MEETS(record, false, false, false, false);
    record = begun(0, 0, false);
    record_end(&record, OUTCOME_COMPLETED, NULL);
    MEETS(record, true, true, true, true);
}

/* A long pause in the middle of a stage, as a preemption makes it: 21 tokens, 20 gaps, one long. */
Test(record, a_preempted_gap_counts)
{
    int64_t times[21];
    for (int i = 0; i < 21; i++)
        times[i] = 100000 + i * 10000 + (i > 10 ? 900000 : 0);
    struct request_record record = serial(TTFT, TPOT, times, 21);
    cr_assert_eq(record.running.serial_gaps, 20);
    cr_assert_eq(record.running.late_gaps, 1);
    cr_assert_eq(record.running.serial_gap_us, 1100000);
    /* mean (100 + 1100 ... 1200 - 100) / 20 = 55 ms; envelope: token 11 at 1110 <= 1550; gaps: 1 of
     * 20 is 5 %; stages: 1100 / 20 = 55 ms */
    MEETS(record, false, true, true, false);
    /* One gap fewer: 1 of 19 is more than 5 %. */
    record = serial(TTFT, TPOT, times, 20);
    MEETS(record, false, true, false, false);
}

Test(record, gaps_exactly_at_the_limit)
{
    int64_t times[] = {TTFT, TTFT + TPOT, TTFT + 2 * TPOT};
    struct request_record record = serial(TTFT, TPOT, times, 3);
    cr_assert_eq(record.running.late_gaps, 0);
    MEETS(record, true, true, true, true);
    times[1]++; /* one microsecond late, the mean as before */
    record = serial(TTFT, TPOT, times, 3);
    cr_assert_eq(record.running.late_us, 1);
    MEETS(record, true, false, false, true);
}

/* Stage 0: two tokens; stage 1: two branches of two; stage 2: two tokens. */
static struct request_record branched(const int64_t *times, bool branching)
{
    struct request_record record = begun(TTFT, TPOT, branching);
    static const int32_t stages[] = {0, 0, 1, 1, 1, 1, 2, 2};
    for (int i = 0; i < 8; i++)
        record_token(&record, SENT + times[i], stages[i], stages[i] == 1);
    record_end(&record, OUTCOME_COMPLETED, NULL);
    return record;
}

Test(record, branch_tokens_have_no_gaps_and_all_count)
{
    int64_t times[] = {100000, 150000, 200000, 200000, 900000, 900000, 1000000, 1050000};
    struct request_record record = branched(times, true);
    cr_assert_eq(record.output_tokens, 8);
    cr_assert_eq(record.running.serial_gaps, 2); /* within stage 0 and within stage 2 */
    cr_assert_eq(record.running.serial_gap_us, 100000);
    cr_assert_eq(record_tpot_us(&record), 950000.0 / 7);
    /* mean 136 ms; envelope 1050 <= 1350; no late gap; 1050 <= 1000 + 8 * 50 */
    MEETS(record, false, true, true, true);
}

Test(record, stages_bounds_the_end_of_branching_requests)
{
    int64_t times[] = {100000, 150000, 200000, 200000, 900000, 900000, 1350000, 1400000};
    struct request_record record = branched(times, true);
    /* ends at exactly 1000 + 8 * 50; its last token's place on the envelope was 1350 */
    MEETS(record, false, false, true, true);
    times[7] = 1400001; /* and the gap, too, is late: 1 of 2, mean (50000 + 50001) / 2 > 50 ms */
    record = branched(times, true);
    MEETS(record, false, false, false, false);
    times[6] = 1350001; /* the gap is at the limit, only the end is late */
    record = branched(times, true);
    MEETS(record, false, false, true, false);
    record = branched(times, false); /* no branching request by its trace: its end is not bound */
    MEETS(record, false, false, true, true);
}

Test(record, two_tokens_at_once)
{
    int64_t times[] = {TTFT, TTFT, TTFT + 100000};
    struct request_record record = serial(TTFT, TPOT, times, 3);
    cr_assert_eq(record.running.serial_gaps, 2);
    /* mean 100 / 2 = 50; token 2's place is TTFT + 100; 1 of 2 gaps late; mean gap 50 */
    MEETS(record, true, true, false, true);
}

/* Limits come from files. */
Test(record, limits_beyond_any_time)
{
    int64_t times[] = {5, 10, 1000000000};
    struct request_record record = serial(INT64_MAX, INT64_MAX, times, 3);
    MEETS(record, true, true, true, true);
    record = serial(1, INT64_MAX / 2, times, 3);
    MEETS(record, false, false, false, false);
}

Test(record, names_of_definitions)
{
    enum slo_kind kind = SLO_MEAN;
    for (int k = 0; k < SLO_KINDS; k++) {
        cr_assert(slo_kind_parse(slo_kind_name((enum slo_kind)k), &kind));
        cr_assert_eq((int)kind, k);
    }
    kind = SLO_GAPS;
    cr_assert_not(slo_kind_parse("D1", &kind));
    cr_assert_not(slo_kind_parse("", &kind));
    cr_assert_eq(kind, SLO_GAPS);
}
