#include "traces/results/names.h"

#include "base/base.h"

#include <stdlib.h>
#include <string.h>

static uint64_t hash(const char *text, uint32_t tag)
{
    uint64_t h = UINT64_C(14695981039346656037) ^ tag; /* FNV-1a */
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * UINT64_C(1099511628211);
    return mix64(h);
}

/* The slot where it is or belongs. */
static size_t *find_slot(const struct names *names, const char *text, uint32_t tag)
{
    size_t mask = names->slot_count - 1;
    for (size_t at = hash(text, tag) & mask;; at = (at + 1) & mask) {
        size_t found = names->slots[at];
        if (!found || (names->tags[found - 1] == tag && !strcmp(names->texts[found - 1], text)))
            return &names->slots[at];
    }
}

static void grow(struct names *names)
{
    names->capacity = names->capacity ? names->capacity * 2 : 16;
    names->texts = must_realloc(names->texts, names->capacity * sizeof *names->texts);
    names->tags = must_realloc(names->tags, names->capacity * sizeof *names->tags);
    free(names->slots);
    names->slot_count = 4 * names->capacity;
    names->slots = must_alloc(names->slot_count * sizeof *names->slots);
    for (size_t i = 0; i < names->count; i++)
        *find_slot(names, names->texts[i], names->tags[i]) = i + 1;
}

size_t names_find(struct names *names, const char *text, uint32_t tag)
{
    if (names->count == names->capacity) grow(names);
    size_t *slot = find_slot(names, text, tag);
    if (*slot) return *slot - 1;
    names->texts[names->count] = must_strdup(text);
    names->tags[names->count] = tag;
    *slot = ++names->count;
    return names->count - 1;
}

void names_free(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->texts[i]);
    free(names->texts);
    free(names->tags);
    free(names->slots);
    *names = (struct names){0};
}
