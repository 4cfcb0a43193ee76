"""Builds emulated CUDA programs outside of CMake, for the steps that make sources of their own:
translated PTX, broken kernels, known PTX. The same flags as tests/cuda/CMakeLists.txt.
"""
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
JOBS = int(os.environ.get("ESPALIER_JOBS", "2"))


class ToolError(Exception):
    """A compiler refused."""


@dataclass(frozen=True)
class Variant:
    name: str
    flags: tuple  # of kernels and tests
    emulator: tuple  # of the emulator itself
    link: tuple


FAST = Variant("fast", ("-O1", "-g1"), ("-O2", "-g1"), ())
ASAN = Variant("asan", ("-O0", "-g1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined",
                        "-fno-sanitize-recover=all"),
               ("-O1", "-g1", "-DEMU_ASAN"), ("-fsanitize=address,undefined",))
TSAN = Variant("tsan", ("-O1", "-g1", "-fsanitize=thread"), ("-O1", "-g1", "-DEMU_TSAN"), ("-fsanitize=thread",))
# Translated PTX is thousands of short statements: optimising them takes longer than running them.
PTX = Variant("fast", ("-O0",), FAST.emulator, ())

INCLUDES = (f"-I{ROOT}", f"-I{HERE}/include")
COMMON = ("-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fno-math-errno", "-fno-strict-aliasing")
EMULATE = ("-include", f"{HERE}/emulator.h", "-Wno-unknown-pragmas")


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise ToolError(f"{' '.join(command)}\n{(done.stdout + done.stderr)[:4000]}")
    return done


def compiler(source):
    cache = ["ccache"] if shutil.which("ccache") else []
    if source.endswith(".c"):
        return cache + ["gcc", "-std=c17", "-D_GNU_SOURCE"]
    return cache + ["g++", "-std=c++17", "-x", "c++"]


def compile_one(source, target, variant, include_first=()):
    """One object; `include_first` are folders searched before the source's own tree."""
    flags = variant.emulator if source in emulator_sources() else variant.flags
    extra = EMULATE if source.endswith(".cu") else ()
    if include_first:  # a source broken on purpose, perhaps in ways a compiler warns of
        extra += ("-w",)
    if source.endswith(".ptx.cpp"):  # made by a program: what it leaves unused is no mistake
        extra = ("-Wno-unused", "-Wno-type-limits")
    run(compiler(source) + [*flags, *COMMON, *extra, *include_first, *INCLUDES, "-c", source, "-o", target])
    return target


def compile_all(work, variant, sources, include_first=()):
    """Objects of all sources, in their order, two at a time."""
    os.makedirs(os.path.join(work, variant.name), exist_ok=True)
    targets = [os.path.join(work, variant.name, os.path.basename(source) + ".o") for source in sources]
    with ThreadPoolExecutor(JOBS) as pool:
        return list(pool.map(lambda pair: compile_one(*pair, variant, include_first), zip(sources, targets)))


def link(variant, objects, target, libraries=()):
    run(["g++", *variant.link, *objects, "-o", target, "-lpthread", "-lm", *libraries])
    return target


def emulator_sources():
    return [os.path.join(HERE, name) for name in ("emulator.cpp", "emulator_memory.cpp", "fake_cudart.cpp")]


def kernel_sources():
    """kernels/cuda/*.cu."""
    folder = os.path.join(ROOT, "kernels", "cuda")
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".cu"))


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def nvcc():
    """Its path, or None. NVCC names another one, or with `NVCC=none` none."""
    named = os.environ.get("NVCC")
    return shutil.which(named) if named else shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def ptxas():
    """The one beside nvcc; it must be there when nvcc is."""
    return os.path.join(os.path.dirname(os.path.realpath(nvcc())), "ptxas")
