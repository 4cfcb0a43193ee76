"""Odd strings from a seed: what tokenizers disagree about."""
import random
import unicodedata

FIXED = [
    "", " ", "  ", "\n", "\r\n", "\t\t x", "a", "Hello world", " Hello  world ", "don't I'LL WE'VE it's 'S 'ſ 'TIs'", "'\u017f'\u212a",
    "1234567890", "1 22 333 4444", "٣٤٥٦ ²³¹ ½ Ⅳ 一二三 𝟏𝟐𝟑", "e\u0301 \u00e9 n\u0303o ño caf\u00e9 cafe\u0301", "\u1100\u1161\u11a8 \uac01",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽", "שָׁלוֹם العَرَبِيَّة \u202b\u200f\u202c", "\x00\x01\x7f\x80\x9f\u00a0\u00ad", "\u180e \u200b\u200c\u200d\ufeff\u2028\u2029\u3000\u0085",
    "<|im_start|>user\nHi<|im_end|>", "<|im_start|", "<<s>>", "<s><s> <s>", "a<think>b</think>", "x <mask> y<mask>  <mask>", "<right>   <right> x",
    "  <both>  <both>  ", "word words word. _word word1 aword", "the the  the\nthe, other", "<think><s>", "東京 東京都 は東京",
    "\n\n\n\n\n  \n\n\n x", "    <mask>", "a a aa baab", "CamelCaseHTTPServer2XML", "if (x==1) {\n\treturn  y;\n}\n", "\ufffd\ufffe\U0010ffff\ue000",
    "a\u0323\u0301\u0307 \u0344 \u212b \u1e9b\u0323", "\r\r\n\n\r", " \u00a0 \u00a0x", "zebra xylophone qqq \u00a0", "\ud6fc\u11a7 \ud6fc\u11a8 \u1112\u116e\u11a7\u0301", "\u0958 \u0f73 \u2126 \ufb1d", "{}{a{x {1}",
]
WORDS = ["the", "word", "Tokenizer", "ing", "HTTP", "naïve", "größe", "Ἀθῆναι", "Москва", "東京", "한국어", "हिन्दी", "العربية", "שלום", "don't",
         "I'LL", "we've", "x²", "3rd", "2024", "100000", "aaaa", "abc", "xx", "zebra", "xylophone", "kſK"]
GAPS = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u00a0", "\u3000", "", "", ".", ", ", "...", "--", "!?", "\u2028", "\u200d", "'", "\""]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|im|>", "<s>", "<think>", "<mask>", "<right>", "<both>", "word", "the", "café", "ño", "n\u0303o", "  ",
           "\n\n\n", "<|", "|>", "<", "a", "<think><s>", "東京", "ing"]


def assigned(rng):
    """A code point that Unicode had at version 14, PCRE2's; a combining mark that it had at 3.2: newer ones have no
    order yet in the normalization of the library that we compare with."""
    while True:
        block = rng.choice([(0x20, 0x7f), (0x80, 0x24f), (0x300, 0x36f), (0x370, 0x52f), (0x590, 0x6ff), (0x900, 0xdff), (0xe00, 0xfff),
                            (0x1100, 0x11ff), (0x1e00, 0x20cf), (0x2100, 0x2bff), (0x3040, 0x30ff), (0x4e00, 0x4fff), (0xac00, 0xae00),
                            (0xf900, 0xffff), (0x10000, 0x10fff), (0x1d400, 0x1d7ff), (0x1f000, 0x1faff), (0, 0x1f), (0, 0x10ffff)])
        code = rng.randint(*block)
        old = unicodedata.ucd_3_2_0.category(chr(code)) != "Cn" or not unicodedata.combining(chr(code))
        if unicodedata.category(chr(code)) not in ("Cn", "Cs") and old:
            return chr(code)


def one(rng):
    kind = rng.randrange(6)
    if kind == 0:
        return "".join(assigned(rng) for _ in range(rng.randrange(1, 30)))
    if kind == 1:
        return "".join(rng.choice("ab1 \n\t'x<") for _ in range(rng.randrange(1, 40)))
    if kind == 2:
        return "".join(rng.choice(SPECIAL) + rng.choice(GAPS) for _ in range(rng.randrange(1, 9)))
    if kind == 3:
        return "".join(rng.choice(" \t\n\r\u00a0\u2003\u3000\u0085\u180e") for _ in range(rng.randrange(1, 20))) + rng.choice(WORDS)
    if kind == 4:
        return "".join(rng.choice("0123456789٣²½Ⅳ .,") for _ in range(rng.randrange(1, 40)))
    return "".join(rng.choice(WORDS) + rng.choice(GAPS) + (assigned(rng) if rng.random() < 0.2 else "") for _ in range(rng.randrange(1, 15)))


def strings(count, seed):
    rng = random.Random(seed)
    return FIXED + [one(rng) for _ in range(count)]
