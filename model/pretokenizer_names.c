/* The patterns are facts of the models' own tokenizer.json files, the names those of llama.cpp
 * (src/llama-vocab.cpp), which converts the files. A tokenizer.json is not looked up here: its own
 * description is followed, whatever it is.
 */
#include "model/pretokenizer_names.h"
#include "base/base.h"

#include <string.h>

#define WORDS     "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+"
#define SYMBOLS   " ?[^\\s\\p{L}\\p{N}]+"
#define SPACES    "\\s+(?!\\S)|\\s+"
#define GPT2      WORDS "| ?\\p{N}+|" SYMBOLS "|" SPACES
#define NEWLINES  "\\s*[\\r\\n]+|" SPACES
#define CJK_RANGE "[\xe4\xb8\x80-\xe9\xbe\xa5" /* U+4E00 to U+9FA5 */

/* Digits(individual) cuts the text at every digit before the GPT-2 pattern sees it, so a run of
 * spaces before a digit ends its text: there the lookahead holds, and no space is kept back for the
 * digit. One pattern does both at once. */
#define SMOLLM "\\p{N}|" WORDS "|" SYMBOLS "|\\s+(?![^\\s\\p{N}])|\\s+"

/* Llama 3 and Qwen2 differ in how many digits make a piece. */
#define CL100K(digits)                                                               \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "|" SYMBOLS \
    "[\\r\\n]*|" NEWLINES

/* Mistral Nemo and GPT-4o: a word is capitals, then small letters. */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(ending, digits)                                                                     \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" ending "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER \
    "*" ending "|" digits "|" SYMBOLS "[\\r\\n/]*|" NEWLINES

#define DEEPSEEK_V3                                                                      \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?" \
    "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" NEWLINES

const char pretokenizer_gpt2_pattern[] = GPT2;
const char pretokenizer_digit_pattern[] = "\\p{N}";

static const struct {
    const char *name;
    const char *patterns[6];
} kinds[] = {
    [PRETOKENIZE_GPT2] = {"gpt-2", {GPT2}},
    [PRETOKENIZE_SMOLLM] = {"smollm", {SMOLLM}},
    [PRETOKENIZE_LLAMA3] = {"llama-bpe", {CL100K("\\p{N}{1,3}")}},
    [PRETOKENIZE_QWEN2] = {"qwen2", {CL100K("\\p{N}")}},
    [PRETOKENIZE_TEKKEN] = {"tekken", {CASED("", "\\p{N}")}},
    [PRETOKENIZE_GPT4O] = {"gpt-4o", {CASED("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "\\p{N}{1,3}")}},
    [PRETOKENIZE_DEEPSEEK_CODER] = {"deepseek-coder",
                                    {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+",
                                     CJK_RANGE
                                     "\xe0\xa0\x80-\xe4\xb8\x80\xea\xb0\x80-\xed\x9f\xbf]+",
                                     "\\p{N}"}},
    [PRETOKENIZE_DEEPSEEK_V3] = {"deepseek-v3",
                                 {"\\p{N}{1,3}",
                                  CJK_RANGE "\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+",
                                  DEEPSEEK_V3}},
    [PRETOKENIZE_FALCON] = {"falcon", {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}},
    [PRETOKENIZE_DEFAULT] = {"default",
                             {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    [PRETOKENIZE_STEPS] = {"own", {NULL}},
};

/* nfc: Qwen's files ask for it and llama.cpp's conversion drops it, so the name stands for it. */
static const struct pretokenizer_name names[] = {
    {"gpt-2", PRETOKENIZE_GPT2, false, false, false},
    {"gpt2", PRETOKENIZE_GPT2, false, false, false},
    {"phi-2", PRETOKENIZE_GPT2, false, false, false},
    {"olmo", PRETOKENIZE_GPT2, false, false, false},
    {"mpt", PRETOKENIZE_GPT2, false, false, false},
    {"exaone4", PRETOKENIZE_GPT2, false, false, false},
    {"smollm", PRETOKENIZE_SMOLLM, false, false, false},
    {"starcoder", PRETOKENIZE_SMOLLM, false, false, false},
    {"refact", PRETOKENIZE_SMOLLM, false, false, false},
    {"codeshell", PRETOKENIZE_SMOLLM, false, false, false},
    {"exaone", PRETOKENIZE_SMOLLM, false, false, false},
    {"minerva-7b", PRETOKENIZE_SMOLLM, false, false, false},
    {"llama-bpe", PRETOKENIZE_LLAMA3, false, true, true},
    {"llama3", PRETOKENIZE_LLAMA3, false, true, true},
    {"llama-v3", PRETOKENIZE_LLAMA3, false, true, true},
    {"falcon3", PRETOKENIZE_LLAMA3, false, true, true},
    {"pixtral", PRETOKENIZE_LLAMA3, false, true, true},
    {"midm-2.0", PRETOKENIZE_LLAMA3, false, true, true},
    {"lfm2", PRETOKENIZE_LLAMA3, false, true, true},
    {"dbrx", PRETOKENIZE_LLAMA3, false, false, false},
    {"smaug-bpe", PRETOKENIZE_LLAMA3, false, false, false},
    {"qwen2", PRETOKENIZE_QWEN2, true, false, false},
    {"deepseek-r1-qwen", PRETOKENIZE_QWEN2, true, false, false},
    {"kormo", PRETOKENIZE_QWEN2, false, false, false},
    {"megrez", PRETOKENIZE_QWEN2, false, false, false},
    {"stablelm2", PRETOKENIZE_QWEN2, false, false, false},
    {"tekken", PRETOKENIZE_TEKKEN, false, true, true},
    {"gpt-4o", PRETOKENIZE_GPT4O, false, false, false},
    {"llama4", PRETOKENIZE_GPT4O, false, false, false},
    {"deepseek-coder", PRETOKENIZE_DEEPSEEK_CODER, false, false, false},
    {"deepseek-v3", PRETOKENIZE_DEEPSEEK_V3, false, false, false},
    {"falcon", PRETOKENIZE_FALCON, false, false, false},
    {"default", PRETOKENIZE_DEFAULT, false, false, false},
};

const struct pretokenizer_name *pretokenizer_by_name(const char *name, size_t length)
{
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strlen(names[i].name) == length && !memcmp(names[i].name, name, length))
            return &names[i];
    return NULL;
}

const char *pretokenizer_name(enum pretokenizer kind)
{
    invariant((size_t)kind < COUNT_OF(kinds), "pre-tokenizer %d", (int)kind);
    return kinds[kind].name;
}

const char *pretokenizer_names_list(void)
{
    return "gpt-2, phi-2, olmo, mpt, exaone4; smollm, starcoder, refact, codeshell, exaone, "
           "minerva-7b; llama-bpe, llama3, llama-v3, falcon3, pixtral, midm-2.0, lfm2, dbrx, "
           "smaug-bpe; qwen2, deepseek-r1-qwen, kormo, megrez, stablelm2; tekken; gpt-4o, llama4; "
           "deepseek-coder, deepseek-v3; falcon; default";
}

int32_t pretokenizer_steps(enum pretokenizer kind, struct split_step *steps)
{
    invariant((size_t)kind < COUNT_OF(kinds), "pre-tokenizer %d", (int)kind);
    int32_t count = 0;
    for (const char *const *pattern = kinds[kind].patterns; *pattern; pattern++)
        steps[count++] = (struct split_step){.pattern = *pattern, .length = strlen(*pattern)};
    return count;
}

bool pretokenizer_knows_pattern(const char *pattern, size_t length)
{
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        for (const char *const *known = kinds[i].patterns; *known; known++)
            if (strlen(*known) == length && !memcmp(*known, pattern, length)) return true;
    return false;
}
