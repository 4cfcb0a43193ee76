"""Tokenizers of many shapes, trained here on texts of this repository, as tokenizer.json files."""
import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors, trainers
from tokenizers import pre_tokenizers as pre

ROOT = pathlib.Path(__file__).resolve().parents[2]
CORPUS = ["README.md", "CHANGELOG.md", "docs/architecture.md", "docs/benchmarks.md", "docs/api.md"]
FOREIGN = ("Ĳs het café naïve? Über größe, Ἀθῆναι — Москва́ 2024; 東京都は日本の首都。 한국어 형태소. हिन्दी में लिखा "
           "العربية ٣٤٥ עברית שלום 👩‍👩‍👧‍👦🏳️‍🌈 e\u0301 n\u0303 don't I'LL we'VE it's 12345 67 8 x²+y³ \t\n\r\n ")

# Facts of the models' published tokenizer.json files.
GPT2_REST = r" ?[^\s\p{L}\p{N}]+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT4O = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{{N}}{{1,3}}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|"
          r"\s++$|\s*[\r\n]|\s+(?!\S)|\s")
DEEPSEEK_V3 = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^" "\r\n" r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
               r" ?[\p{P}\p{S}]+[" "\r\n" r"]*|\s*[" "\r\n" r"]+|\s+(?!\S)|\s+")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Ll}&&[^\p{Han}]]+"  # has &&: refused


def split(pattern, behavior="isolated", invert=False):
    return pre.Split(pattern if isinstance(pattern, str) else Regex(pattern[0]), behavior, invert)


def byte_level(regex=False, space=False):
    return pre.ByteLevel(add_prefix_space=space, use_regex=regex)


def steps(*parts):
    return pre.Sequence(list(parts))


def rx(pattern):
    return (pattern,)


PIPELINES = {
    "gpt2": byte_level(regex=True),
    "gpt2-space": byte_level(regex=True, space=True),
    "bytes-only": byte_level(),
    "bytes-only-space": byte_level(space=True),
    "smollm": steps(pre.Digits(individual_digits=True), byte_level(regex=True)),
    "smollm-space": steps(pre.Digits(individual_digits=True), byte_level(regex=True, space=True)),
    "digit-runs": steps(pre.Digits(individual_digits=False), byte_level(regex=True)),
    "digits-only": steps(pre.Digits(individual_digits=True), byte_level()),
    "llama3": steps(split(rx(LLAMA3)), byte_level()),
    "llama3-space": steps(split(rx(LLAMA3)), byte_level(space=True)),
    "llama3-removed-inverted": steps(split(rx(LLAMA3), "removed", True), byte_level()),
    "qwen2": steps(split(rx(QWEN2)), byte_level()),
    "qwen3.5": steps(split(rx(QWEN35)), byte_level()),
    "tekken": steps(split(rx(TEKKEN)), byte_level()),
    "gpt-4o": steps(split(rx(GPT4O)), byte_level()),
    "cl100k": steps(split(rx(CL100K)), byte_level()),
    "deepseek-v3": steps(split(rx(r"\p{N}{1,3}")), split(rx("[一-龥぀-ゟ゠-ヿ]+")), split(rx(DEEPSEEK_V3)), byte_level()),
    "deepseek-coder": steps(split(rx("[\r\n]")), split(rx(r"\s?\p{L}+")), split(rx(r"\s?\p{P}+")),
                            split(rx("[一-龥ࠀ-一가-\ud7ff]+")), pre.Digits(individual_digits=True), byte_level()),
    "nested": steps(steps(split(rx(r"\p{N}{3}")), steps(split(" ", "merged_with_next"))), byte_level(regex=True)),
}
for behavior in ("isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous"):
    for invert in (False, True):
        name = behavior.replace("_", "-") + ("-inverted" if invert else "")
        PIPELINES[f"split-space-{name}"] = steps(split(" ", behavior, invert), byte_level())
        PIPELINES[f"split-words-{name}"] = steps(split(rx(r"\p{L}+|\p{N}"), behavior, invert), byte_level(regex=True))
        PIPELINES[f"split-empty-{name}"] = steps(split(rx(r"a*|(?=1)"), behavior, invert), byte_level())
for number, pattern in enumerate([
        r"\w+|\W", r"\b\w", r"\B\S\B", r"\h+|\H", r"\d{2}|\D", r"\p{N}{1,3}+", r"x{2}+|a{,2}", r"[\s-]+|[\d-]",
        r"[^\S\n]+", r"[\w']+|[^\w\s]+", r"^.|.$", r"(?m:a.)", r"(?i:[k-s]+)", r"(?<=\s)\p{Lu}\p{Ll}*", r"(?<!a)b(?!c)",
        r"\u0041|\x{e9}|\x42|\t", r"\v|\f|\e", r"(a|b|(ab)+)c?", r"\p{Han}+|\p{Hiragana}+", r"\p{^L}+", r"\P{L}{2,}?",
        r"\p{Uppercase_Letter}\p{Lowercase_Letter}*", r"[\p{Cyrillic}\p{Greek}]+", r"(?>\s+)\S", r"\A\s*|\s*\z|\s+\Z",
        r"[]x]+|[^]y ]+", r"{|}|a{x|\{1}", r"é+|e\u0301*", r"'(?i:[sdmt]|ll|ve|re)", r"\p{Alphabetic}+", r"[\h]{3}"]):
    PIPELINES[f"regex-{number}"] = steps(split(rx(pattern)), byte_level())

REFUSED = {
    "intersection": steps(split(rx(KIMI)), byte_level()),
    "nested class": steps(split(rx("[a[bc]]+")), byte_level()),
    "posix class": steps(split(rx("[[:alpha:]]+")), byte_level()),
    "back reference": steps(split(rx(r"(a)\1")), byte_level()),
    "named group": steps(split(rx("(?<x>a)")), byte_level()),
    "keep": steps(split(rx(r"a\Kb")), byte_level()),
    "grapheme": steps(split(rx(r"\X")), byte_level()),
    "Metaspace": pre.Metaspace(),
    "Whitespace": steps(pre.Whitespace(), byte_level()),
    "Punctuation": steps(pre.Punctuation(), byte_level()),
    "after ByteLevel": steps(byte_level(), pre.Digits()),
}

ADDED = [AddedToken("<|im_start|>", special=True, normalized=False), AddedToken("<|im_end|>", special=True, normalized=False),
         AddedToken("<|im|>", special=True, normalized=False), AddedToken("<s>", special=True, normalized=False)]
FLAGGED = [AddedToken("<think>", normalized=False), AddedToken("<mask>", lstrip=True, normalized=False),
           AddedToken("<right>", rstrip=True, normalized=False), AddedToken("<both>", lstrip=True, rstrip=True, special=True),
           AddedToken("word", single_word=True), AddedToken("the", single_word=True, lstrip=True, normalized=False),
           AddedToken("caf\u00e9", normalized=True), AddedToken("n\u0303o", normalized=True), AddedToken("  ", normalized=False),
           AddedToken("a"), AddedToken("<think><s>", normalized=True), AddedToken("東京", single_word=True),
           AddedToken("\n\n\n", rstrip=True, normalized=False)]


def corpus():
    for name in CORPUS:
        yield (ROOT / name).read_text(encoding="utf-8")
    for _ in range(30):
        yield FOREIGN


def train(name, pipeline, vocab=900, nfc=False, added=(), specials=(), **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pipeline
    tokenizer.decoder = decoders.ByteLevel()
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False,
                                  special_tokens=list(specials))
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([token for token in added if token.special])
    tokenizer.add_tokens([token for token in added if not token.special])
    return tokenizer


def template(tokenizer, first, last):
    names = [name for name in (first, last) if name]
    single = f"{first or ''} $A {last or ''}".strip()
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(),
        processors.TemplateProcessing(single=single, pair=f"{single} $B",
                                      special_tokens=[(name, tokenizer.token_to_id(name)) for name in dict.fromkeys(names)])])
    return tokenizer


def edited(tokenizer, edit):
    """The same tokenizer with its JSON changed: what the library writes no more but still reads."""
    data = json.loads(tokenizer.to_str())
    edit(data)
    return Tokenizer.from_str(json.dumps(data)), json.dumps(data)


def renumber(data):
    """Ids without holes, added tokens last: the library gives such ids whatever the file says."""
    vocab = data["model"]["vocab"]
    data["model"]["vocab"] = {text: i for i, text in enumerate(sorted(vocab, key=vocab.get))}
    for i, token in enumerate(data["added_tokens"]):
        token["id"] = len(vocab) + i


def whole_words(data):
    """Words that no merge makes: only ignore_merges finds them."""
    for word in ("Ġzebra", "xylophone", "ĠĠĠĠ", "qqq", "ÂłÂł"):
        data["model"]["vocab"].setdefault(word, len(data["model"]["vocab"]))
    data["model"]["ignore_merges"] = True
    renumber(data)


def old_merges(data):
    data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    del data["model"]["type"]
    for token in data["added_tokens"]:
        assert not token["normalized"]


def fewer_bytes(data):
    """No token for some bytes, as in SmolLM2: they vanish."""
    merged = {part for pair in data["model"]["merges"] for part in pair}
    for char in ("Ą", "ģ", "ñ", "~", "Å"):
        if char not in merged:
            data["model"]["vocab"].pop(char, None)
    renumber(data)


def shapes():
    """(name, tokenizer, JSON or None): every pipeline plain, and the families with all that comes with them."""
    for name, pipeline in PIPELINES.items():
        yield name, train(name, pipeline, vocab=700, added=ADDED), None
    for name in ("gpt2", "smollm", "llama3", "qwen2", "tekken", "gpt2-space"):
        pipeline = PIPELINES[name]
        yield f"{name}+nfc+flags", train(name, pipeline, nfc=True, added=ADDED + FLAGGED), None
        yield f"{name}+flags", train(name, pipeline, added=ADDED + FLAGGED), None
        yield f"{name}+specials-in-vocab", train(name, pipeline, specials=["<s>", "<|im_start|>", "<|im_end|>", "ing"]), None
        yield f"{name}+bos", template(train(name, pipeline, added=ADDED), "<s>", None), None
        yield f"{name}+bos+eos", template(train(name, pipeline, added=ADDED), "<s>", "<|im_end|>"), None
        yield f"{name}+eos", template(train(name, pipeline, added=ADDED), None, "<|im|>"), None
        yield (f"{name}+ignore-merges", *edited(train(name, pipeline, nfc=True, added=ADDED), whole_words))
        yield (f"{name}+old-merges", *edited(train(name, pipeline, added=ADDED), old_merges))
        yield (f"{name}+fewer-bytes", *edited(train(name, pipeline, added=ADDED), fewer_bytes))
        yield f"{name}+unk", train(name, pipeline, added=ADDED, unk_token="<s>"), None
        yield f"{name}+byte-fallback", train(name, pipeline, added=ADDED, byte_fallback=True, fuse_unk=True), None
