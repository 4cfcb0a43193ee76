#include "model/special_tokens.h"
#include "base/base.h"
#include "model/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

bool special_tokens_init(struct special_tokens *set, size_t count)
{
    *set = (struct special_tokens){.list = try_alloc(count, sizeof *set->list)};
    return set->list != NULL;
}

void special_tokens_release(struct special_tokens *set)
{
    for (size_t i = 0; i < set->count; i++)
        free((char *)set->list[i].text);
    free(set->list);
    *set = (struct special_tokens){0};
}

bool special_tokens_add(struct special_tokens *set, const struct special_token *token)
{
    char *copy = try_alloc(token->length, 1);
    if (!copy) return false;
    memcpy(copy, token->text, token->length);
    set->list[set->count] = *token;
    set->list[set->count++].text = copy;
    set->starts[(unsigned char)copy[0]] = true;
    return true;
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
            free((char *)next->text);
        else
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

const struct special_token *special_tokens_find(const struct special_tokens *set, const char *text,
                                                size_t length)
{
    const struct special_token *found = special_tokens_at(set, text, length);
    return found && found->length == length ? found : NULL;
}

/* --- what stands beside a match: \w and \s of Rust's regular expressions */

static bool word_character(uint32_t codepoint)
{
    switch (utf8proc_category((utf8proc_int32_t)codepoint)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default: /* letters in circles and squares; the two joiners */
        return (codepoint >= 0x24b6 && codepoint <= 0x24e9) ||
               (codepoint >= 0x1f130 && codepoint <= 0x1f149) ||
               (codepoint >= 0x1f150 && codepoint <= 0x1f169) ||
               (codepoint >= 0x1f170 && codepoint <= 0x1f189) || codepoint == 0x200c ||
               codepoint == 0x200d;
    }
}

static bool white_space(uint32_t c)
{
    return (c >= 9 && c <= 0xd) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

/* The character that ends before text[at], at > 0; broken bytes are no character. */
static struct utf8_step character_before(const char *text, size_t at)
{
    size_t start = at - 1;
    while (start > 0 && at - start < 4 && ((unsigned char)text[start] & 0xc0) == 0x80)
        start--;
    struct utf8_step step = utf8_step(text + start, at - start);
    if (step.kind == UTF8_WHOLE && step.length != at - start) step.kind = UTF8_BROKEN;
    return step;
}

static bool stands_alone(const struct special_scan *scan, size_t start, size_t end)
{
    if (start > 0) {
        struct utf8_step before = character_before(scan->text, start);
        if (before.kind == UTF8_WHOLE && word_character(before.codepoint)) return false;
    }
    if (end == scan->length) return true;
    struct utf8_step behind = utf8_step(scan->text + end, scan->length - end);
    return behind.kind != UTF8_WHOLE || !word_character(behind.codepoint);
}

/* Grows left over white space, but not into what the last match took. */
static size_t strip_left(const struct special_scan *scan, size_t start)
{
    while (start > scan->taken) {
        struct utf8_step before = character_before(scan->text, start);
        if (before.kind != UTF8_WHOLE || !white_space(before.codepoint)) break;
        start -= before.length;
    }
    return start;
}

/* Grows right. White space that the last match took is not walked again, so that a text of a
 * thousand such tokens stays linear. */
static size_t strip_right(const struct special_scan *scan, size_t end)
{
    if (end < scan->taken) end = scan->taken;
    while (end < scan->length) {
        struct utf8_step step = utf8_step(scan->text + end, scan->length - end);
        if (step.kind != UTF8_WHOLE || !white_space(step.codepoint)) break;
        end += step.length;
    }
    return end;
}

const struct special_token *special_scan_next(struct special_scan *scan, size_t *start, size_t *end)
{
    while (scan->from < scan->length) {
        const char *text = scan->text + scan->from;
        if (!scan->set->starts[(unsigned char)*text]) {
            scan->from++;
            continue;
        }
        const struct special_token *found =
            special_tokens_at(scan->set, text, scan->length - scan->from);
        if (!found) {
            scan->from++;
            continue;
        }
        *start = scan->from;
        *end = scan->from += found->length;
        if (found->special && !scan->parse_special) continue;
        if (found->single_word && !stands_alone(scan, *start, *end)) continue;
        if (found->lstrip) *start = strip_left(scan, *start);
        if (found->rstrip) *end = strip_right(scan, *end);
        scan->taken = *end;
        return found;
    }
    return NULL;
}
