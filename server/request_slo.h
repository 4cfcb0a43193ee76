/* Service level objectives of a request, in milliseconds: how soon its first token should come
 * (TTFT) and how soon each one after it (TPOT). Each target for itself, from
 *   two headers, which win. Routers add them to requests that are not theirs, so a header that says
 *                nothing usable is as good as none: it never costs a client its answer;
 *   `slo` in the body, where a wrong value is refused; null, as everywhere, means the default;
 *   the server   (slo_options.h), for what neither names.
 * "none" in one of the first two means no limit, whatever stands behind it.
 */
#ifndef SERVER_REQUEST_SLO_H
#define SERVER_REQUEST_SLO_H

#include "server/request_parse.h"

#define SLO_LEAST_US 1
#define SLO_MOST_US  INT64_C(1000000000000) /* eleven days */

bool parse_slo(struct api_request *request, struct api_error *error);

/* What a header names: API_SLO_NONE, microseconds, or 0: nothing usable (NULL too). */
int64_t slo_header_us(const char *value);

/* What the headers named replaces what the body named. */
void slo_override(struct api_slo *slo, const struct api_slo *headers);

/* What the request is to keep to, on a server whose own SLO is `server`. */
struct request_slo slo_settle(const struct api_slo *named, const struct request_slo *server);

#endif
