#include "server/slo_classes.h"

#include <inttypes.h>
#include <stdio.h>

void slo_classes_init(struct slo_classes *classes)
{
    pthread_mutex_init(&classes->adding, NULL);
}

void slo_classes_release(struct slo_classes *classes)
{
    pthread_mutex_destroy(&classes->adding);
}

static struct slo_class *find(struct slo_classes *classes, int32_t from, int32_t count,
                              const struct request_slo *slo)
{
    for (int32_t i = from; i < count; i++) {
        struct slo_class *class = &classes->all[i];
        if (class->slo.ttft_us == slo->ttft_us && class->slo.tpot_us == slo->tpot_us) return class;
    }
    return NULL;
}

/* Behind the first `seen`, which it is none of. */
static struct slo_class *add(struct slo_classes *classes, int32_t seen,
                             const struct request_slo *slo)
{
    pthread_mutex_lock(&classes->adding);
    int32_t count = atomic_load(&classes->count);
    struct slo_class *class = find(classes, seen, count, slo); /* another thread was faster */
    if (!class && count == SLO_CLASSES) class = &classes->other;
    if (!class) {
        class = &classes->all[count];
        class->slo = *slo;
        atomic_store(&classes->count, count + 1);
    }
    pthread_mutex_unlock(&classes->adding);
    return class;
}

struct slo_class *slo_class_of(struct slo_classes *classes, const struct request_slo *slo)
{
    int32_t count = atomic_load(&classes->count);
    struct slo_class *class = find(classes, 0, count, slo);
    if (class) return class;
    return count == SLO_CLASSES ? &classes->other : add(classes, count, slo);
}

void slo_class_count(struct slo_class *class, bool branching, enum slo_outcome outcome,
                     int64_t tokens)
{
    struct slo_tally *tally = branching ? &class->branching : &class->serial;
    if (outcome == SLO_MET)
        atomic_fetch_add_explicit(&tally->met_tokens, (uint64_t)tokens, memory_order_relaxed);
    atomic_fetch_add_explicit(&tally->requests[outcome], 1, memory_order_relaxed);
}

/* --- text. The values of labels are numbers and words of ours: nothing to escape. */

#define REQUESTS "espalier_slo_requests_total"
#define TOKENS   "espalier_slo_met_tokens_total"

static void target(char *text, size_t size, int64_t us)
{
    if (us)
        snprintf(text, size, "%.15g", (double)us / 1e3);
    else
        snprintf(text, size, "none");
}

static void render_tally(const struct slo_tally *tally, const char *labels, bool tokens,
                         struct strbuf *out)
{
    static const char *const names[SLO_OUTCOMES] = {"met", "missed", "refused"};
    if (tokens) {
        strbuf_format(out, TOKENS "{%s} %" PRIu64 "\n", labels,
                      atomic_load_explicit(&tally->met_tokens, memory_order_relaxed));
        return;
    }
    for (int i = 0; i < SLO_OUTCOMES; i++)
        strbuf_format(out, REQUESTS "{%s,outcome=\"%s\"} %" PRIu64 "\n", labels, names[i],
                      atomic_load_explicit(&tally->requests[i], memory_order_relaxed));
}

static void render_class(const struct slo_class *class, const char *ttft, const char *tpot,
                         bool tokens, struct strbuf *out)
{
    char labels[128];
    snprintf(labels, sizeof labels, "ttft_ms=\"%s\",tpot_ms=\"%s\",shape=\"serial\"", ttft, tpot);
    render_tally(&class->serial, labels, tokens, out);
    snprintf(labels, sizeof labels, "ttft_ms=\"%s\",tpot_ms=\"%s\",shape=\"branching\"", ttft,
             tpot);
    render_tally(&class->branching, labels, tokens, out);
}

static void render(const struct slo_classes *classes, int32_t count, bool tokens,
                   struct strbuf *out)
{
    char ttft[32], tpot[32];
    for (int32_t i = 0; i < count; i++) {
        target(ttft, sizeof ttft, classes->all[i].slo.ttft_us);
        target(tpot, sizeof tpot, classes->all[i].slo.tpot_us);
        render_class(&classes->all[i], ttft, tpot, tokens, out);
    }
    if (count == SLO_CLASSES) render_class(&classes->other, "other", "other", tokens, out);
}

void slo_classes_render(struct slo_classes *classes, struct strbuf *out)
{
    int32_t count = atomic_load(&classes->count); /* the same in both: a scrape has no halves */
    strbuf_text(out, "# HELP " REQUESTS
                     " Requests with an SLO, by their limits and what became of them: met over all "
                     "is attainment.\n# TYPE " REQUESTS " counter\n");
    render(classes, count, false, out);
    strbuf_text(out, "# HELP " TOKENS
                     " Output tokens of requests that met their SLO: their rate is goodput.\n"
                     "# TYPE " TOKENS " counter\n");
    render(classes, count, true, out);
}
