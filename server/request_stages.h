/* The fields that split an answer into branches: `stages` and `branching`. From JSON to a checked
 * structure; nothing is tokenized or run here.
 *
 * Inside a stage or branch a name that is not known is refused, unlike at the top: a misspelt one
 * would change the answer in silence. Every refusal names the part, as
 * "stages[1].branches[0].max_tokens".
 */
#ifndef SERVER_REQUEST_STAGES_H
#define SERVER_REQUEST_STAGES_H

#include "server/request_parse.h"

/* After all other fields of the request, whose values they depend on. */
bool parse_stages(struct api_request *request, const struct server_limits *limits, int32_t vocab,
                  struct api_error *error);
bool parse_branching(struct api_request *request, struct api_error *error);

/* Whatever the two filled, also where they refused. */
void release_stages(struct api_request *request);

#endif
