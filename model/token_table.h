/* Bytes to an id: an open-addressed table that is built once and then only read.
 *
 * Keys are views: whoever fills the table keeps the bytes. Only the model's own file decides what
 * is inside, so a client cannot make the chains long.
 */
#ifndef MODEL_TOKEN_TABLE_H
#define MODEL_TOKEN_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct token_table {
    struct token_slot {
        const char *key; /* NULL: empty */
        uint32_t length, hash;
        int32_t id;
    } * slots;
    uint32_t mask; /* slots - 1, a power of two minus one */
};

/* Room for `count` keys. False when out of memory. */
bool token_table_init(struct token_table *table, size_t count);
void token_table_release(struct token_table *table);

/* The first id given for a key stays; false when the key was there already. At most `count` calls.
 */
bool token_table_add(struct token_table *table, const char *key, size_t length, int32_t id);

/* -1: not there. */
int32_t token_table_find(const struct token_table *table, const char *key, size_t length);

#endif
