#!/usr/bin/env python3
"""What is not common C++ stands in kernels/cuda/device.cuh alone: python3 check_sources.py [FOLDER]

The emulator runs what g++ sees. A kernel with asm, a launch, extern shared memory or a condition of
its own would have code that no test of this machine runs.
"""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HOME = "device.cuh"

STRAYS = {
    "asm": r"\b(asm|__asm__|__asm)\b",
    "<<<": r"<<<",
    "__shared__": r"\b__shared__\b",
    "#if": r"^[ \t]*#\s*(if|ifdef|ifndef|else|elif|elifdef)\b",
    "CUDA_EMU": r"\b(CUDA_EMU|__CUDA_ARCH__|__CUDACC__)\b",
    "a pragma other than unroll": r"^[ \t]*#\s*pragma\s+(?!unroll\b)",
    "__nv_ or nv.* intrinsics": r"\b(__nvvm_\w+|__nv_\w+)",
}
# Two conditions that choose no code: a header's guard, and extern "C" around what C includes too.
GUARD = re.compile(r"#ifndef (\w+_H|\w+_CUH)\n#define \1\n")
EXTERN_C = re.compile(r"#ifdef __cplusplus\n(extern \"\" \{|\})\n#endif")


def code_only(text):
    """Comments, strings and harmless conditions blanked, lines kept."""
    keep_lines = lambda match: "\n" * match.group().count("\n")
    text = re.sub(r"/\*.*?\*/|//[^\n]*", keep_lines, text, flags=re.S)
    text = re.sub(r'"(\\.|[^"\\\n])*"', '""', text)
    return EXTERN_C.sub("\n\n", GUARD.sub("\n\n", text))


def strays(path):
    """[(line, what)] of a file."""
    with open(path, encoding="utf-8") as file:
        text = code_only(file.read())
    return sorted((text.count("\n", 0, match.start()) + 1, what)
             for what, pattern in STRAYS.items() for match in re.finditer(pattern, text, re.M))


def check(folder):
    bad = []
    for name in sorted(os.listdir(folder)):
        if name == HOME or not name.endswith((".cu", ".cuh", ".h", ".c")):
            continue
        bad += [f"{folder}/{name}:{line}: {what} belongs in {HOME}" for line, what in strays(os.path.join(folder, name))]
    return bad


def self_check():
    """A check that finds nothing may be blind: each pattern against a line it must find."""
    lines = {"asm": 'asm volatile("x");', "<<<": "k<<<1, 2>>>(p);", "__shared__": "extern __shared__ int s[];",
             "#if": "#ifdef X", "CUDA_EMU": "x = __CUDA_ARCH__;", "a pragma other than unroll": "#pragma once",
             "__nv_ or nv.* intrinsics": "__nvvm_shfl(x);"}
    return [f"the pattern of {what} does not find: {line}" for what, line in lines.items()
            if not re.search(STRAYS[what], code_only(line), re.M)]


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "kernels", "cuda")
    bad = self_check() + check(folder)
    print("\n".join(bad) if bad else f"{folder}: nothing outside {HOME}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
