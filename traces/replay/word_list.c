#include "traces/replay/word_list.h"
#include "base/base.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WORDS 8192
#define SLOTS     (4 * MAX_WORDS)
#define MAX_TEXT  (4u << 20)

static const char common[] =
    "the of and to in is that it was for on are as with his they at be this have from or had "
    "by hot but some what there we can out other were all your when up use word how said an "
    "each she which do their time if will way about many then them would write like so these "
    "her long make thing see him two has look more day could go come did my sound no most "
    "number who over know water than call first people may down side been now find any new "
    "work part take get place made live where after back little only round man year came show "
    "every good me give our under name very through just form great think say help low line "
    "before turn cause same mean differ move right boy old too does tell sentence set three "
    "want air well also play small end put home read hand port large spell add even land here "
    "must big high such follow act why ask men change went light kind off need house picture "
    "try us again animal point mother world near build self earth father head stand own page "
    "should country found answer school grow study still learn plant cover food sun four "
    "thought let keep eye never last door between city tree cross since hard start might "
    "story saw far sea draw left late run while press close night real life few stop open "
    "seem together next white children begin got walk example paper often always music those "
    "both mark book letter until mile river car feet care second group carry took rain eat "
    "room friend began idea fish mountain north once base hear horse cut sure watch color "
    "face wood main enough plain girl usual young ready above ever red list though feel talk "
    "bird soon body dog family direct leave song measure state product black short class wind "
    "question happen complete ship area half rock order fire south problem piece told knew "
    "pass farm top whole king size heard best hour better true during hundred remember step "
    "early hold west ground interest reach fast five sing listen six table travel less "
    "morning ten simple several toward war lay against pattern slow center love person money "
    "serve appear road map science rule govern pull cold notice voice fall power town fine "
    "certain fly unit lead cry dark machine note wait plan figure star box noun field rest "
    "correct able pound done beauty drive stood contain front teach week";

void word_list_common(struct word_list *list)
{
    char *copy = must_strdup(common), *rest = copy;
    *list = (struct word_list){0};
    for (char *word; (word = strsep(&rest, " "));) {
        list->words = must_realloc(list->words, (list->count + 1) * sizeof *list->words);
        struct word *next = &list->words[list->count++];
        snprintf(next->text, sizeof next->text, "%s", word);
        next->id = -1;
    }
    free(copy);
}

/* The number of a word, new ones at the end; -1: there are too many. `slots` has index + 1. */
static int64_t number_of(struct word_list *list, uint32_t *slots, const char *text)
{
    uint64_t hash = 0;
    for (const char *c = text; *c; c++)
        hash = mix64(hash + (unsigned char)*c + 1);
    size_t slot = hash % SLOTS;
    for (; slots[slot]; slot = (slot + 1) % SLOTS)
        if (!strcmp(list->words[slots[slot] - 1].text, text)) return slots[slot] - 1;
    if (list->count == MAX_WORDS) return -1;
    list->words = must_realloc(list->words, (list->count + 1) * sizeof *list->words);
    struct word *word = &list->words[list->count++];
    snprintf(word->text, sizeof word->text, "%s", text);
    word->id = -1;
    slots[slot] = (uint32_t)list->count;
    return (int64_t)list->count - 1;
}

static void place(struct word_list *list, int64_t number, size_t *room)
{
    if (number < 0) return;
    if (list->order_count == *room) {
        *room = *room ? 2 * *room : 1024;
        list->order = must_realloc(list->order, *room * sizeof *list->order);
    }
    list->order[list->order_count++] = (uint32_t)number;
}

static void read_words(FILE *in, struct word_list *list)
{
    uint32_t *slots = must_alloc(SLOTS * sizeof *slots);
    char text[WORD_ROOM];
    size_t length = 0, room = 0;
    bool plain = true;
    for (size_t i = 0; i < MAX_TEXT; i++) {
        int c = getc(in);
        if (c != EOF && !isspace(c)) {
            plain = plain && isalpha(c) && c < 0x80 && length + 1 < sizeof text;
            if (plain) text[length++] = (char)c;
            continue;
        }
        text[length] = 0;
        if (plain && length) place(list, number_of(list, slots, text), &room);
        length = 0;
        plain = true;
        if (c == EOF) break;
    }
    free(slots);
}

enum status word_list_read(const char *path, struct word_list *list, struct error *err)
{
    *list = (struct word_list){0};
    FILE *in = fopen(path, "re");
    if (!in) return fail(err, ST_IO, "--corpus: cannot open %s: %s", path, strerror(errno));
    read_words(in, list);
    bool failed = ferror(in);
    fclose(in);
    if (!failed && list->count >= 16) return ST_OK;
    word_list_free(list);
    if (failed) return fail(err, ST_IO, "--corpus: cannot read %s: %s", path, strerror(errno));
    return fail(err, ST_INVALID,
                "--corpus: %s has fewer than 16 different words of letters with blanks around them",
                path);
}

void word_list_filter(struct word_list *list, const unsigned char *keep)
{
    uint32_t *renamed = must_alloc((list->count + 1) * sizeof *renamed);
    size_t count = 0, places = 0;
    for (size_t i = 0; i < list->count; i++) {
        renamed[i] = (uint32_t)count;
        if (keep[i]) list->words[count++] = list->words[i];
    }
    for (size_t i = 0; i < list->order_count; i++)
        if (keep[list->order[i]]) list->order[places++] = renamed[list->order[i]];
    list->count = count;
    list->order_count = places;
    free(renamed);
}

void word_list_free(struct word_list *list)
{
    free(list->words);
    free(list->order);
    *list = (struct word_list){0};
}
