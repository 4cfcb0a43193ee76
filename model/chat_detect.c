/* Which template a Jinja source is: by its fingerprint, else by what is written in it. */
#include "base/base.h"
#include "model/chat_private.h"

#include <ctype.h>

#define IM_START "<|im_start|>"
#define IM_END   "<|im_end|>"

static const char *const names[CHAT_TEMPLATES] = {
#define X(constant, name, models) name,
    CHAT_TEMPLATE_MAP(X)
#undef X
};

const char *chat_template_name(enum chat_template family)
{
    return (size_t)family < COUNT_OF(names) ? names[family] : "unknown";
}

enum chat_template chat_template_by_name(const char *name)
{
    if (!strcmp(name, "mistral")) return CHAT_MISTRAL_V3; /* of the 7B model's last version */
    for (size_t i = CHAT_NONE + 1; i < COUNT_OF(names); i++)
        if (!strcmp(names[i], name)) return (enum chat_template)i;
    return CHAT_NONE;
}

void chat_template_names(struct strbuf *out)
{
    for (size_t i = CHAT_NONE + 1; i < COUNT_OF(names); i++)
        strbuf_format(out, "%s, ", names[i]);
    strbuf_text(out, "mistral (mistral-v3)");
}

/* --- by fingerprint */

/* FNV-1a, to name a text by a number (not to defend against anyone). Jinja reads every line end as
 * "\n" and drops the one at the end of the source; neither makes another template. */
static uint64_t fingerprint(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text; text++) {
        bool line_end = *text == '\r' || *text == '\n';
        if (*text == '\r' && text[1] == '\n') text++;
        if (line_end && !text[1]) break;
        hash = (hash ^ (line_end ? (unsigned char)'\n' : (unsigned char)*text)) * 0x100000001b3u;
    }
    return hash;
}

/* Sources that were compared, rendering by rendering, with Jinja itself: tests/chat_jinja.py does
 * it for those in tests/data/chat_templates. */
static const struct {
    uint64_t hash;
    enum chat_template family;
} known_sources[] = {
    {0xa41d6bae9b9141bcu, CHAT_CHATML},         /* OpenHermes-2.5 */
    {0x8cde6333a65981ebu, CHAT_CHATML},         /* the loop alone */
    {0x45ec583d4d25bc3au, CHAT_SMOLLM2},        /* SmolLM2-Instruct */
    {0x0e60067a5537498eu, CHAT_LLAMA3},         /* Meta-Llama-3-Instruct */
    {0x74891e390e614ae2u, CHAT_LLAMA3_FIRST},   /* the same, April 2024 */
    {0xcc0368e1ffb6b958u, CHAT_LLAMA31},        /* Llama-3.1- and 3.3-Instruct */
    {0x368f4c34b8554414u, CHAT_LLAMA32},        /* Llama-3.2-Instruct */
    {0xc867da37c989d41fu, CHAT_QWEN15},         /* Qwen1.5-Chat */
    {0x8a87094e0e1e24c5u, CHAT_QWEN2},          /* Qwen2-Instruct */
    {0xe642ce246d7f2e3du, CHAT_QWEN25},         /* Qwen2.5-Instruct */
    {0x2bfdb7aa9754484eu, CHAT_QWEN3},          /* Qwen3, April 2025 */
    {0x959a4551391a6549u, CHAT_QWEN3},          /* Qwen3, July 2025 */
    {0x3751fe8ea48448abu, CHAT_QWEN3_INSTRUCT}, /* Qwen3-Instruct-2507 */
    {0xcd0d41a64dfce181u, CHAT_QWEN3_THINKING}, /* Qwen3-Thinking-2507 */
    {0x991bcba25418cbc9u, CHAT_QWQ},            /* QwQ-32B */
    {0xc730acc029ce6ee0u, CHAT_MISTRAL_OLD},    /* Mistral-7B-Instruct-v0.1 */
    {0x8c734b90b4f8d84du, CHAT_MISTRAL_OLD2},   /* Mistral-7B-Instruct-v0.2 */
    {0x46eac0bf5c765c47u, CHAT_MISTRAL_V1},     /* the same, later */
    {0x3d7503c1d431b067u, CHAT_MISTRAL_V1},     /* the same with double quotes */
    {0x2487e6e79d6345cfu, CHAT_MISTRAL_V3},     /* Mistral-Large-Instruct-2407 */
    {0x20783e9d94168233u, CHAT_MISTRAL_NEMO},   /* Mistral-Nemo-Instruct-2407 */
    {0xe4a9cc594604808au, CHAT_MISTRAL_V7},     /* Mistral-Large-Instruct-2411 */
};

/* --- by markers: what must be there, and what must not because it would be rendered otherwise */

static bool has(const char *jinja, const char *word)
{
    return strstr(jinja, word) != NULL;
}

/* Content that is trimmed, by the filter or by the method. */
static bool trims(const char *jinja)
{
    return has(jinja, "trim") || has(jinja, ".strip(");
}

/* The default system text that a ChatML source writes out, e.g. 'system\nYou are ...': "" when it
 * has none. A newline is a newline or the two characters \n; a quote after it ends a Jinja string,
 * so there a message's own text follows and no default. */
static const char *written_system_text(const char *jinja)
{
    static const char head[] = IM_START "system";
    for (const char *at = jinja; (at = strstr(at, head)); at++) {
        const char *text = at + strlen(head);
        if (*text == '\n')
            text++;
        else if (!strncmp(text, "\\n", 2))
            text += 2;
        else
            continue;
        if (*text && *text != '\'' && *text != '"' && *text != '{') return text;
    }
    return "";
}

/* The template whose default system text it is; CHAT_NONE for another text: rendering without it
 * would mislead the model. */
static enum chat_template default_system_owner(const char *system)
{
    for (enum chat_template i = CHAT_NONE + 1; i < CHAT_TEMPLATES; i++) {
        const char *known = chat_default_system(i);
        size_t length = known ? strlen(known) : 0;
        if (known && !strncmp(system, known, length) &&
            !strncmp(system + length, IM_END, strlen(IM_END)))
            return i;
    }
    return CHAT_NONE;
}

/* Whether `token` is followed by a message's own role: '<|im_start|>' + message['role']. */
static bool prints_role_after(const char *jinja, const char *token)
{
    static const char *const roles[] = {".role", "['role']", "[\"role\"]"};
    for (const char *at = jinja; (at = strstr(at, token)); at++) {
        const char *name = at + strlen(token);
        name += strspn(name, "'\" +~{}-");
        const char *end = name;
        while (isalnum((unsigned char)*end) || *end == '_')
            end++;
        if (end - name == 4 && !strncmp(name, "role", 4)) return true;
        for (size_t i = 0; end > name && i < COUNT_OF(roles); i++)
            if (!strncmp(end, roles[i], strlen(roles[i]))) return true;
    }
    return false;
}

static enum chat_template detect_thinking(const char *jinja)
{
    bool opens = has(jinja, "assistant\\n<think>\\n'") || has(jinja, "assistant\n<think>\n'");
    if (has(jinja, "last_query_index") && has(jinja, "reasoning_content")) {
        if (has(jinja, "enable_thinking is false")) return opens ? CHAT_NONE : CHAT_QWEN3;
        return opens ? CHAT_QWEN3_THINKING : CHAT_NONE;
    }
    return opens && has(jinja, "loop.last") && !has(jinja, "enable_thinking") ? CHAT_QWQ
                                                                              : CHAT_NONE;
}

static enum chat_template detect_qwen(const char *jinja)
{
    if (!has(jinja, "# Tools") || has(jinja, "bos_token")) return CHAT_NONE;
    if (has(jinja, "</think>")) return detect_thinking(jinja);
    const char *system = written_system_text(jinja);
    if (!*system) return CHAT_QWEN3_INSTRUCT;
    return default_system_owner(system) == CHAT_QWEN25 ? CHAT_QWEN25 : CHAT_NONE;
}

static enum chat_template detect_chatml(const char *jinja)
{
    if (has(jinja, "trim") || !prints_role_after(jinja, IM_START)) return CHAT_NONE;
    if (has(jinja, "<tool_response>")) return detect_qwen(jinja);
    if (has(jinja, "think>") || has(jinja, "tools") || trims(jinja)) return CHAT_NONE;
    const char *system = written_system_text(jinja);
    bool bos = has(jinja, "bos_token");
    if (!*system) return bos ? CHAT_CHATML_BOS : CHAT_CHATML;
    return bos ? CHAT_NONE : default_system_owner(system);
}

static enum chat_template detect_llama3(const char *jinja)
{
    if (!has(jinja, "trim") || has(jinja, "think") || has(jinja, "<tool") ||
        has(jinja, "<function"))
        return CHAT_NONE;
    if (!has(jinja, "Cutting Knowledge Date")) {
        if (has(jinja, "tools") || !prints_role_after(jinja, "<|start_header_id|>"))
            return CHAT_NONE;
        return has(jinja, "add_generation_prompt") ? CHAT_LLAMA3 : CHAT_LLAMA3_FIRST;
    }
    if (!has(jinja, "December 2023") || !has(jinja, "26 Jul 2024")) return CHAT_NONE;
    return has(jinja, "strftime_now") ? CHAT_LLAMA32 : CHAT_LLAMA31;
}

static enum chat_template detect_mistral(const char *jinja)
{
    bool spaced = has(jinja, "[INST] ");
    if (has(jinja, "<<SYS>>")) return CHAT_NONE; /* Llama 2 */
    if (has(jinja, "[SYSTEM_PROMPT]"))
        return has(jinja, "[SYSTEM_PROMPT] ") && spaced && !has(jinja, "default_system") &&
                       !trims(jinja)
                   ? CHAT_MISTRAL_V7
                   : CHAT_NONE;
    if (has(jinja, "loop.last and system_message is defined")) {
        if (spaced) return trims(jinja) && !has(jinja, " [/INST]") ? CHAT_MISTRAL_V3 : CHAT_NONE;
        return trims(jinja) ? CHAT_NONE : CHAT_MISTRAL_NEMO;
    }
    if (!spaced || !has(jinja, " [/INST]") || !has(jinja, "must alternate") || trims(jinja))
        return CHAT_NONE;
    if (has(jinja, "system_message"))
        return has(jinja, "loop.first and system_message is defined") && has(jinja, " [INST] ")
                   ? CHAT_MISTRAL_V1
                   : CHAT_NONE;
    bool spaced_end = has(jinja, "eos_token + ' '") || has(jinja, "eos_token + \" \"") ||
                      has(jinja, "eos_token+' '");
    return spaced_end ? CHAT_MISTRAL_OLD : CHAT_MISTRAL_OLD2;
}

static enum chat_template detect_by_markers(const char *jinja)
{
    if (has(jinja, "[INST]")) return detect_mistral(jinja);
    if (has(jinja, "<|start_header_id|>") && has(jinja, "<|eot_id|>")) return detect_llama3(jinja);
    if (has(jinja, IM_START) && has(jinja, IM_END)) return detect_chatml(jinja);
    return CHAT_NONE;
}

enum chat_template chat_template_detect(const char *jinja, bool *exact)
{
    if (exact) *exact = false;
    if (!jinja) return CHAT_NONE;
    uint64_t hash = fingerprint(jinja);
    for (size_t i = 0; i < COUNT_OF(known_sources); i++) {
        if (known_sources[i].hash != hash) continue;
        if (exact) *exact = true;
        return known_sources[i].family;
    }
    return detect_by_markers(jinja);
}

enum chat_template chat_template_choose(enum chat_template named, const char *jinja, bool warn)
{
    bool exact;
    if (named != CHAT_NONE) return named;
    enum chat_template family = chat_template_detect(jinja, &exact);
    if (!warn) return family;
    if (family == CHAT_NONE)
        log_warn("%s: chat is refused; name a template with --chat-template",
                 jinja ? "the model's chat template is not known here"
                       : "the model has no chat template");
    else if (!exact)
        log_warn("the model's chat template is taken for %s, by what is written in it; "
                 "--chat-template names another",
                 chat_template_name(family));
    return family;
}
