/* Model-driven branches: the tags with which a trained model forks and joins by itself, and a
 * watcher that finds them in the text of one sequence. Works on text, so a tag
 * may be split over any tokens.
 *
 * A block in the words of the fields:
 *
 *     open  plan_open  item_open ITEM item_close ...  fork
 *         (path_prompt ... path_end) for every item, at the same time
 *     join_prompt ... close
 *
 * path_prompt and join_prompt are put there by the engine, everything else the model writes. Blocks
 * follow one another; a block inside a block is not supported and stays plain text.
 */
#ifndef SERVER_TAG_GRAMMAR_H
#define SERVER_TAG_GRAMMAR_H

#include "base/strbuf.h"
#include "server/api_error.h"

#include <jansson.h>
#include <stdint.h>

#define TAG_BYTES        64    /* the longest tag */
#define TAG_PROMPT_BYTES 256   /* the longest path_prompt and join_prompt */
#define TAG_ITEMS_BYTES  16384 /* the items of one block, with what stands around their text */

/* No tag is empty, and none contains another, so at most one ends at any byte; but plan_open may be
 * the same as open: one tag that does both. */
struct tag_grammar {
    char open[TAG_BYTES + 1];
    char plan_open[TAG_BYTES + 1];
    char item_open[TAG_BYTES + 1];
    char item_close[TAG_BYTES + 1];
    char fork[TAG_BYTES + 1];
    char path_end[TAG_BYTES + 1];
    char close[TAG_BYTES + 1];
    char path_prompt[TAG_PROMPT_BYTES + 1]; /* {item} and {index}: outline_fill */
    char join_prompt[TAG_PROMPT_BYTES + 1];
};

/* "multiverse" or "npr"; NULL: no such preset. */
const struct tag_grammar *tag_grammar_preset(const char *name);

/* `branching.grammar`: a preset's name, or an object with every field of the struct, where
 * plan_open may be left out and is then `open`, and no other. */
bool tag_grammar_read(json_t *value, struct tag_grammar *out, struct api_error *error);

/* Where in a block the watched sequence begins. */
enum tag_start {
    TAG_TRUNK,  /* outside any */
    TAG_PATH,   /* behind a path_prompt */
    TAG_JOINED, /* behind a join_prompt */
};

enum tag_event {
    TAG_NONE,
    TAG_FORK,      /* the fork tag of a well-formed block is complete: `items` are the plan */
    TAG_PATH_END,  /* the path's own end tag is complete */
    TAG_MALFORMED, /* a tag where it must not be, no item, an empty one, or too many */
};

struct tag_item {
    size_t offset, length; /* in `text`, without its number and trimmed; may be empty behind one */
};

/* Begins with tag_watcher_init, ends with tag_watcher_release. Each of the events FORK, PATH_END
 * and MALFORMED comes at most once. After FORK or PATH_END the sequence is over as far as the
 * grammar goes: more bytes are plain text. After MALFORMED a trunk's tags are plain text; in a path
 * its end is still found, behind the blocks that opened in it. Holds at most TAG_ITEMS_BYTES and
 * one tag. */
struct tag_watcher {
    const struct tag_grammar *grammar;
    int32_t max_items;
    int state;     /* enum state in the .c file */
    int32_t depth; /* of blocks inside a path */
    bool malformed;
    char tail[TAG_BYTES]; /* the last bytes that may begin a tag */
    size_t tail_length;
    struct strbuf text;
    struct tag_item *items; /* [max_items]; after FORK: count > 0 */
    int32_t count;
};

/* `grammar` outlives the watcher; max_items > 0. */
void tag_watcher_init(struct tag_watcher *watcher, const struct tag_grammar *grammar,
                      enum tag_start start, int32_t max_items);
void tag_watcher_release(struct tag_watcher *watcher);

/* More text of the sequence, up to the first event in it. `*behind`: how many of these bytes lie
 * behind the byte that made the event, 0 without one. They are not taken: after MALFORMED push them
 * again. */
enum tag_event tag_watcher_push(struct tag_watcher *watcher, const char *bytes, size_t length,
                                size_t *behind);

#endif
