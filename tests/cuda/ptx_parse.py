"""PTX text, as nvcc emits it, cut into statements and functions, each with its line.

A grammar of PTX is not needed: a module is variables, and functions with a flat body of labels,
declarations and instructions. Braces open a scope (inline asm brings its own registers) where a
statement could begin, and hold operands anywhere else.
"""
import re
from dataclasses import dataclass, field


class PtxError(Exception):
    """Something this reader or the translator does not know. It names the line and stops."""

    def __init__(self, line, message):
        super().__init__(f"line {line}: {message}")


@dataclass
class Statement:
    line: int
    kind: str  # "text" (ends in ;), "label", "open", "close", "function" (its header)
    text: str = ""


@dataclass
class Instruction:
    line: int
    opcode: str
    operands: list
    guard: str = ""  # "%p1", or "!%p1"


@dataclass
class Variable:
    line: int
    space: str  # shared, const, global, local
    name: str
    align: int
    size: int  # bytes; 0 for an extern array
    bytes: list = field(default_factory=list)  # of an initialised .b8 array


@dataclass
class Kernel:
    line: int
    name: str
    parameters: list  # names
    body: list = field(default_factory=list)  # Statement


BITS = {kind + str(bits): bits for kind in "busf" for bits in (8, 16, 32, 64)}
BITS["pred"] = 1
NAME = r"[\w$%.]+"


def without_comments(text):
    """Comments become blanks; lines stay where they are."""
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    return re.sub(r"^[ \t]*\.(loc|file|version|target|address_size|section)\b[^\n]*", "", text, flags=re.M)


def statements(text):
    """The statements of a module in order."""
    text, line, start, buffer, depth = without_comments(text), 1, 1, "", 0
    for char in text:
        line += char == "\n"
        if not buffer.strip():
            start = line
        if char == "{" and re.search(r"\.(entry|func)\b", buffer) and not depth:
            yield Statement(start, "function", buffer.strip())
            buffer = ""
        elif char in "{}" and not buffer.strip() and not depth:
            yield Statement(line, "open" if char == "{" else "close")
        elif char == ":" and re.fullmatch(r"\s*[\w$]+", buffer):
            yield Statement(start, "label", buffer.strip())
            buffer = ""
        elif char == ";" and not depth:
            yield Statement(start, "text", " ".join(buffer.split()))
            buffer = ""
        else:
            depth += (char == "{") - (char == "}")
            buffer += char
    if buffer.strip():
        raise PtxError(start, f"text without an end: {buffer.strip()[:60]}")


def split_operands(text):
    """`%r1, {%r2, %r3}, [%rd4+8]` at its outer commas."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "{[") - (char in "}]")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts if part.strip()]


def instruction(statement):
    """`@!%p1 add.s32 %r1, %r2, 3` as an Instruction."""
    match = re.fullmatch(r"(?:@(!?%[\w$]+)\s+)?([\w.:]+)(?:\s+(.*))?", statement.text)
    if not match:
        raise PtxError(statement.line, f"not an instruction: {statement.text}")
    guard, opcode, rest = match.groups()
    return Instruction(statement.line, opcode, split_operands(rest or ""), guard or "")


def variable(statement):
    """A .shared, .const, .global or .local variable, or None."""
    match = re.fullmatch(
        r"(?:\.(?:visible|extern|weak|common)\s+)?\.(shared|const|global|local)\s+(?:\.align\s+(\d+)\s+)?"
        r"\.(\w+)\s+(" + NAME + r")(?:\[(\d*)\])?(?:\s*=\s*\{(.*)\})?", statement.text)
    if not match:
        return None
    space, align, kind, name, count, values = match.groups()
    if kind not in BITS or (values is not None and kind not in ("b8", "u8")):
        raise PtxError(statement.line, f"variable of a type that is not handled: {statement.text}")
    width = BITS[kind] // 8
    size = width * (1 if count is None else int(count or 0))
    data = [int(value) for value in values.split(",")] if values else []
    return Variable(statement.line, space, name, int(align or width), size, data)


def parameters(line, text):
    """Names of `.param .u64 .ptr .align 1 name, .param .align 8 .b8 name[24]`, in order."""
    names = []
    for part in filter(str.strip, text.split(",")):
        match = re.fullmatch(r"\s*\.param\s+(?:\.align\s+\d+\s+)?\.\w+\s+(?:\.ptr\s+(?:\.\w+\s+)*?"
                             r"(?:\.align\s+\d+\s+)?)?(" + NAME + r")(?:\[\d+\])?\s*", part)
        if not match:
            raise PtxError(line, f"parameter that is not handled: {part.strip()}")
        names.append(match.group(1))
    return names


def kernel_of(statement):
    match = re.match(r"(?:\.(?:visible|weak|extern)\s+)?\.entry\s+(" + NAME + r")\s*\((.*?)\)", statement.text, re.S)
    if not match:
        raise PtxError(statement.line, f"only kernels are handled, not {statement.text[:70]}")
    return Kernel(statement.line, match.group(1), parameters(statement.line, match.group(2)))


def module(text):
    """([Variable], [Kernel]) of a PTX file."""
    variables, kernels, depth = [], [], 0
    for statement in statements(text):
        if statement.kind == "function":
            kernels.append(kernel_of(statement))
            depth = 1
        elif depth:
            depth += (statement.kind == "open") - (statement.kind == "close")
            if depth:
                kernels[-1].body.append(statement)
        else:
            found = variable(statement)
            if not found:
                raise PtxError(statement.line, f"not handled outside a function: {statement.text[:70]}")
            variables.append(found)
    if depth or not kernels:
        raise PtxError(1, "no whole kernel in this file")
    return variables, kernels
