#include "scheduler/predictor.h"

#include "base/base.h"

#include <math.h>

#define FORGET        0.998 /* weight of a step against the one behind it: half after 350 steps */
#define NOISE         0.1   /* deviation of a step, relative to it, that is reckoned with */
#define COMMON        1.0   /* deviation of a prior: of all its parts together... */
#define APART         1.0   /* ...of each for itself */
#define OFFSET        0.2   /* ...and of a range of tokens from the line, relative to the step */
#define OUTLIER       3.0   /* times the usual error: what a single step may be off */
#define LEAST_SPREAD  0.02
#define SPREAD_MEMORY 0.02 /* of the usual error, a step's part */
#define SURE_STEPS    8    /* before, nothing is an outlier */
/* So much slower is a range of twice the tokens of all that were seen; one that was: divided by the
 * steps seen and one. */
#define UNSURE     0.1
#define LEAST      0.05 /* of the prior: what another row, token or slot costs at least */
#define LONGEST_US 1e9

/* --- ranges of tokens: fine where a CPU's steps differ, then the tiles of GPUs (64 and multiples
 * of it), then doubling */

#define TILE      64
#define TILES_UP  1024
#define FINE_BINS 12 /* up to TILE */
#define TILE_BINS 15 /* from there up to TILES_UP */
#define FINE_LAST                                \
    {                                            \
        1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64 \
    }

_Static_assert(FINE_BINS + TILE_BINS + 4 == PREDICTOR_BINS, "ranges of tokens");

static int32_t bin_last(int32_t bin)
{
    static const int32_t fine[FINE_BINS] = FINE_LAST;
    if (bin < FINE_BINS) return fine[bin];
    if (bin < FINE_BINS + TILE_BINS) return TILE * (bin - FINE_BINS + 2);
    return TILES_UP << (bin - FINE_BINS - TILE_BINS + 1);
}

static int32_t bin_first(int32_t bin)
{
    return bin == 0 ? 1 : bin_last(bin - 1) + 1;
}

/* The last range has no end. */
static int32_t bin_of(int32_t tokens)
{
    static const int8_t fine[TILE + 1] = {
        0,  0,  1,  2,  3,  4,  4,  5,  5,  6,  6,  6,  6,  7,  7,  7,  7,  8,  8,  8,  8,  8,
        8,  8,  8,  9,  9,  9,  9,  9,  9,  9,  9,  10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10,
        10, 10, 10, 10, 10, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11};
    if (tokens <= TILE) return fine[max_i32(tokens, 0)];
    if (tokens <= TILES_UP) return FINE_BINS - 1 + (tokens - 1) / TILE;
    int32_t bin = FINE_BINS + TILE_BINS;
    while (bin < PREDICTOR_BINS - 1 && tokens > bin_last(bin))
        bin++;
    return bin;
}

static int32_t tokens_of(const struct step_load *load)
{
    return load->decode_rows + load->prefill_tokens;
}

/* --- the prior */

double step_prior_single_row_us(const struct step_prior *prior)
{
    return prior->fixed_us + prior->token_us + prior->row_us;
}

static double allowed(double us)
{
    return fmax(STEP_PRIOR_LEAST, fmin(us, STEP_PRIOR_MOST));
}

struct step_prior step_prior_scaled(const struct step_prior *prior, double single_row_us)
{
    double before_us = step_prior_single_row_us(prior);
    double scale = before_us > 0 ? single_row_us / before_us : 1;
    return (struct step_prior){allowed(prior->fixed_us * scale), allowed(prior->token_us * scale),
                               allowed(prior->row_us * scale), allowed(prior->context_us * scale),
                               allowed(prior->attention_us * scale)};
}

/* --- what is predicted, from what is learned */

enum { FIXED, TOKEN, ROW, CONTEXT, ATTENTION }; /* the weights; behind them one for each range */

static double at_least(const struct predictor *p, int term)
{
    return fmax(p->weight[term], p->least[term]);
}

/* The learned line of a range, at so many tokens. */
static double fitted_us(const struct predictor *p, int32_t bin, double tokens)
{
    return p->weight[FIXED] + at_least(p, TOKEN) * tokens + p->weight[PREDICTOR_TERMS + bin];
}

/* The ranges that steps were seen of, in order. */
struct known {
    int32_t count, bins[PREDICTOR_BINS];
    double middle_us[PREDICTOR_BINS], low_us[PREDICTOR_BINS], high_us[PREDICTOR_BINS];
};

static double half_width(int32_t bin)
{
    return 0.5 * (bin_last(bin) - bin_first(bin));
}

/* A range that seems faster than those of fewer tokens is as fast as they: the mean of all that
 * contradict each other, by the steps seen (isotonic regression: pool adjacent violators). */
static void find_middles(const struct predictor *p, struct known *known)
{
    double mean[PREDICTOR_BINS], weight[PREDICTOR_BINS];
    int32_t size[PREDICTOR_BINS], pools = 0;
    for (int32_t bin = 0; bin < PREDICTOR_BINS; bin++) {
        if (p->seen[bin] == 0) continue;
        known->bins[known->count++] = bin;
        mean[pools] = fmax(p->least[FIXED], fitted_us(p, bin, bin_first(bin) + half_width(bin)));
        weight[pools] = p->seen[bin];
        size[pools++] = 1;
        for (; pools > 1 && mean[pools - 2] > mean[pools - 1]; pools--) {
            double sum = weight[pools - 2] + weight[pools - 1];
            mean[pools - 2] =
                (mean[pools - 2] * weight[pools - 2] + mean[pools - 1] * weight[pools - 1]) / sum;
            weight[pools - 2] = sum;
            size[pools - 2] += size[pools - 1];
        }
    }
    for (int32_t pool = 0, at = 0; pool < pools; pool++)
        for (int32_t i = 0; i < size[pool]; i++)
            known->middle_us[at++] = mean[pool];
}

/* Each is a line through its middle, flatter where it would end above the beginning of the next. */
static void find_ends(const struct predictor *p, struct known *known)
{
    double token_us = at_least(p, TOKEN);
    for (int32_t i = 0; i < known->count; i++) {
        double half_us = token_us * half_width(known->bins[i]);
        known->low_us[i] = fmax(p->least[FIXED], known->middle_us[i] - half_us);
        known->high_us[i] = known->middle_us[i] + half_us;
        if (i == 0 || known->high_us[i - 1] <= known->low_us[i]) continue;
        double between = 0.5 * (known->high_us[i - 1] + known->low_us[i]);
        between = fmax(known->middle_us[i - 1], fmin(between, known->middle_us[i]));
        known->high_us[i - 1] = known->low_us[i] = between;
    }
}

static void draw_line(struct predictor *p, int32_t bin, double low_us, double high_us)
{
    int32_t further = bin_last(bin) - bin_first(bin);
    p->low_us[bin] = low_us;
    p->slope_us[bin] = further > 0 ? (high_us - low_us) / further : 0;
}

/* What few steps have shown is slower than they say, but not slower than the next range. */
static void draw_known(struct predictor *p, const struct known *known)
{
    for (int32_t i = 0; i < known->count; i++) {
        double most_us = i + 1 < known->count ? known->low_us[i + 1] : INFINITY;
        double careful = 1 + UNSURE / (1 + p->seen[known->bins[i]]);
        draw_line(p, known->bins[i], fmin(most_us, careful * known->low_us[i]),
                  fmin(most_us, careful * known->high_us[i]));
    }
}

static double line_end_us(const struct predictor *p, int32_t bin)
{
    return p->low_us[bin] + p->slope_us[bin] * (bin_last(bin) - bin_first(bin));
}

/* The others go on from the known range before them, at the most that a token costs anywhere, and
 * slower yet, the further away they are: one more row is tried, and so known, before many are. But
 * they are not slower than the known one behind. */
static void draw_unknown(struct predictor *p, const struct known *known)
{
    int32_t next = 0, last = known->count - 1;
    double token_us = at_least(p, TOKEN);
    if (last > 0)
        token_us = fmax(token_us, (known->high_us[last] - known->low_us[0]) /
                                      (bin_last(known->bins[last]) - bin_first(known->bins[0])));
    for (int32_t bin = 0; bin < PREDICTOR_BINS; bin++) {
        if (next <= last && known->bins[next] == bin) {
            next++;
            continue;
        }
        int32_t from = next > 0 ? known->bins[next - 1] : -1;
        double from_us = from >= 0 ? line_end_us(p, from) : p->least[FIXED], ends[2];
        double most_us = next <= last ? p->low_us[known->bins[next]] : INFINITY;
        for (int i = 0; i < 2; i++) {
            int32_t tokens = i == 0 ? bin_first(bin) : bin_last(bin);
            int32_t further = from >= 0 ? tokens - bin_last(from) : 0;
            double away = from >= 0 ? fmin(1, (double)further / bin_last(from)) : 1;
            double us = from >= 0 ? from_us + token_us * further : fitted_us(p, bin, tokens);
            us *= 1 + UNSURE * away;
            ends[i] = fmax(from_us, fmin(us, most_us));
        }
        draw_line(p, bin, ends[0], ends[1]);
    }
    p->slope_us[PREDICTOR_BINS - 1] = fmax(token_us, p->slope_us[PREDICTOR_BINS - 1]);
}

/* What things cost at least: a part of the prior, which may have been measured in a bad moment and
 * is worth only as much as the single row that is known by now. */
static void set_least(struct predictor *p)
{
    const double *prior = p->prior;
    double single_us = prior[FIXED] + prior[TOKEN] + prior[ROW];
    double scale = (fitted_us(p, 0, 1) + p->weight[ROW]) / single_us;
    scale = LEAST * fmax(LEAST, fmin(scale, 1));
    for (int i = 0; i < PREDICTOR_TERMS; i++)
        p->least[i] = prior[i] * scale;
}

static void draw(struct predictor *p)
{
    set_least(p);
    struct known known = {0};
    find_middles(p, &known);
    find_ends(p, &known);
    draw_known(p, &known);
    draw_unknown(p, &known);
    p->row_us = at_least(p, ROW);
    p->context_us = at_least(p, CONTEXT);
    p->attention_us = at_least(p, ATTENTION);
}

double predictor_predict(const struct predictor *p, const struct step_load *load)
{
    int32_t tokens = tokens_of(load), bin = bin_of(tokens);
    double us = p->low_us[bin] + p->slope_us[bin] * max_i32(0, tokens - bin_first(bin)) +
                p->row_us * load->decode_rows + p->context_us * (double)load->context_read +
                p->attention_us * load->prefill_attention;
    return fmin(us, LONGEST_US);
}

/* --- learning */

void predictor_init(struct predictor *p, enum shared_prefix shared, const struct step_prior *prior)
{
    const double guess[PREDICTOR_TERMS] = {prior->fixed_us, prior->token_us, prior->row_us,
                                           prior->context_us, prior->attention_us};
    *p = (struct predictor){.shared = shared};
    for (int i = 0; i < PREDICTOR_TERMS; i++) {
        p->weight[i] = p->prior[i] = guess[i];
        for (int k = 0; k < PREDICTOR_TERMS; k++)
            p->covariance[i][k] = COMMON * COMMON * guess[i] * guess[k];
        p->covariance[i][i] += APART * APART * guess[i] * guess[i];
    }
    for (int32_t bin = 0; bin < PREDICTOR_BINS; bin++) {
        double off = OFFSET * (guess[FIXED] + guess[TOKEN] * bin_last(bin));
        p->covariance[PREDICTOR_TERMS + bin][PREDICTOR_TERMS + bin] = off * off;
    }
    for (int i = 0; i < PREDICTOR_WEIGHTS; i++)
        p->most[i] = p->covariance[i][i];
    draw(p);
}

/* The error that is learned from: as it is, or the most that is usual. */
static double bounded_error(struct predictor *p, double error)
{
    double most = OUTLIER * p->spread;
    bool sure = p->steps >= SURE_STEPS;
    if (sure && fabs(error) > most) error = copysign(most, error);
    double part = sure ? SPREAD_MEMORY : 1.0 / (double)(p->steps + 1);
    p->spread = fmax(LEAST_SPREAD, p->spread + part * (fabs(error) - p->spread));
    return error;
}

/* One step of x * weights + offset * the range's = 1 +- NOISE, off by `error`. Afterwards all are
 * less sure by what is forgotten, but not less than the prior. */
static void learn(struct predictor *p, const double x[PREDICTOR_TERMS], int32_t bin, double offset,
                  double error)
{
    double gain[PREDICTOR_WEIGHTS], keep[PREDICTOR_WEIGHTS], known = NOISE * NOISE;
    int range = PREDICTOR_TERMS + bin;
    for (int i = 0; i < PREDICTOR_WEIGHTS; i++) {
        gain[i] = p->covariance[range][i] * offset;
        for (int k = 0; k < PREDICTOR_TERMS; k++)
            gain[i] += p->covariance[k][i] * x[k];
    }
    for (int k = 0; k < PREDICTOR_TERMS; k++)
        known += x[k] * gain[k];
    known = fmax(NOISE * NOISE, known + offset * gain[range]);
    for (int i = 0; i < PREDICTOR_WEIGHTS; i++) {
        p->weight[i] += gain[i] / known * error;
        double variance = (p->covariance[i][i] - gain[i] * gain[i] / known) / FORGET;
        keep[i] = sqrt((variance > p->most[i] ? p->most[i] / variance : 1) / FORGET);
    }
    double root = 1 / sqrt(known);
    for (int i = 0; i < PREDICTOR_WEIGHTS; i++) {
        double part = gain[i] * root, keep_i = keep[i];
        for (int k = 0; k < PREDICTOR_WEIGHTS; k++) /* the same bits for (i, k) and (k, i) */
            p->covariance[i][k] =
                (p->covariance[i][k] - part * (gain[k] * root)) * (keep_i * keep[k]);
    }
}

void predictor_observe(struct predictor *p, const struct step_load *load, double us)
{
    if (!(us > 0 && us <= LONGEST_US) || tokens_of(load) < 1) return;
    us = fmax(1, us);
    int32_t bin = bin_of(tokens_of(load));
    double x[PREDICTOR_TERMS] = {1, tokens_of(load), load->decode_rows, (double)load->context_read,
                                 load->prefill_attention};
    double sum = p->weight[PREDICTOR_TERMS + bin];
    for (int i = 0; i < PREDICTOR_TERMS; i++)
        sum += x[i] * p->weight[i];
    /* Of the longer of the two: else the steps that were fast would count most. */
    double whole = fmax(us, sum);
    for (int i = 0; i < PREDICTOR_TERMS; i++)
        x[i] /= whole;
    learn(p, x, bin, 1 / whole, bounded_error(p, (us - sum) / whole));
    if (p->seen[bin] < INT32_MAX) p->seen[bin]++;
    p->steps++;
    draw(p);
}

/* --- kept */

void predictor_save(const struct predictor *p, double numbers[PREDICTOR_NUMBERS])
{
    *numbers++ = (double)p->steps;
    *numbers++ = p->spread;
    for (int32_t bin = 0; bin < PREDICTOR_BINS; bin++)
        *numbers++ = p->seen[bin];
    for (int i = 0; i < PREDICTOR_WEIGHTS; i++)
        *numbers++ = p->weight[i];
    for (int i = 0; i < PREDICTOR_WEIGHTS; i++)
        for (int k = 0; k <= i; k++)
            *numbers++ = p->covariance[i][k];
}

static bool is_count(double number, double most)
{
    return number >= 0 && number <= most && number == floor(number);
}

/* Of weights that the prior allows: none surer than certain, or less sure than the prior. */
static bool covariance_fits(const struct predictor *p)
{
    const double slack = 1 + 1e-6;
    for (int i = 0; i < PREDICTOR_WEIGHTS; i++) {
        double variance = p->covariance[i][i];
        if (!(variance > 0 && variance <= p->most[i] * slack)) return false;
        for (int k = 0; k < i; k++)
            if (!(fabs(p->covariance[i][k]) <= sqrt(variance * p->covariance[k][k]) * slack))
                return false;
    }
    return true;
}

bool predictor_restore(struct predictor *p, const double numbers[PREDICTOR_NUMBERS])
{
    struct predictor kept = *p;
    bool fits = is_count(numbers[0], 1e15) && numbers[1] >= LEAST_SPREAD && numbers[1] <= 1 / NOISE;
    if (!fits) return false;
    kept.steps = (int64_t)*numbers++;
    kept.spread = *numbers++;
    for (int32_t bin = 0; bin < PREDICTOR_BINS; bin++, numbers++) {
        if (!is_count(*numbers, INT32_MAX)) return false;
        kept.seen[bin] = (int32_t)*numbers;
    }
    for (int i = 0; i < PREDICTOR_WEIGHTS; i++, numbers++) {
        if (!(fabs(*numbers) <= LONGEST_US)) return false;
        kept.weight[i] = *numbers;
    }
    for (int i = 0; i < PREDICTOR_WEIGHTS; i++)
        for (int k = 0; k <= i; k++)
            kept.covariance[i][k] = kept.covariance[k][i] = *numbers++;
    if (!covariance_fits(&kept)) return false;
    *p = kept;
    draw(p);
    return true;
}

static double predict(const void *self, const struct step_load *load)
{
    return predictor_predict(self, load);
}

static void observe(void *self, const struct step_load *load, double us)
{
    predictor_observe(self, load, us);
}

struct step_predictor predictor_door(struct predictor *predictor)
{
    return (struct step_predictor){predict, observe, predictor, predictor->shared};
}
