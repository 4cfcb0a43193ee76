/* The description of our own API at /openapi.json (OpenAPI 3.1).
 *
 * The text is server/openapi.json, built into the binary. Where this server decides a value (a
 * limit, the model's name, the context) it says {"$fill": NAME}, and openapi_render puts the value
 * there.
 */
#ifndef SERVER_OPENAPI_H
#define SERVER_OPENAPI_H

#include "base/strbuf.h"
#include "server/server.h"

/* Appends the document as it is true of a server with these options and this model. */
void openapi_render(const struct server_options *options, const struct served_model *model,
                    struct strbuf *out);

#endif
