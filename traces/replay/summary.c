#include "traces/replay/summary.h"
#include "base/base.h"
#include "traces/results/histogram.h"

#include <math.h>
#include <stdlib.h>

struct change { /* of the number in flight */
    int64_t us;
    int32_t by;
};

struct summary_builder {
    struct results_builder *results;
    struct summary_tally tally;
    enum slo_kind kind;
    struct histogram delay, connect; /* us */
    struct series *tokens, *attainment;
    struct change *changes; /* [change_count] two a flight */
    size_t change_count, change_room;
};

struct summary_builder *summary_begin(enum slo_kind kind)
{
    struct summary_builder *builder = must_alloc(sizeof *builder);
    builder->results = results_begin();
    builder->kind = kind;
    builder->tokens = series_create();
    builder->attainment = series_create();
    return builder;
}

static void add_change(struct summary_builder *builder, int64_t us, int32_t by)
{
    if (builder->change_count == builder->change_room) {
        builder->change_room = builder->change_room ? 2 * builder->change_room : 256;
        builder->changes =
            must_realloc(builder->changes, builder->change_room * sizeof *builder->changes);
    }
    builder->changes[builder->change_count++] = (struct change){us, by};
}

static void add_tally(struct summary_tally *tally, const struct flight *flight)
{
    tally->flights++;
    tally->late += flight->sent_us - flight->due_us > LATE_US;
    tally->arrivals += flight->due_us > 0;
    if (flight->end_us > tally->last_us) tally->last_us = flight->end_us;
    if (flight->due_us > tally->last_due_us) tally->last_due_us = flight->due_us;
    if (flight->outcome != OUTCOME_COMPLETED) return;
    tally->prompts_told += flight->usage_prompt >= 0;
    tally->prompts_otherwise +=
        flight->usage_prompt >= 0 && flight->usage_prompt != flight->prompt_tokens;
    tally->answers_otherwise += (int64_t)flight->token_count != flight->asked_tokens;
    tally->answers_spread += flight->spread_tokens > 0;
    tally->unbranched += flight->stage_count > 1 && flight->event_count == 0;
}

void summary_add(struct summary_builder *builder, const struct flight *flight)
{
    struct request_record record;
    flight_score(flight, &record, builder->results);
    results_add(builder->results, &record);
    add_tally(&builder->tally, flight);
    histogram_add(&builder->delay, flight->sent_us - flight->due_us);
    if (flight->connected_us >= 0)
        histogram_add(&builder->connect, flight->connected_us - flight->sent_us);
    add_change(builder, flight->sent_us, 1);
    add_change(builder, flight->end_us, -1);
    for (size_t i = 0; i < flight->token_count; i++)
        series_add(builder->tokens, flight->tokens[i].us, 1);
    series_add(builder->attainment, flight->end_us, record_meets(&record, builder->kind));
}

int64_t summary_met(const struct summary_builder *builder)
{
    return results_met(builder->results, builder->kind);
}

static int by_time(const void *a, const void *b)
{
    const struct change *left = a, *right = b;
    if (left->us != right->us) return left->us < right->us ? -1 : 1;
    return right->by - left->by;
}

static struct series *in_flight(struct summary_builder *builder)
{
    struct series *series = series_create();
    int64_t count = 0;
    if (builder->change_count)
        qsort(builder->changes, builder->change_count, sizeof *builder->changes, by_time);
    for (size_t i = 0; i < builder->change_count; i++) {
        count += builder->changes[i].by;
        series_hold(series, builder->changes[i].us, (double)count);
    }
    return series;
}

struct summary *summary_end(struct summary_builder *builder)
{
    struct summary *summary = must_alloc(sizeof *summary);
    *summary = (struct summary){
        .tally = builder->tally,
        .results = results_end(builder->results, (double)builder->tally.last_us / 1e6),
        .delay_ms = results_distribution(&builder->delay, 1e3),
        .connect_ms = results_distribution(&builder->connect, 1e3),
        .tokens = builder->tokens,
        .attainment = builder->attainment,
        .in_flight = in_flight(builder),
        .kind = builder->kind,
    };
    summary->results->offered_rate = summary_send_rate(summary);
    free(builder->changes);
    free(builder);
    return summary;
}

void summary_free(struct summary *summary)
{
    if (!summary) return;
    results_free(summary->results);
    free(summary->tokens);
    free(summary->attainment);
    free(summary->in_flight);
    free(summary);
}

double summary_send_rate(const struct summary *summary)
{
    const struct summary_tally *tally = &summary->tally;
    return tally->last_due_us > 0 ? 1e6 * (double)tally->arrivals / (double)tally->last_due_us
                                  : NAN;
}

bool summary_late(const struct summary *summary)
{
    return (double)summary->tally.late > LATE_SHARE * (double)summary->tally.flights;
}
