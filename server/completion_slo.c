/* What a completion is to keep to, and whether it did. */
#include "server/completion_private.h"
#include "server/request_slo.h"

/* An answer that is to have no token (a prompt that is only scored) has none to judge. */
static bool asks_for_tokens(const struct api_request *r)
{
    if (!r->stage_count) return r->max_tokens != 0;
    for (size_t i = 0; i < r->stage_count; i++)
        for (size_t j = 0; j < r->stages[i].branch_count; j++)
            if (r->stages[i].branches[j].max_tokens > 0) return true;
    return false;
}

/* A model that branches by its own tags shows it when it does. */
static bool asks_for_branches(const struct api_request *r)
{
    if (r->n > 1) return true;
    for (size_t i = 0; i < r->stage_count; i++)
        if (r->stages[i].parallel) return true;
    return false;
}

void completion_set_slo(struct completion *c)
{
    if (!asks_for_tokens(&c->request)) return;
    c->slo = slo_settle(&c->request.slo, &c->exchange->server->model.slo);
    c->branching = asks_for_branches(&c->request);
}

static struct slo_class *class_of(struct completion *c)
{
    if (slo_is_none(&c->slo)) return NULL;
    return slo_class_of(&c->exchange->server->metrics.slo, &c->slo);
}

void completion_find_class(struct completion *c)
{
    c->slo_class = class_of(c);
}

void completion_count_refusal(struct completion *c, const struct api_error *error)
{
    int status = refusal_status(error->refusal);
    struct slo_class *class = status == 429 || status >= 500 ? class_of(c) : NULL;
    if (class) slo_class_count(class, c->branching, SLO_REFUSED, 0);
}

void completion_judge(struct completion *c)
{
    struct exchange *exchange = c->exchange;
    struct timings *t = &c->timings;
    if (!c->slo_class) return;
    /* Who leaves before the end has not waited for it; who is cut off has. */
    if (c->worst == FINISH_ABORT && atomic_load(&exchange->abandoned)) return;
    t->has_slo = true;
    t->slo_met =
        c->worst < FINISH_ABORT && slo_met(&c->slo, exchange->received_us, c->first_token_us,
                                           c->last_token_us, c->output_tokens);
    slo_class_count(c->slo_class, c->branching, t->slo_met ? SLO_MET : SLO_MISSED,
                    c->output_tokens);
}
