/* jansson's memory, and the way out of it when there is none.
 *
 * jansson's lexer does not look whether the buffer of the token it reads could grow: it drops the
 * byte. A prompt loses a character, or the quote that ends a string, and then the lexer copies on
 * until it meets another one somewhere in the heap. So a malloc that fails while a document is read
 * never returns to jansson: json_load jumps out and frees every block the document had by then,
 * which a list through the blocks' headers remembers.
 *
 * Documents that we make ourselves are small, and must be had.
 */
#include "base/alloc.h"
#include "model/json_reader.h"

#include <setjmp.h>
#include <stdlib.h>

/* In front of every block that jansson has. On the list of the document that is being read, or
 * alone: its own neighbour. */
struct block {
    _Alignas(16) struct block *previous;
    struct block *next;
};

struct loading {
    struct block blocks;
    jmp_buf out;
};

static _Thread_local struct loading *loading;

static void link_after(struct block *previous, struct block *block)
{
    block->previous = previous;
    block->next = previous->next;
    block->next->previous = previous->next = block;
}

static void unlink_block(struct block *block)
{
    block->previous->next = block->next;
    block->next->previous = block->previous;
    block->previous = block->next = block;
}

static void *json_malloc(size_t bytes)
{
    if (bytes > SIZE_MAX - sizeof(struct block)) return NULL;
    struct block *block;
    if (!loading) {
        block = must_alloc(sizeof *block + bytes);
        block->previous = block->next = block;
    } else if ((block = try_realloc(NULL, 1, sizeof *block + bytes))) {
        link_after(&loading->blocks, block);
    } else {
        longjmp(loading->out, 1);
    }
    return block + 1;
}

static void json_give_back(void *memory)
{
    if (!memory) return;
    struct block *block = (struct block *)memory - 1;
    unlink_block(block);
    free(block);
}

void json_text_free(char *text)
{
    json_give_back(text);
}

/* Before main, because jansson wants it before any other call. */
__attribute__((constructor)) static void lend_memory_to_jansson(void)
{
    json_set_alloc_funcs(json_malloc, json_give_back);
}

/* Takes every block off the list, and frees it where the document is given up. */
static void leave(struct loading *own, bool give_up)
{
    while (own->blocks.next != &own->blocks) {
        struct block *block = own->blocks.next;
        unlink_block(block);
        if (give_up) free(block);
    }
    loading = NULL;
}

json_t *json_load(const char *text, size_t length, size_t flags, json_error_t *why,
                  bool *short_of_memory)
{
    struct loading own;
    own.blocks.previous = own.blocks.next = &own.blocks;
    *short_of_memory = setjmp(own.out) != 0;
    if (*short_of_memory) {
        leave(&own, true);
        return NULL;
    }
    loading = &own;
    json_t *value = json_loadb(text, length, flags, why);
    leave(&own, false);
    return value;
}
