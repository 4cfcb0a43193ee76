/* Service level objectives of a request, in milliseconds: how soon its first token should come
 * (TTFT) and how soon each one after it (TPOT). From `slo` in the body, where a wrong value is
 * refused, or from two headers that win over it. Routers add those to requests that are not theirs,
 * so a header that says nothing usable is as good as none: it never costs a client its answer. */
#ifndef SERVER_REQUEST_SLO_H
#define SERVER_REQUEST_SLO_H

#include "server/request_parse.h"

bool parse_slo(struct api_request *request, struct api_error *error);

/* A header's milliseconds in microseconds; 0: none (NULL), or no number in the range of `slo`. */
int64_t slo_header_us(const char *value);

/* What the headers said replaces what the body said, each target for itself. */
void slo_override(struct api_slo *slo, const struct api_slo *headers);

#endif
