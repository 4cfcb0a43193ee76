/* jansson's memory, and the way out of it when there is none.
 *
 * jansson's lexer does not look whether the buffer of the token it reads could grow: it drops the
 * byte. A prompt loses a character, or the quote that ends a string, and then the lexer copies on
 * until it meets another one somewhere in the heap. So a malloc that fails while a document is read
 * never returns to jansson: json_load jumps out and frees every block that the document had.
 *
 * Documents that we make ourselves are small, and must be had.
 */
#include "base/alloc.h"
#include "model/json_reader.h"

#include <setjmp.h>
#include <stdlib.h>

struct block_list {
    void **blocks;
    size_t count, capacity;
};

/* A document that is being read. */
struct loading {
    struct block_list held; /* its blocks so far */
    struct block_list late; /* of these, what was given back and could not be found at once */
    jmp_buf out;
};

static _Thread_local struct loading *loading;

static void *must_have(void *memory)
{
    if (!memory) longjmp(loading->out, 1);
    return memory;
}

static void append(struct block_list *list, void *memory)
{
    list->blocks[list->count++] = memory;
}

static void make_room(struct block_list *list)
{
    if (list->count < list->capacity) return;
    size_t capacity = list->capacity ? list->capacity * 2 : 64;
    list->blocks = must_have(try_realloc(list->blocks, capacity, sizeof *list->blocks));
    list->capacity = capacity;
}

static void *json_malloc(size_t bytes)
{
    struct loading *l = loading;
    if (!l) return must_alloc(bytes);
    make_room(&l->held);
    void *memory = must_have(try_realloc(NULL, 1, bytes)); /* may not return: list it afterwards */
    append(&l->held, memory);
    return memory;
}

/* Most of what is given back while a document is read is young. A document that turns out to be
 * broken is given back from its beginning: to look for each of its blocks among all would take
 * quadratic time, and a client chooses that length. */
#define YOUNG 64

static void json_give_back(void *memory)
{
    struct loading *l = memory ? loading : NULL;
    struct block_list *held = l ? &l->held : NULL;
    for (size_t i = 0; l && i < YOUNG && i < held->count; i++) {
        void **found = &held->blocks[held->count - 1 - i];
        if (*found != memory) continue;
        *found = held->blocks[--held->count];
        l = NULL;
    }
    if (!l) {
        free(memory);
        return;
    }
    make_room(&l->late);
    append(&l->late, memory);
}

static void free_blocks(struct block_list *list, bool with_memory)
{
    for (size_t i = 0; with_memory && i < list->count; i++)
        free(list->blocks[i]);
    free(list->blocks);
}

/* Before main, because jansson wants it before any other call. */
__attribute__((constructor)) static void lend_memory_to_jansson(void)
{
    json_set_alloc_funcs(json_malloc, json_give_back);
}

json_t *json_load(const char *text, size_t length, size_t flags, json_error_t *why,
                  bool *short_of_memory)
{
    struct loading own = {0};
    json_t *value = NULL;
    loading = &own;
    if (setjmp(own.out) == 0) {
        value = json_loadb(text, length, flags, why);
        *short_of_memory = false;
    } else {
        *short_of_memory = true;
    }
    loading = NULL;
    /* What is held belongs to the document now, or else to nobody; what came late is among it. */
    free_blocks(&own.held, *short_of_memory);
    free_blocks(&own.late, !*short_of_memory);
    return *short_of_memory ? NULL : value;
}
