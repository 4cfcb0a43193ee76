/* Service level objectives of a request, in milliseconds: how soon its first token should come
 * (TTFT) and how soon each one after it (TPOT). From `slo` in the body, or from two headers that
 * win over it. */
#ifndef SERVER_REQUEST_SLO_H
#define SERVER_REQUEST_SLO_H

#include "server/request_parse.h"

bool parse_slo(struct api_request *request, struct api_error *error);

/* The value of the header `name` in microseconds; NULL is no header and changes nothing. */
bool parse_slo_header(const char *name, const char *value, int64_t *us, struct api_error *error);

/* What the headers said replaces what the body said, each target for itself. */
void slo_override(struct api_slo *slo, const struct api_slo *headers);

#endif
