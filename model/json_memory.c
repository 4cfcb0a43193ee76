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

/* A document that is being read, and its blocks so far. */
struct loading {
    void **blocks;
    size_t count, capacity;
    jmp_buf out;
};

static _Thread_local struct loading *loading;

static void *must_have(void *memory)
{
    if (!memory) longjmp(loading->out, 1);
    return memory;
}

static void *json_malloc(size_t bytes)
{
    struct loading *l = loading;
    if (!l) return must_alloc(bytes);
    if (l->count == l->capacity) {
        size_t capacity = l->capacity ? l->capacity * 2 : 64;
        l->blocks = must_have(try_realloc(l->blocks, capacity, sizeof *l->blocks));
        l->capacity = capacity;
    }
    void *memory = must_have(try_realloc(NULL, 1, bytes)); /* may not return: count it afterwards */
    return l->blocks[l->count++] = memory;
}

/* What is given back while a document is read is young: it is found near the end. */
static void json_give_back(void *memory)
{
    struct loading *l = memory ? loading : NULL;
    for (size_t i = l ? l->count : 0; i-- > 0;) {
        if (l->blocks[i] != memory) continue;
        l->blocks[i] = l->blocks[--l->count];
        break;
    }
    free(memory);
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
        own.count = 0; /* they belong to the document now */
        *short_of_memory = false;
    } else {
        *short_of_memory = true;
    }
    loading = NULL;
    for (size_t i = 0; i < own.count; i++)
        free(own.blocks[i]);
    free(own.blocks);
    return *short_of_memory ? NULL : value;
}
