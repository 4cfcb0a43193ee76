"""The programs that the steps build again and again, with kernels of different makes in them."""
import os
import shutil
import subprocess
from dataclasses import dataclass

import toolchain

TIMEOUT = 120  # seconds; a run takes one or two


@dataclass(frozen=True)
class Program:
    name: str
    kernels: tuple  # .cu files
    host: tuple  # what calls and checks them


@dataclass(frozen=True)
class Done:
    status: int  # None: it did not end
    output: str

    @property
    def failed(self):
        return self.status != 0


HOST = tuple(os.path.join(toolchain.ROOT, name) for name in (
    "tests/cuda/check_kernels.c", "tests/cuda/kernel_cases.c", "kernels/cuda/reference.c", "kernels/cuda/pack.c",
    "base/rng.c"))
KERNELS = Program("kernels", tuple(toolchain.kernel_sources()), HOST)
LAYOUT = Program("layout", (os.path.join(toolchain.HERE, "layout.cu"),), ())
ALL = (LAYOUT, KERNELS)


def objects(program, variant, work):
    """{source's name: object} of the program with the kernels that g++ makes."""
    sources = [*toolchain.emulator_sources(), *program.host, *program.kernels]
    made = toolchain.compile_all(work, variant, sources)
    return {os.path.basename(source): target for source, target in zip(sources, made)}


def run(program, binary, order="round-robin", copies="late", stop=False):
    """One run under a thread order and an arrival of cp.async; `stop`: at the first failure."""
    command = [binary, order, copies, "7"] + (["stop"] if stop else [])
    if shutil.which("setarch"):  # TSan of gcc 12 has no room for many random bits in an address
        command = ["setarch", "-R", *command]
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1",
                   "TSAN_OPTIONS": "halt_on_error=1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False,
                              env=environment)
        return Done(done.returncode, done.stdout + done.stderr)
    except subprocess.TimeoutExpired as late:
        return Done(None, f"{program.name} did not end in {TIMEOUT} s\n{late.stdout or ''}")
