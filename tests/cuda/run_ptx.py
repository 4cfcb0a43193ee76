#!/usr/bin/env python3
"""What nvcc makes of the CUDA kernels: python3 run_ptx.py BUILD [--arch 80,90a,100a,120a]

For each architecture nvcc compiles every kernels/cuda/*.cu to PTX, and then
  gate    ptxas makes machine code of it and must report no stack frame and no spills;
  run     the PTX, translated to C++, takes the place of the kernels in the tests of them.
The run proves that translated kernels ran: it fails without a launch of one. Without nvcc both are
skipped, and the output says so.
"""
import argparse
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import programs
import toolchain
from ptx_parse import PtxError
from ptx_to_cpp import translate

ARCHITECTURES = ("80", "90a", "100a", "120a")


def to_ptx(source, arch, work, include_first=()):
    name = os.path.basename(source)
    target = os.path.join(work, f"{name}.{arch}.ptx")
    toolchain.run([toolchain.nvcc(), "-std=c++17", "-O3", "-ptx", f"-arch=compute_{arch}", *include_first,
                   f"-I{toolchain.ROOT}", source, "-o", target])
    return target


# --- the gate

ENTRY = re.compile(r"Compiling entry function '([\w$]+)' for '(\w+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers(.*)")


def gate(ptx, arch):
    """(lines to print, failures) of one PTX file."""
    report = toolchain.run([toolchain.ptxas(), "-v", f"-arch=sm_{arch}", "-o", os.devnull, ptx]).stderr
    with open(ptx, encoding="utf-8") as file:
        expected = re.findall(r"\.entry\s+([\w$]+)", file.read())
    lines, failures, seen = [], [], []
    for section in re.split(r"(?=ptxas info\s*: Compiling entry)", report)[1:]:
        name, stack, used = ENTRY.search(section).group(1), STACK.search(section), USED.search(section)
        if not stack or not used:
            failures.append(f"sm_{arch}: ptxas says nothing of {name}")
            continue
        seen.append(name)
        lines.append(f"  sm_{arch:<5} {demangled(name):<56} {used.group(1):>3} registers{used.group(2)}")
        if stack.groups() != ("0", "0", "0"):
            failures.append(f"sm_{arch}: {demangled(name)}: {stack.group()}")
    failures += [f"sm_{arch}: no report of {name}" for name in sorted(set(expected) - set(seen))]
    return lines, failures


def demangled(name):
    text = toolchain.run(["c++filt", name]).stdout.strip()
    return re.sub(r"^void |\(.*", "", text)


# --- the run

def translated(ptx, work, arch):
    """The C++ file of a PTX file. Its name has no architecture, so that ccache knows equal ones."""
    with open(ptx, encoding="utf-8") as file:
        text = file.read()
    name = re.sub(r"\.\w+\.ptx$", "", os.path.basename(ptx))
    try:
        return toolchain.write(os.path.join(work, arch, f"{name}.ptx.cpp"), translate(text, f"{name} (PTX)"))
    except PtxError as error:
        raise toolchain.ToolError(f"{ptx}: {error}") from error


SHARED = re.compile(r"^shared memory of ([\w$]+): (.*)$", re.M)
LAUNCHES = re.compile(r"^(\d+) launches of translated kernels$", re.M)


def run_program(program, binary, shared):
    """'' when it passed, and only with translated kernels. Notes what memory their launches gave."""
    done = programs.run(program, binary, "random", "random")
    shared.update({demangled(name): sizes for name, sizes in SHARED.findall(done.output)})
    launches = sum(int(count) for count in LAUNCHES.findall(done.output))
    if done.failed:
        return f"{program.name}: {done.output[-3000:]}"
    return "" if launches else f"{program.name}: no translated kernel ran"


def run_architecture(arch, ptx_of, work, base, shared):
    """[(program, failure or '')] of one architecture."""
    results = []
    for program in programs.ALL:
        kernels = [translated(ptx, work, arch) for ptx in ptx_of(program)]
        objects = toolchain.compile_all(os.path.join(work, arch), toolchain.PTX, kernels)
        binary = os.path.join(work, arch, program.name)
        toolchain.link(toolchain.FAST, [*base[program.name].values(), *objects], binary)
        results.append((program, run_program(program, binary, shared)))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", help="the build directory to work in")
    parser.add_argument("--arch", default=",".join(ARCHITECTURES))
    options = parser.parse_args()
    if not toolchain.nvcc():
        print("SKIPPED: nvcc is not here, so its PTX was neither run nor checked by ptxas")
        return 0
    work = os.path.join(options.build, "cuda-ptx")
    os.makedirs(work, exist_ok=True)
    archs = options.arch.split(",")
    sources = sorted({source for program in programs.ALL for source in program.kernels})
    with ThreadPoolExecutor(toolchain.JOBS) as pool:
        made = dict(zip([(source, arch) for source in sources for arch in archs],
                        pool.map(lambda pair: to_ptx(pair[0], pair[1], work),
                                 [(source, arch) for source in sources for arch in archs])))
        gates = list(pool.map(lambda pair: gate(made[pair], pair[1]),
                              [(source, arch) for arch in archs for source in toolchain.kernel_sources()]))
    failures = [failure for _, bad in gates for failure in bad]
    passed = len(gates) - sum(bool(bad) for _, bad in gates)
    print("machine code (ptxas): no stack frame, no spills" if not failures else "machine code (ptxas):")
    print("\n".join(line for lines, _ in gates for line in lines))
    base = {program.name: programs.objects(program, toolchain.FAST, work) for program in programs.ALL}
    shared = {}
    for arch in archs:
        results = run_architecture(arch, lambda program, a=arch: [made[s, a] for s in program.kernels], work, base, shared)
        for program, failure in results:
            print(f"compute_{arch:<5} {program.name}: {'FAILED' if failure else 'passed'}")
            passed += not failure
            failures += [f"compute_{arch}: {failure}"] if failure else []
    print("shared memory that launches gave:")
    print("\n".join(f"  {name:<64} {sizes}" for name, sizes in sorted(shared.items())))
    print("\n".join(failures))
    print(f"{passed} passed, {len(failures)} failed")
    return bool(failures)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except toolchain.ToolError as error:
        sys.exit(f"run_ptx.py: {error}")
