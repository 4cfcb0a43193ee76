#!/usr/bin/env python3
"""Breaks the CUDA kernels on purpose and says which check notices: python3 run_faults.py BUILD [--only NAME]

Each fault of faults.py is an edit of a copy of the real source; one whose text is not there any more
fails, so the list cannot rot. The broken kernel goes through every step of the ladder (docs/cuda.md),
and so does the healthy one. It fails when a fault is noticed by no step, or the healthy kernels by any.
"""
import argparse
import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import programs
import run_ptx
import toolchain
from faults import FAULTS

# A step: its name, the build, and what the program is told about order and copies.
STEPS = [
    ("rr", "fast", "round-robin", "late"),
    ("reverse", "fast", "reverse", "late"),
    ("random", "fast", "random", "random"),
    ("early", "fast", "random", "early"),
    ("asan", "asan", "random", "late"),
    ("tsan", "tsan", "random", "late"),
    ("ptx", "ptx", "random", "late"),
]
BUILDS = {"fast": toolchain.FAST, "asan": toolchain.ASAN, "tsan": toolchain.TSAN, "ptx": toolchain.PTX}
PTX_ARCH = "80"

VERDICTS = [
    ("ASan", r"AddressSanitizer"),
    ("UBSan", r"runtime error: "),
    ("TSan", r"WARNING: ThreadSanitizer"),
    ("emu", r"EMU ERROR"),
    ("value", r"^failed: "),
]


def verdict(done):
    """The first word of a run's output that says it is broken; '' for a clean run."""
    for name, pattern in VERDICTS:
        if re.search(pattern, done.output, re.M):
            return name
    return {None: "hang", 0: ""}.get(done.status, "crash")


class Subject:
    """kernels/cuda with a fault in it, or healthy (fault None), under WORK/NAME.

    `healthy` is the healthy Subject: objects that a fault does not touch are taken from it.
    """

    def __init__(self, fault, work, healthy=None):
        self.fault, self.healthy = fault, healthy
        self.name = fault.name if fault else "healthy"
        self.folder = os.path.join(work, self.name)
        self.sources = os.path.join(self.folder, "kernels", "cuda")
        self.objects = {}  # build -> {source's name: object}
        if fault:
            shutil.rmtree(self.sources, ignore_errors=True)
            shutil.copytree(os.path.join(toolchain.ROOT, "kernels", "cuda"), self.sources)
            self.edit(os.path.join(self.sources, fault.file))

    def edit(self, path):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if text.count(self.fault.old) != 1:
            raise toolchain.ToolError(f"fault {self.name}: the text to break stands {text.count(self.fault.old)} times in "
                                      f"{self.fault.file}, not once:\n{self.fault.old}")
        toolchain.write(path, text.replace(self.fault.old, self.fault.new))

    def build(self, build):
        """The program for a build of BUILDS, made once."""
        variant = BUILDS[build]
        if build == "ptx":
            objects = {**self.compiled("fast"), **self.translated()}
        else:
            objects = self.compiled(build)
        self.objects[build] = objects
        return toolchain.link(variant, list(objects.values()), os.path.join(self.folder, f"kernels.{build}"))

    def compiled(self, build):
        if not self.fault:
            return self.objects.get(build) or programs.objects(programs.KERNELS, BUILDS[build], self.folder)
        if build == "fast" and (self.objects.get("fast") or self.fault.asm):
            return self.objects.get("fast") or self.healthy.objects["fast"]
        made = toolchain.compile_all(self.folder, BUILDS[build], self.touched(), (f"-I{self.folder}",))
        return {**self.healthy.objects[build], **{os.path.basename(s): o for s, o in zip(self.touched(), made)}}

    def touched(self):
        """The kernels that the fault is in: one, or of a header all."""
        if not self.fault:
            return toolchain.kernel_sources()
        names = [os.path.basename(source) for source in toolchain.kernel_sources()]
        return [os.path.join(self.sources, name) for name in names if self.fault.file in (name, "device.cuh")]

    def translated(self):
        """nvcc's PTX as objects: of what the fault is in, beside the healthy ones."""
        made = {}
        for source in self.touched():
            ptx = run_ptx.to_ptx(source, PTX_ARCH, self.folder, (f"-I{self.folder}",))
            cpp = run_ptx.translated(ptx, self.folder, PTX_ARCH)
            made[os.path.basename(cpp)] = toolchain.compile_all(self.folder, BUILDS["ptx"], [cpp])[0]
        healthy = {name: path for name, path in (self.healthy.objects["ptx"] if self.healthy else {}).items()
                   if name.endswith(".ptx.cpp")}
        return {**healthy, **made}

    def verdicts(self, builds):
        """[verdict of each step], None for one that was not run: g++ never sees asm."""
        if self.fault and self.fault.asm:
            builds = ["ptx"]
        binaries = {build: self.build(build) for build in builds}
        return [verdict(programs.run(programs.KERNELS, binaries[build], order, copies, stop=True)) if build in builds else None
                for _, build, order, copies in STEPS]


def undocumented():
    """Faults that docs/cuda.md does not list."""
    with open(os.path.join(toolchain.ROOT, "docs", "cuda.md"), encoding="utf-8") as file:
        text = file.read()
    return [f"docs/cuda.md does not list {fault.name}" for fault in FAULTS if f"`{fault.name}`" not in text]


def row(name, verdicts, says):
    cells = "".join(f"{'-' if v == '' else 'n/a' if v is None else v:<9}" for v in verdicts)
    return f"{name:<24}{cells}{says}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", help="the build directory to work in")
    parser.add_argument("--only", default="", help="part of a fault's name")
    options = parser.parse_args()
    work = os.path.join(options.build, "cuda-faults")
    builds = [build for build in BUILDS if build != "ptx" or toolchain.nvcc()]
    if "ptx" not in builds:
        print("SKIPPED: nvcc is not here, so no fault went through its PTX, and those of asm went through nothing")
    print(row("fault", [name for name, *_ in STEPS], ""))
    healthy = Subject(None, work)
    verdicts = healthy.verdicts(builds)
    print(row("none", verdicts, ""), flush=True)
    failures = undocumented() + (["the healthy kernels are objected to"] if any(verdicts) else [])
    chosen = [fault for fault in FAULTS if options.only in fault.name and ("ptx" in builds or not fault.asm)]
    with ThreadPoolExecutor(toolchain.JOBS) as pool:
        for fault, verdicts in zip(chosen, pool.map(lambda f: Subject(f, work, healthy).verdicts(builds), chosen)):
            print(row(fault.name, verdicts, fault.says), flush=True)
            if not any(verdicts):
                failures.append(f"no step notices {fault.name}: {fault.says}")
    print("\n".join(failures))
    print(f"{max(0, 1 + len(chosen) - len(failures))} passed, {len(failures)} failed")
    return bool(failures)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except toolchain.ToolError as error:
        sys.exit(f"run_faults.py: {error}")
