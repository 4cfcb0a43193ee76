#include "model/split_pattern.h"
#include "base/base.h"
#include "model/utf8.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Members of Oniguruma's sets, to be put inside brackets. \s is Unicode's White_Space, where PCRE2
 * also takes U+180E. */
#define SPACE                                                                                   \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}" \
    "\\x{205f}\\x{3000}"
#define NO_SPACE                                                                   \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}"   \
    "\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}" \
    "\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
/* The six Latin-1 signs are not letters to Unicode; Oniguruma has them all the same. */
#define WORD       "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define HEX        "0-9a-fA-F"
#define AFTER      "(?<=[" WORD "])"
#define NOT_AFTER  "(?<![" WORD "])"
#define BEFORE     "(?=[" WORD "])"
#define NOT_BEFORE "(?![" WORD "])"

#define MAX_GROUPS 64 /* nested; PCRE2 itself allows 250 */
#define NO_ATOM    SIZE_MAX

struct translation {
    const char *text;
    size_t length, at;
    struct strbuf *out;
    size_t atom; /* in `out`: what a quantifier would repeat begins here, or NO_ATOM */
    size_t groups[MAX_GROUPS];
    size_t depth;
    struct error *err;
};

static enum status refuse(const struct translation *t, size_t at, const char *what)
{
    size_t shown = t->length - at < 12 ? t->length - at : 12;
    return fail(t->err, ST_UNSUPPORTED, "pattern: %s at byte %zu ('%.*s') is not supported", what,
                at, (int)shown, t->text + at);
}

/* The byte `ahead` of the reader, or 0 past the end (no rule below looks for a NUL). */
static unsigned char peek(const struct translation *t, size_t ahead)
{
    return ahead < t->length - t->at ? (unsigned char)t->text[t->at + ahead] : 0;
}

static bool alphanumeric(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* --- \p{...} */

/* General categories by their long names. Everything else of more than two letters is a script
 * unless it is one of the properties below. */
static const struct {
    const char *name, *category;
} categories[] = {{"Letter", "L"},
                  {"Mark", "M"},
                  {"Number", "N"},
                  {"Punctuation", "P"},
                  {"Punct", "P"},
                  {"Symbol", "S"},
                  {"Separator", "Z"},
                  {"Other", "C"},
                  {"Uppercase_Letter", "Lu"},
                  {"Lowercase_Letter", "Ll"},
                  {"Titlecase_Letter", "Lt"},
                  {"Modifier_Letter", "Lm"},
                  {"Other_Letter", "Lo"},
                  {"Nonspacing_Mark", "Mn"},
                  {"Spacing_Mark", "Mc"},
                  {"Decimal_Number", "Nd"},
                  {"Letter_Number", "Nl"},
                  {"Other_Number", "No"},
                  {"Alphabetic", "Alphabetic"},
                  {"Uppercase", "Uppercase"},
                  {"Lowercase", "Lowercase"},
                  {"Ideographic", "Ideographic"},
                  {"Emoji", "Emoji"},
                  {"Extended_Pictographic", "Extended_Pictographic"}};

/* \p{Han} means the script itself: PCRE2 would add every character that the script shares. */
static void write_property(struct strbuf *out, char letter, bool negated, const char *name,
                           size_t length)
{
    bool inverse = (letter == 'P') != negated;
    strbuf_format(out, "\\%c{", inverse ? 'P' : 'p');
    for (size_t i = 0; i < COUNT_OF(categories); i++) {
        if (strlen(categories[i].name) == length && !memcmp(categories[i].name, name, length)) {
            strbuf_format(out, "%s}", categories[i].category);
            return;
        }
    }
    strbuf_format(out, "%s%.*s}", length > 2 ? "sc:" : "", (int)length, name);
}

static enum status read_property(struct translation *t)
{
    size_t begin = t->at;
    char letter = t->text[t->at + 1];
    if (peek(t, 2) != '{') return refuse(t, begin, "a property without braces");
    t->at += 3;
    bool negated = peek(t, 0) == '^';
    t->at += negated;
    size_t name = t->at;
    while (alphanumeric(peek(t, 0)) || peek(t, 0) == '_')
        t->at++;
    if (peek(t, 0) != '}' || t->at == name || t->at - name > 40)
        return refuse(t, begin, "this property");
    write_property(t->out, letter, negated, t->text + name, t->at - name);
    t->at++;
    return ST_OK;
}

/* --- characters by number: \x41, \x{1F600}, \u0041 */

static enum status read_number(struct translation *t)
{
    size_t begin = t->at, digits = 0, limit = 8;
    bool braces = peek(t, 1) == 'x' && peek(t, 2) == '{';
    if (!braces) limit = peek(t, 1) == 'x' ? 2 : 4;
    t->at += braces ? 3 : 2;
    char number[9] = "";
    while (digits < limit && peek(t, 0) && strchr("0123456789abcdefABCDEF", peek(t, 0)))
        number[digits++] = t->text[t->at++];
    bool complete = braces ? digits > 0 && peek(t, 0) == '}' : digits == limit;
    unsigned long value = strtoul(number, NULL, 16);
    /* Two digits give a byte: above 7f a part of a character. */
    if (!complete || (limit == 2 && value > 0x7f)) return refuse(t, begin, "this number");
    t->at += braces;
    strbuf_format(t->out, "\\x{%lx}", value);
    return ST_OK;
}

/* --- escapes */

/* The members of a set escape, NULL when `c` is none or its members cannot be listed. */
static const char *set_members(unsigned char c)
{
    switch (c) {
    case 's':
        return SPACE;
    case 'S':
        return NO_SPACE;
    case 'd':
        return "\\p{Nd}";
    case 'D':
        return "\\P{Nd}";
    case 'w':
        return WORD;
    case 'h':
        return HEX;
    default:
        return NULL;
    }
}

/* An escape that is one character, the same inside brackets and outside. */
static enum status read_character(struct translation *t)
{
    size_t begin = t->at;
    unsigned char c = peek(t, 1);
    if (c == 'x' || c == 'u') return read_number(t);
    if (c == 'v') {
        strbuf_text(t->out, "\\x{b}");
    } else if (c && (strchr("rntfae", c) || (c < 0x80 && !alphanumeric(c)))) {
        strbuf_append(t->out, t->text + t->at, 2);
    } else if (c >= 0x80) {
        size_t length = utf8_step(t->text + t->at + 1, t->length - t->at - 1).length;
        strbuf_append(t->out, t->text + t->at + 1, length);
        t->at += length - 1;
    } else {
        return refuse(t, begin, "this escape");
    }
    t->at += 2;
    return ST_OK;
}

static enum status read_escape(struct translation *t)
{
    unsigned char c = peek(t, 1);
    const char *whole = c == 'b'   ? "(?:" AFTER NOT_BEFORE "|" NOT_AFTER BEFORE ")"
                        : c == 'B' ? "(?:" AFTER BEFORE "|" NOT_AFTER NOT_BEFORE ")"
                        : c == 'W' ? "[^" WORD "]"
                        : c == 'H' ? "[^" HEX "]"
                        : c == 'A' ? "\\A"
                        : c == 'z' ? "\\z"
                        : c == 'Z' ? "\\Z"
                                   : NULL;
    t->atom = t->out->length;
    if (c == 'p' || c == 'P') return read_property(t);
    if (!whole && !set_members(c)) return read_character(t);
    if (whole)
        strbuf_text(t->out, whole);
    else
        strbuf_format(t->out, "[%s]", set_members(c));
    t->at += 2;
    return ST_OK;
}

/* --- [...] */

static bool set_follows(const struct translation *t, size_t ahead)
{
    unsigned char c = peek(t, ahead + 1);
    return peek(t, ahead) == '\\' && (set_members(c) || c == 'p' || c == 'P');
}

/* One member; *was_set: the one before was a set, so that a minus cannot mean a range. */
static enum status read_member(struct translation *t, bool *was_set)
{
    unsigned char c = peek(t, 0);
    bool set = false;
    if (c == '[') return refuse(t, t->at, "a class inside a class");
    if (c == '&' && peek(t, 1) == '&') return refuse(t, t->at, "an intersection of classes");
    if (set_follows(t, 0)) {
        set = true;
        const char *members = set_members(peek(t, 1));
        if (!members) {
            enum status status = read_property(t);
            if (status) return status;
        } else {
            strbuf_text(t->out, members);
            t->at += 2;
        }
    } else if (c == '\\') {
        if (peek(t, 1) == 'b') return refuse(t, t->at, "a backspace");
        enum status status = read_character(t);
        if (status) return status;
    } else {
        if (c == '-' && (*was_set || set_follows(t, 1))) strbuf_char(t->out, '\\');
        strbuf_char(t->out, (char)c);
        t->at++;
    }
    *was_set = set;
    return ST_OK;
}

static enum status read_class(struct translation *t)
{
    size_t begin = t->at;
    bool was_set = false;
    t->atom = t->out->length;
    strbuf_char(t->out, '[');
    t->at++;
    if (peek(t, 0) == '^') {
        strbuf_char(t->out, '^');
        t->at++;
    }
    if (peek(t, 0) == ']') { /* the first one is a member */
        strbuf_text(t->out, "\\]");
        t->at++;
    }
    while (t->at < t->length && t->text[t->at] != ']') {
        enum status status = read_member(t, &was_set);
        if (status) return status;
    }
    if (t->at == t->length) return refuse(t, begin, "a class without end");
    strbuf_char(t->out, ']');
    t->at++;
    return ST_OK;
}

/* --- groups */

static enum status open_group(struct translation *t)
{
    static const struct {
        const char *from, *to;
    } kinds[] = {{"(?:", "(?:"},   {"(?=", "(?="},     {"(?!", "(?!"},     {"(?>", "(?>"},
                 {"(?<=", "(?<="}, {"(?<!", "(?<!"},   {"(?i:", "(?i:"},   {"(?-i:", "(?-i:"},
                 {"(?m:", "(?s:"}, {"(?-m:", "(?-s:"}, {"(?im:", "(?is:"}, {"(?mi:", "(?is:"}};
    if (t->depth == MAX_GROUPS) return refuse(t, t->at, "deeper nesting of groups");
    t->groups[t->depth++] = t->out->length;
    t->atom = NO_ATOM;
    if (peek(t, 1) != '?') {
        strbuf_text(t->out, "(?:");
        t->at++;
        return ST_OK;
    }
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        size_t length = strlen(kinds[i].from);
        if (length > t->length - t->at || memcmp(t->text + t->at, kinds[i].from, length)) continue;
        strbuf_text(t->out, kinds[i].to);
        t->at += length;
        return ST_OK;
    }
    return refuse(t, t->at, "this kind of group");
}

static enum status close_group(struct translation *t)
{
    if (t->depth == 0) return refuse(t, t->at, "a ')' without its '('");
    t->atom = t->groups[--t->depth];
    strbuf_char(t->out, ')');
    t->at++;
    return ST_OK;
}

/* --- quantifiers */

/* The bytes of {n}, {n,}, {,m} or {n,m} at the reader; 0 when the brace is a character. */
static size_t interval_length(const struct translation *t, bool *exact, bool *no_minimum)
{
    size_t i = 1, digits = 0;
    for (; peek(t, i) >= '0' && peek(t, i) <= '9'; i++)
        digits++;
    *no_minimum = digits == 0;
    *exact = peek(t, i) == '}';
    if (!*exact && peek(t, i++) != ',') return 0;
    for (; !*exact && peek(t, i) >= '0' && peek(t, i) <= '9'; i++)
        digits++;
    return digits > 0 && peek(t, i) == '}' ? i + 1 : 0;
}

/* An interval followed by a plus is repeated as a whole: (?:X{n,m})+. */
static void wrap_atom(struct translation *t)
{
    struct strbuf tail = {0};
    strbuf_append(&tail, t->out->data + t->atom, t->out->length - t->atom);
    t->out->length = t->atom;
    strbuf_format(t->out, "(?:%s)", strbuf_cstr(&tail));
    strbuf_free(&tail);
}

static enum status read_interval(struct translation *t)
{
    bool exact, no_minimum;
    size_t length = interval_length(t, &exact, &no_minimum);
    if (length == 0) {
        t->atom = t->out->length;
        strbuf_text(t->out, "\\{");
        t->at++;
        return ST_OK;
    }
    if (t->atom == NO_ATOM) return refuse(t, t->at, "a quantifier of nothing");
    if (exact && peek(t, length) == '?') return refuse(t, t->at, "{n}?");
    strbuf_text(t->out, no_minimum ? "{0" : "{");
    strbuf_append(t->out, t->text + t->at + 1, length - 1);
    t->at += length;
    if (peek(t, 0) == '+') wrap_atom(t); /* and the plus is read as any other */
    return ST_OK;
}

/* *, + or ?, with the ? or + behind it that makes it lazy or possessive. */
static enum status read_quantifier(struct translation *t)
{
    if (t->atom == NO_ATOM) return refuse(t, t->at, "a quantifier of nothing");
    size_t length = peek(t, 1) == '?' || peek(t, 1) == '+' ? 2 : 1;
    strbuf_append(t->out, t->text + t->at, length);
    t->at += length;
    t->atom = NO_ATOM;
    return ST_OK;
}

/* --- the whole */

/* A whole character, so that a quantifier's wrapping cannot split one. */
static enum status read_plain(struct translation *t)
{
    unsigned char c = peek(t, 0);
    size_t length = utf8_step(t->text + t->at, t->length - t->at).length;
    t->atom = c == '^' || c == '$' || c == '|' ? NO_ATOM : t->out->length;
    strbuf_append(t->out, t->text + t->at, length);
    t->at += length;
    return ST_OK;
}

static enum status read_item(struct translation *t)
{
    switch (t->text[t->at]) {
    case '\\':
        return read_escape(t);
    case '[':
        return read_class(t);
    case '(':
        return open_group(t);
    case ')':
        return close_group(t);
    case '{':
        return read_interval(t);
    case '*':
    case '+':
    case '?':
        return read_quantifier(t);
    default:
        return read_plain(t);
    }
}

enum status split_pattern_translate(const char *pattern, size_t length, struct strbuf *out,
                                    struct error *err)
{
    struct translation t = {
        .text = pattern, .length = length, .out = out, .atom = NO_ATOM, .err = err};
    if (length > SPLIT_PATTERN_MAX)
        return fail(err, ST_UNSUPPORTED, "pattern: %zu bytes; allowed are %zu", length,
                    SPLIT_PATTERN_MAX);
    if (utf8_valid_prefix(pattern, length) != length || memchr(pattern, 0, length))
        return fail(err, ST_BAD_FILE, "pattern: no UTF-8 text without NUL");
    while (t.at < length) {
        enum status status = read_item(&t);
        if (status) return status;
    }
    return t.depth ? refuse(&t, length, "the end inside a group") : ST_OK;
}
