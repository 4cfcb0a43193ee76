#include "model/special_tokens.h"
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

bool special_tokens_init(struct special_tokens *set, size_t count)
{
    *set = (struct special_tokens){.list = try_alloc(count, sizeof *set->list)};
    return set->list != NULL;
}

void special_tokens_release(struct special_tokens *set)
{
    free(set->list);
    *set = (struct special_tokens){0};
}

void special_tokens_add(struct special_tokens *set, const char *text, uint32_t length, int32_t id)
{
    set->list[set->count++] = (struct special_token){text, length, id};
    set->starts[(unsigned char)text[0]] = true;
}

/* By bytes, a prefix before what it begins; of equal texts the lowest id first. */
static int compare(const void *a, const void *b)
{
    const struct special_token *x = a, *y = b;
    uint32_t shorter = x->length < y->length ? x->length : y->length;
    int order = memcmp(x->text, y->text, shorter);
    if (order) return order;
    if (x->length != y->length) return x->length < y->length ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

void special_tokens_sort(struct special_tokens *set)
{
    qsort(set->list, set->count, sizeof *set->list, compare);
    size_t kept = 0;
    for (size_t i = 0; i < set->count; i++) {
        const struct special_token *last = kept ? &set->list[kept - 1] : NULL;
        const struct special_token *next = &set->list[i];
        if (last && last->length == next->length && !memcmp(last->text, next->text, last->length))
            continue;
        set->list[kept++] = *next;
    }
    set->count = kept;
}

/* The first index in [low, high) whose byte at `depth` is at least `byte`. All texts there are
 * longer than depth and share their first `depth` bytes. */
static size_t lower_bound(const struct special_tokens *set, size_t low, size_t high, size_t depth,
                          int byte)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((unsigned char)set->list[middle].text[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct special_token *special_tokens_at(const struct special_tokens *set, const char *text,
                                              size_t length)
{
    if (length == 0 || !set->starts[(unsigned char)text[0]]) return NULL;
    const struct special_token *longest = NULL;
    size_t low = 0, high = set->count;
    for (size_t depth = 0; depth < length && low < high; depth++) {
        int byte = (unsigned char)text[depth];
        low = lower_bound(set, low, high, depth, byte);
        high = lower_bound(set, low, high, depth, byte + 1);
        if (low < high && set->list[low].length == depth + 1) longest = &set->list[low++];
    }
    return longest;
}

const struct special_token *special_tokens_next(const struct special_tokens *set, const char *text,
                                                size_t length, size_t from, size_t *at)
{
    for (*at = from; *at < length; ++*at) {
        const struct special_token *found = special_tokens_at(set, text + *at, length - *at);
        if (found) return found;
    }
    return NULL;
}
