#include "scheduler/ttft.h"

#include "base/base.h"

#include <math.h>
#include <string.h>

#define RETRY_MOST_S 60

/* --- the line */

static void work_add(struct ttft_work *sum, const struct ttft_work *work)
{
    sum->tokens += work->tokens;
    sum->attention += work->attention;
    sum->blocks += work->blocks;
    sum->requests += work->requests;
}

void ttft_line_add(struct ttft_line *line, int32_t priority, const struct ttft_work *work)
{
    struct ttft_level *levels = line->levels;
    int32_t at = 0;
    while (at < line->count && levels[at].priority < priority)
        at++;
    bool there = at < line->count && levels[at].priority == priority;
    if (!there && line->count < TTFT_LEVELS) {
        for (int32_t i = line->count++; i > at; i--)
            levels[i] = levels[i - 1];
        levels[at] = (struct ttft_level){.priority = priority};
    } else if (at == line->count) { /* full: the last level stands for this one too */
        levels[--at].priority = priority;
    }
    work_add(&levels[at].work, work);
}

void ttft_line_add_all(struct ttft_line *line, const struct ttft_line *other)
{
    for (int32_t i = 0; i < other->count; i++)
        ttft_line_add(line, other->levels[i].priority, &other->levels[i].work);
}

struct ttft_work ttft_line_before(const struct ttft_line *line, int32_t priority)
{
    struct ttft_work sum = {0};
    for (int32_t i = 0; i < line->count && line->levels[i].priority <= priority; i++)
        work_add(&sum, &line->levels[i].work);
    return sum;
}

/* --- the prediction */

static double fill_us(const struct ttft_outlook *outlook, int64_t tokens, double attention)
{
    double steps = ceil((double)tokens / outlook->chunk);
    return steps * outlook->step_us + (double)tokens * outlook->token_us +
           attention * outlook->attention_us;
}

/* As many requests must end as are before it and it, less those that there is a place for now; or
 * as give as many KV blocks as are lacking: each what a newcomer takes, since the rest of what it
 * gives is taken by those that run on and grow. */
static double place_us(const struct ttft_outlook *outlook, const struct ttft_work *before,
                       const struct ttft_work *own)
{
    double places = (double)before->requests + own->requests - outlook->places;
    double blocks = (double)(before->blocks + own->blocks - outlook->blocks_free);
    double by_blocks = outlook->admitted_blocks > 0 ? blocks / outlook->admitted_blocks : 0;
    double ends = fmax(places, by_blocks);
    if (ends <= 1 || outlook->running == 0) return 0;
    return outlook->residence_us * (ends - sqrt(ends)) / outlook->running;
}

/* What of the step that runs is over already. */
static double elapsed_us(const struct ttft_outlook *outlook, int64_t now_us)
{
    double step_us = outlook->step_us + outlook->chunk * outlook->token_us;
    if (outlook->running == 0 || now_us <= outlook->at_us) return 0;
    return fmin((double)(now_us - outlook->at_us), step_us);
}

double ttft_predict(const struct ttft_outlook *outlook, int64_t now_us,
                    const struct ttft_work *before, const struct ttft_work *own)
{
    if (outlook->chunk <= 0) return 0;
    double all = fill_us(outlook, before->tokens + own->tokens, before->attention + own->attention);
    double alone = fill_us(outlook, own->tokens, own->attention);
    double us = fmax(all, place_us(outlook, before, own) + alone);
    return fmax(alone, us - elapsed_us(outlook, now_us));
}

bool ttft_in_time(double predicted_us, int64_t limit_us, struct ttft_verdict *verdict)
{
    /* (Not a number is in time, too.) */
    if (limit_us == 0 || !(predicted_us > (double)limit_us)) return true;
    double seconds = ceil((predicted_us - (double)limit_us) * 1e-6);
    *verdict = (struct ttft_verdict){.predicted_us = predicted_us,
                                     .limit_us = limit_us,
                                     .retry_s = (int32_t)fmin(fmax(seconds, 1), RETRY_MOST_S)};
    return false;
}

enum status ttft_fail(const struct ttft_verdict *verdict, struct error *err)
{
    return fail(err, ST_LATE,
                "The first token is predicted to take %.4g s, but it is to come within %.4g s.",
                verdict->predicted_us * 1e-6, (double)verdict->limit_us * 1e-6);
}

enum status admission_parse(const char *text, enum admission *admission, struct error *err)
{
    bool refuse = strcmp(text, "refuse") == 0;
    *admission = refuse ? ADMISSION_REFUSE : ADMISSION_QUEUE;
    if (refuse || strcmp(text, "queue") == 0) return ST_OK;
    return fail(err, ST_USAGE, "--admission: found '%.40s'; queue or refuse is allowed", text);
}
