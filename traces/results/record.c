#include "traces/results/record.h"

#include "base/base.h"
#include "scheduler/slo.h"

#include <string.h>

void record_start(struct request_record *record, int64_t due_us, int64_t sent_us)
{
    record->due_us = due_us;
    record->sent_us = sent_us;
    record->first_us = record->last_us = 0;
    record->output_tokens = 0;
    record->outcome = OUTCOME_UNFINISHED;
    record->reason = NULL;
    memset(&record->running, 0, sizeof record->running);
    record->running.stage = -1;
}

/* first + count * each, at most INT64_MAX: limits come from traces and may be anything. */
static int64_t time_after(int64_t first, int64_t each, int64_t count)
{
    int64_t product, sum;
    if (__builtin_mul_overflow(each, count, &product) ||
        __builtin_add_overflow(first, product, &sum))
        return INT64_MAX;
    return sum;
}

/* Where the envelope begins: token 0's place. */
static int64_t envelope_start(const struct request_record *record)
{
    return record->slo.ttft_us ? time_after(record->sent_us, record->slo.ttft_us, 1)
                               : record->first_us;
}

void record_token(struct request_record *record, int64_t now_us, int32_t stage, bool parallel)
{
    const struct slo_target *slo = &record->slo;
    invariant(record->output_tokens == 0 || now_us >= record->last_us,
              "request %lld: a token at %lld us after one at %lld us", (long long)record->index,
              (long long)now_us, (long long)record->last_us);
    if (record->output_tokens == 0) record->first_us = now_us;

    if (slo->tpot_us) {
        int64_t place = time_after(envelope_start(record), slo->tpot_us, record->output_tokens);
        if (now_us - place > record->running.late_us) record->running.late_us = now_us - place;
    }
    if (!parallel && record->running.serial && record->running.stage == stage) {
        int64_t gap = now_us - record->last_us;
        record->running.serial_gaps++;
        record->running.serial_gap_us += gap;
        record->running.late_gaps += slo->tpot_us && gap > slo->tpot_us;
    }
    record->last_us = now_us;
    record->output_tokens++;
    record->running.stage = stage;
    record->running.serial = !parallel;
}

void record_end(struct request_record *record, enum outcome outcome, const char *reason)
{
    record->outcome = outcome;
    record->reason = reason;
}

int64_t record_ttft_us(const struct request_record *record)
{
    return record->first_us - record->sent_us;
}

double record_tpot_us(const struct request_record *record)
{
    if (record->output_tokens < 2) return 0;
    return (double)(record->last_us - record->first_us) / (record->output_tokens - 1);
}

int64_t record_e2e_us(const struct request_record *record)
{
    return record->last_us - record->sent_us;
}

static bool meets_tpot(const struct request_record *record, enum slo_kind kind)
{
    int64_t tpot_us = record->slo.tpot_us, tokens = record->output_tokens;
    switch (kind) {
    case SLO_MEAN:
        return slo_tpot_met(tpot_us, record->first_us, record->last_us, tokens);
    case SLO_ENVELOPE:
        return record->running.late_us <= 0;
    case SLO_GAPS: /* late <= 5 % */
        return record->running.late_gaps * 20 <= record->running.serial_gaps;
    case SLO_STAGES:
        if (record->running.serial_gap_us > time_after(0, tpot_us, record->running.serial_gaps))
            return false;
        return !record->branching ||
               record->last_us <= time_after(envelope_start(record), tpot_us, tokens);
    }
    die("SLO kind %d", (int)kind);
}

bool record_meets(const struct request_record *record, enum slo_kind kind)
{
    const struct slo_target *slo = &record->slo;
    if (record->outcome != OUTCOME_COMPLETED) return false;
    if (!slo->ttft_us && !slo->tpot_us) return true;
    if (record->output_tokens == 0) return false;
    if (slo->ttft_us && record_ttft_us(record) > slo->ttft_us) return false;
    return !slo->tpot_us || meets_tpot(record, kind);
}

static const char *const kind_names[SLO_KINDS] = {"mean", "envelope", "gaps", "stages"};

const char *slo_kind_name(enum slo_kind kind)
{
    return kind_names[kind];
}

bool slo_kind_parse(const char *text, enum slo_kind *kind)
{
    for (int k = 0; k < SLO_KINDS; k++)
        if (!strcmp(text, kind_names[k])) {
            *kind = (enum slo_kind)k;
            return true;
        }
    return false;
}
