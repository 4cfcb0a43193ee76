/* A chat as JSON: what `espalier tokenize --chat` reads. */
#ifndef MODEL_CHAT_JSON_H
#define MODEL_CHAT_JSON_H

#include "model/chat.h"

#include <jansson.h>

/* A list of messages, or {"messages": [...]} with any of add_generation_prompt (default true),
 * continue_final_message, enable_thinking and date_string. Fills *chat (not its family) with views
 * of `document`, except chat->messages: the caller frees that. ST_INVALID names what is wrong. */
enum status chat_from_json(const json_t *document, struct chat *chat, struct error *err);

#endif
