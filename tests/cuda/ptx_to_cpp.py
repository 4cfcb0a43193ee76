#!/usr/bin/env python3
"""nvcc's own PTX of the CUDA kernels as C++ for the emulator: python3 ptx_to_cpp.py IN.ptx OUT.cpp

g++ compiles kernels/cuda with the emulator's branch of device.cuh, so the asm strings, the code nvcc
makes of the C++ and its address arithmetic would never run. Translated, they do: on the same fibers,
under the same tests, in place of the kernels g++ compiled (ptx_runtime.h says how they take over).

PTX registers are bits; an instruction says what it takes them for. So a register becomes an unsigned
variable, and `add.s32 %r3, %r1, %r2` becomes `put<s32>(r_r3, add(get<s32>(r_r1), get<s32>(r_r2)))`.
What `add` means stands in ptx_runtime.h, tested by test_ptx.py. Which instructions there are stands
in the tables below. One that is in no table stops the translation, with its line: nothing is
skipped, so nothing passes because it was not understood. The C++ carries the PTX's line numbers.
"""
import re
import sys

from ptx_parse import BITS, PtxError, instruction, module, variable

INTEGERS = ("s16", "u16", "s32", "u32", "s64", "u64")
WORDS = ("s32", "u32")
LOGICAL = ("b16", "b32", "b64", "pred")

# opcode, %-type: the types it has, the function in ptx_runtime.h, types of the result and of the
# operands: T the instruction's, W twice as wide, others as named.
TABLE = [
    ("add.%", INTEGERS, "add", "T", "T T"),
    ("sub.%", INTEGERS, "sub", "T", "T T"),
    ("mul.lo.%", INTEGERS, "mul_lo", "T", "T T"),
    ("mul.hi.%", INTEGERS, "mul_hi", "T", "T T"),
    ("mul.wide.%", ("s16", "u16", "s32", "u32"), "mul_wide", "W", "T T"),
    ("mad.lo.%", INTEGERS, "mad_lo", "T", "T T T"),
    ("mad.hi.%", INTEGERS, "mad_hi", "T", "T T T"),
    ("mad.wide.%", ("s16", "u16", "s32", "u32"), "mad_wide", "W", "T T W"),
    ("div.%", INTEGERS, "divide", "T", "T T"),
    ("rem.%", INTEGERS, "remainder", "T", "T T"),
    ("min.%", INTEGERS, "minimum", "T", "T T"),
    ("max.%", INTEGERS, "maximum", "T", "T T"),
    ("neg.%", ("s16", "s32", "s64"), "negate", "T", "T"),
    ("abs.%", ("s16", "s32", "s64"), "absolute", "T", "T"),
    ("and.%", LOGICAL, "bit_and", "T", "T T"),
    ("or.%", LOGICAL, "bit_or", "T", "T T"),
    ("xor.%", LOGICAL, "bit_xor", "T", "T T"),
    ("not.%", LOGICAL, "bit_not", "T", "T"),
    ("shl.%", ("b16", "b32", "b64"), "shift_left", "T", "T u32"),
    ("shr.%", INTEGERS + ("b16", "b32", "b64"), "shift_right", "T", "T u32"),
    ("shf.l.wrap.%", ("b32",), "funnel_left_wrap", "u32", "u32 u32 u32"),
    ("shf.l.clamp.%", ("b32",), "funnel_left_clamp", "u32", "u32 u32 u32"),
    ("shf.r.wrap.%", ("b32",), "funnel_right_wrap", "u32", "u32 u32 u32"),
    ("shf.r.clamp.%", ("b32",), "funnel_right_clamp", "u32", "u32 u32 u32"),
    ("prmt.%", ("b32",), "permute", "u32", "u32 u32 u32"),
    ("lop3.%", ("b32",), "lop3", "u32", "u32 u32 u32 u32"),
    ("bfe.%", WORDS + ("s64", "u64"), "bit_extract", "T", "T u32 u32"),
    ("bfi.%", ("b32", "b64"), "bit_insert", "T", "T T u32 u32"),
    ("brev.%", ("b32",), "bit_reverse", "u32", "u32"),
    ("popc.%", ("b32", "b64"), "popcount", "u32", "T"),
    ("clz.%", ("b32", "b64"), "leading_zeros", "u32", "T"),
    ("bfind.%", ("u32",), "find_highest", "u32", "u32"),
    ("bfind.shiftamt.%", ("u32",), "find_highest_shift", "u32", "u32"),
    ("dp4a.s32.%", ("s32",), "dot4", "s32", "s32 s32 s32"),
    ("selp.%", INTEGERS + ("b16", "b32", "b64", "f32"), "select", "T", "T T pred"),
    # Round to nearest even is the default of f32, and without .ftz denormals stay.
    ("add(.rn)?.%", ("f32",), "add", "T", "T T"),
    ("sub(.rn)?.%", ("f32",), "sub", "T", "T T"),
    ("mul(.rn)?.%", ("f32",), "multiply", "T", "T T"),
    ("fma.rn.%", ("f32",), "fused_multiply_add", "T", "T T T"),
    ("div.(rn|full|approx).%", ("f32",), "divide", "T", "T T"),
    ("rcp.(rn|approx).%", ("f32",), "reciprocal", "T", "T"),
    ("sqrt.(rn|approx).%", ("f32",), "square_root", "T", "T"),
    ("rsqrt.approx.%", ("f32",), "reciprocal_root", "T", "T"),
    ("ex2.approx.%", ("f32",), "exp2", "T", "T"),
    ("ex2.approx.ftz.%", ("f32",), "exp2_flush", "T", "T"),
    ("lg2.approx.%", ("f32",), "log2", "T", "T"),
    ("neg.%", ("f32",), "negate", "T", "T"),
    ("abs.%", ("f32",), "absolute", "T", "T"),
    ("min.%", ("f32",), "minimum", "T", "T T"),
    ("max.%", ("f32",), "maximum", "T", "T T"),
    ("min.NaN.%", ("f32",), "minimum_nan", "T", "T T"),
    ("max.NaN.%", ("f32",), "maximum_nan", "T", "T T"),
    ("copysign.%", ("f32",), "copy_sign", "T", "T T"),
]

# cvt: the whole opcode, the function, type of the result and of the operands. Between integers it
# is a rule of its own.
CONVERSIONS = [
    (r"cvt\.rn\.f32\.([su](?:16|32|64))", "to_f32", "f32", "{0}"),
    (r"cvt\.rni\.([su](?:16|32|64))\.f32", "round_even<{0}>", "{0}", "f32"),
    (r"cvt\.rzi\.([su](?:16|32|64))\.f32", "round_zero<{0}>", "{0}", "f32"),
    (r"cvt\.rmi\.([su](?:16|32|64))\.f32", "round_down<{0}>", "{0}", "f32"),
    (r"cvt\.rpi\.([su](?:16|32|64))\.f32", "round_up<{0}>", "{0}", "f32"),
    (r"cvt\.rni\.f32\.f32", "nearest_integer", "f32", "f32"),
    (r"cvt\.sat\.(s8|u8|s16|u16)\.(s32|u32)", "saturate<{0}>", "{0}", "{1}"),
    (r"cvt\.sat\.f32\.f32", "saturate_unit", "f32", "f32"),
    (r"cvt\.rn\.bf16\.f32", "to_bf16", "u16", "f32"),
    (r"cvt\.rn\.bf16x2\.f32", "to_bf16x2", "u32", "f32 f32"),
    (r"cvt\.f32\.bf16", "from_bf16", "f32", "u16"),
    (r"cvt\.rn\.f16\.f32", "to_f16", "u16", "f32"),
    (r"cvt\.f32\.f16", "from_f16", "f32", "u16"),
    (r"cvt\.pack\.sat\.s8\.s32\.b32", "pack_s8", "u32", "s32 s32 u32"),
    (r"cvt\.rn\.f64\.([su]32)", "to_f64", "f64", "{0}"),
]

SPECIAL_REGISTERS = {
    **{f"%{ptx}.{axis}": f"{cuda}.{axis}" for axis in "xyz" for ptx, cuda in
       (("tid", "threadIdx"), ("ctaid", "blockIdx"), ("ntid", "blockDim"), ("nctaid", "gridDim"))},
    "%laneid": "lane_id()", "%warpid": "warp_id()",
    "%lanemask_lt": "((1u << lane_id()) - 1)", "WARP_SZ": "32",
}

# Words of ld, st and cp.async that choose a cache, an order that one block's barriers already give,
# or nothing at all: they do not change what a lone block reads.
CACHE_WORDS = re.compile(r"ca|cg|cs|lu|cv|nc|wb|wt|weak|volatile|relaxed|cta|gpu|L1::\w+|L2::\w+|L2|evict_\w+")
SPACES = ("global", "shared", "local", "const", "param", "shared::cta")

COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
               "lo": "<", "ls": "<=", "hi": ">", "hs": ">="}

# mma: the opcode, the function, the type of C and D.
MMA = [
    (r"mma\.sync\.aligned\.m16n8k(16|32)\.row\.col(?:\.satfinite)?\.s32\.([su]8)\.([su]8)\.s32", "mma_int8<{0}, {1}, {2}>", "s32"),
    (r"mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.bf16\.bf16\.f32", "mma_bf16", "f32"),
]

SHUFFLES = ("up", "down", "bfly", "idx")


def identifier(name):
    return re.sub(r"\W", "_", name)


def double_width(kind):
    return kind[0] + str(BITS[kind] * 2)


def vector(operand):
    """The registers of `{%r1, %r2}`; a lone one is a vector of itself."""
    return [part.strip() for part in operand[1:-1].split(",")] if operand.startswith("{") else [operand]


class KernelWriter:
    """The C++ of one kernel."""

    def __init__(self, kernel, addresses):
        self.kernel = kernel
        self.addresses = dict(addresses)  # module variables: name -> C++ expression
        self.scopes = [{}]  # PTX register -> (C++ name, container)
        self.declarations, self.code = [], []
        self.shared = []  # variables the kernel declares itself
        self.declared = 0

    # --- registers and operands

    def declare(self, line, text):
        kind, names = re.fullmatch(r"\.reg\s+\.(\w+)\s+(.*)", text).groups()
        if kind not in BITS:
            raise PtxError(line, f"registers of type {kind}")
        container = "pred" if kind == "pred" else f"u{max(BITS[kind], 16)}"
        for name in names.split(","):
            counted = re.fullmatch(r"\s*(%\w+)<(\d+)>\s*", name)
            for each in ([f"{counted.group(1)}{i}" for i in range(int(counted.group(2)))] if counted
                         else [name.strip()]):
                self.declare_one(each, container)

    def declare_one(self, name, container):
        self.declared += len(self.scopes) > 1  # asm scopes repeat names
        suffix = f"_{self.declared}" if len(self.scopes) > 1 else ""
        cpp = f"r_{identifier(name.lstrip('%'))}{suffix}"
        self.scopes[-1][name] = (cpp, container)
        self.declarations.append(f"{container} {cpp} = {'false' if container == 'pred' else f'({container})~0ull'};")

    def register(self, line, name):
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        raise PtxError(line, f"unknown register {name}")

    def is_register(self, name):
        return any(name in scope for scope in self.scopes)

    def value(self, line, operand, kind):
        """The C++ of an operand read as `kind`."""
        if operand.startswith("!"):
            return "!" + self.value(line, operand[1:], kind)
        if self.is_register(operand):
            return f"get<{kind}>({self.register(line, operand)[0]})"
        if operand in SPECIAL_REGISTERS:
            return f"({kind}){SPECIAL_REGISTERS[operand]}"
        if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", operand):
            return f"bits<{kind}>(0x{operand[2:]}u)"
        if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", operand) and kind == "f64":
            return f"bits<f64>(0x{operand[2:]}ull)"
        if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", operand) and kind[0] != "f":
            return f"({kind}){operand.rstrip('U')}ll" if operand[0] == "-" else f"({kind}){operand.rstrip('U')}ull"
        if operand in self.addresses:
            return f"({kind}){self.addresses[operand]}"
        raise PtxError(line, f"operand {operand} as {kind}")

    def put(self, line, operand, kind, expression):
        if operand == "_":
            return f"(void)({expression});"
        return f"put<{kind}>({self.register(line, operand)[0]}, {expression});"

    def address(self, line, operand):
        """[%rd1+16], [name+4] or [%r1] as a u64."""
        match = re.fullmatch(r"\[\s*([^+\]\s]+)\s*(?:\+\s*(-?\w+))?\s*\]", operand)
        if not match:
            raise PtxError(line, f"address {operand}")
        base, offset = match.groups()
        kind = "u64"
        if self.is_register(base):
            kind = self.register(line, base)[1]
        return f"((u64){self.value(line, base, kind)} + (s64){offset or 0})"

    # --- instructions: each method is asked in turn and answers None when it is not its own

    def from_table(self, i):
        stem, _, kind = i.opcode.rpartition(".")
        for pattern, kinds, function, result, operands in TABLE:
            pattern = pattern.rpartition(".%")[0].replace(".", r"\.")
            if kind in kinds and re.fullmatch(pattern, stem):
                return self.call(i, function, self.concrete(result, kind),
                                 [self.concrete(name, kind) for name in operands.split()])
        return None

    @staticmethod
    def concrete(name, kind):
        if kind[0] == "b":
            kind = "u" + kind[1:]
        return {"T": kind, "W": double_width(kind) if name == "W" else ""}.get(name, name)

    def call(self, i, function, result, kinds):
        if len(i.operands) != len(kinds) + 1:
            raise PtxError(i.line, f"{i.opcode} with {len(i.operands)} operands")
        values = [self.value(i.line, operand, kind) for operand, kind in zip(i.operands[1:], kinds)]
        return self.put(i.line, i.operands[0], result, f"{function}({', '.join(values)})")

    def convert(self, i):
        integers = re.fullmatch(r"cvt\.([us](?:8|16|32|64))\.([us](?:8|16|32|64))", i.opcode)
        if integers:
            to, source = integers.groups()
            return self.put(i.line, i.operands[0], to, f"({to}){self.value(i.line, i.operands[1], source)}")
        for pattern, function, result, kinds in CONVERSIONS:
            match = re.fullmatch(pattern, i.opcode)
            if match:
                return self.call(i, function.format(*match.groups()), result.format(*match.groups()),
                                 kinds.format(*match.groups()).split())
        return None

    def move(self, i):
        match = re.fullmatch(r"cvta(\.to)?\.(global|shared|local|const)\.u64", i.opcode)
        if match:
            function = {"shared": "shared_from_generic" if match.group(1) else "generic_from_shared"}.get(match.group(2), "")
            return self.put(i.line, i.operands[0], "u64", f"{function}({self.value(i.line, i.operands[1], 'u64')})")
        match = re.fullmatch(r"mov\.(\w+)", i.opcode)
        if not match or match.group(1) not in BITS:
            return None
        kind, (to, source) = match.group(1), i.operands
        if to.startswith("{"):
            part = f"u{BITS[kind] // len(vector(to))}"
            puts = [self.put(i.line, name, part, f"({part})(whole >> {n * BITS[part]})")
                    for n, name in enumerate(vector(to)) if name != "_"]
            return f"{{ u64 whole = {self.value(i.line, source, f'u{BITS[kind]}')}; {' '.join(puts)} }}"
        if source.startswith("{"):
            part = f"u{BITS[kind] // len(vector(source))}"
            parts = [f"(u64){self.value(i.line, name, part)} << {n * BITS[part]}"
                     for n, name in enumerate(vector(source))]
            return self.put(i.line, to, f"u{BITS[kind]}", f"(u{BITS[kind]})({' | '.join(parts)})")
        return self.put(i.line, to, kind, self.value(i.line, source, kind))

    def memory_words(self, i):
        """(space, vector length, type) of a load or a store."""
        words = i.opcode.split(".")[1:]
        kind, count, space = words[-1], 1, "generic"
        for word in words[:-1]:
            if word in SPACES:
                space = word.split("::")[0]
            elif re.fullmatch(r"v[248]", word):
                count = int(word[1:])
            elif not CACHE_WORDS.fullmatch(word):
                raise PtxError(i.line, f"unknown word .{word} in {i.opcode}")
        if kind not in BITS or kind == "pred":
            raise PtxError(i.line, f"unknown type in {i.opcode}")
        return space, count, kind

    def load(self, i):
        if i.opcode.split(".")[0] not in ("ld", "ldu"):
            return None
        space, count, kind = self.memory_words(i)
        names, width = vector(i.operands[0]), BITS[kind] // 8
        if len(names) != count:
            raise PtxError(i.line, f"{i.opcode} into {len(names)} registers")
        puts = [self.put(i.line, name, kind, f"values[{n}]") for n, name in enumerate(names) if name != "_"]
        address = self.address(i.line, i.operands[1])
        return (f"{{ u64 at = check_access<space_{space}>({address}, {count * width}, \"{i.opcode}\", HERE); "
                f"{kind} values[{count}]; load(values, at); {' '.join(puts)} }}")

    def store(self, i):
        if i.opcode.split(".")[0] != "st":
            return None
        space, count, kind = self.memory_words(i)
        names, width = vector(i.operands[1]), BITS[kind] // 8
        values = ", ".join(self.value(i.line, name, kind) for name in names)
        address = self.address(i.line, i.operands[0])
        return (f"{{ u64 at = check_access<space_{space}>({address}, {count * width}, \"{i.opcode}\", HERE); "
                f"const {kind} values[{count}] = {{{values}}}; store(at, values); }}")

    def set_predicate(self, i):
        match = re.fullmatch(r"setp\.(\w+?)(?:\.(and|or|xor))?\.(\w+)", i.opcode)
        if not match or match.group(3) not in BITS:
            return None
        name, combine, kind = match.groups()
        a, b = (self.value(i.line, operand, kind) for operand in i.operands[1:3])
        if name in COMPARISONS:
            test = f"{a} {COMPARISONS[name]} {b}"
            if name == "ne" and kind == "f32":  # without u: false when either is NaN
                test = f"({test} && !unordered({a}, {b}))"
        elif kind == "f32" and name in ("nan", "num"):
            test = f"{'!' if name == 'num' else ''}unordered({a}, {b})"
        elif kind == "f32" and name[-1] == "u" and name[:-1] in COMPARISONS:
            test = f"(unordered({a}, {b}) || {a} {COMPARISONS[name[:-1]]} {b})"
        else:
            return None
        return self.predicates(i, f"({test})", combine)

    def predicates(self, i, test, combine):
        """`p` and `p|q` where q has the opposite comparison."""
        names, with_third = i.operands[0].split("|"), "{0}"
        if combine:
            third = self.value(i.line, i.operands[3], "pred")
            with_third = {"and": "{0} && ", "or": "{0} || ", "xor": "{0} != "}[combine] + third
        puts = [self.put(i.line, name, "pred", with_third.format(value))
                for name, value in zip(names, ("test", "!test"))]
        return f"{{ const bool test = {test}; {' '.join(puts)} }}"

    def synchronize(self, i):
        if re.fullmatch(r"bar\.sync|barrier\.sync(\.aligned)?|bar\.cta\.sync", i.opcode):
            threads = self.value(i.line, i.operands[1], "u32") if len(i.operands) > 1 else "0"
            return f"block_barrier({self.value(i.line, i.operands[0], 'u32')}, {threads}, HERE);"
        if i.opcode == "bar.warp.sync":
            return f"warp_barrier({self.value(i.line, i.operands[0], 'u32')}, HERE);"
        if re.fullmatch(r"(membar|fence)(\.\w+)*", i.opcode):
            return "memory_fence();"
        return None

    def shuffle(self, i):
        match = re.fullmatch(r"shfl\.sync\.(\w+)\.b32", i.opcode)
        if not match or match.group(1) not in SHUFFLES:
            return None
        to, _, valid = i.operands[0].partition("|")
        values = ", ".join(self.value(i.line, operand, "u32") for operand in i.operands[1:])
        puts = self.put(i.line, to, "u32", "moved.value")
        puts += self.put(i.line, valid, "pred", "moved.valid") if valid else ""
        return f"{{ const shuffled moved = shuffle<shuffle_{match.group(1)}>({values}, HERE); {puts} }}"

    def vote(self, i):
        match = re.fullmatch(r"vote\.sync\.(ballot\.b32|any\.pred|all\.pred)", i.opcode)
        if match:
            name, kind = match.group(1).split(".")
            asked = self.value(i.line, i.operands[1], "pred")
            mask = self.value(i.line, i.operands[2], "u32")
            return self.put(i.line, i.operands[0], "u32" if kind == "b32" else "pred", f"vote_{name}({asked}, {mask}, HERE)")
        match = re.fullmatch(r"redux\.sync\.(add|min|max)\.([su]32)", i.opcode)
        if match:
            value, mask = self.value(i.line, i.operands[1], match.group(2)), self.value(i.line, i.operands[2], "u32")
            return self.put(i.line, i.operands[0], match.group(2), f"redux_{match.group(1)}({value}, {mask}, HERE)")
        return None

    def matrix(self, i):
        for pattern, function, kind in MMA:
            match = re.fullmatch(pattern, i.opcode)
            if not match:
                continue
            function = function.format(*match.groups())
            a, b = (", ".join(self.value(i.line, name, "u32") for name in vector(i.operands[n])) for n in (1, 2))
            c = ", ".join(self.value(i.line, name, kind) for name in vector(i.operands[3]))
            puts = " ".join(self.put(i.line, name, kind, f"d[{n}]") for n, name in enumerate(vector(i.operands[0])))
            return f"{{ {kind} d[4]; {function}(d, {{{a}}}, {{{b}}}, {{{c}}}, HERE); {puts} }}"
        match = re.fullmatch(r"ldmatrix\.sync\.aligned\.m8n8\.x([124])(\.trans)?\.shared(?:::cta)?\.b16", i.opcode)
        if not match:
            return None
        count, trans = match.groups()
        puts = " ".join(self.put(i.line, name, "u32", f"d[{n}]") for n, name in enumerate(vector(i.operands[0])))
        return (f"{{ u32 d[{count}]; ldmatrix<{count}, {'true' if trans else 'false'}>(d, "
                f"{self.address(i.line, i.operands[1])}, HERE); {puts} }}")

    def asynchronous_copy(self, i):
        if not i.opcode.startswith("cp.async."):
            return None
        if i.opcode == "cp.async.commit_group":
            return "copy_commit();"
        if i.opcode == "cp.async.wait_group":
            return f"copy_wait({self.value(i.line, i.operands[0], 's32')});"
        if i.opcode == "cp.async.wait_all":
            return "copy_commit(); copy_wait(0);"
        match = re.fullmatch(r"cp\.async\.(ca|cg)\.shared(?:::cta)?\.global(?:\.L2::\w+)?", i.opcode)
        if not match:
            return None
        size = self.value(i.line, i.operands[2], "s32")
        taken = self.value(i.line, i.operands[3], "s32") if len(i.operands) > 3 else size
        return (f"copy_async({self.address(i.line, i.operands[0])}, {self.address(i.line, i.operands[1])}, "
                f"{size}, {taken}, {'true' if match.group(1) == 'cg' else 'false'}, HERE);")

    def atomic(self, i):
        match = re.fullmatch(r"(atom|red)(?:\.(?:relaxed|gpu|cta))*(?:\.(global|shared))?(?:\.(?:relaxed|gpu|cta))*"
                             r"\.(add|min|max|or|and|exch)\.(\w+)", i.opcode)
        if not match or match.group(4) not in BITS:
            return None
        name, space, operation, kind = match.groups()
        kind = "u" + kind[1:] if kind[0] == "b" else kind
        to = i.operands[:1] if name == "atom" else ["_"]
        where, value = i.operands[-2:]
        return self.put(i.line, to[0], kind, f"atomic_{operation}<{kind}>(check_access<space_{space or 'generic'}>("
                        f"{self.address(i.line, where)}, {BITS[kind] // 8}, \"{i.opcode}\", HERE), "
                        f"{self.value(i.line, value, kind)})")

    def flow(self, i):
        if i.opcode in ("bra", "bra.uni"):
            return f"goto L_{identifier(i.operands[0])};"
        if i.opcode in ("ret", "exit"):
            return "return;"
        if i.opcode == "trap":
            return "trap(HERE);"
        return None

    def translate(self, i):
        for rule in (self.from_table, self.convert, self.move, self.load, self.store, self.set_predicate,
                     self.synchronize, self.shuffle, self.vote, self.matrix, self.asynchronous_copy, self.atomic,
                     self.flow):
            cpp = rule(i)
            if cpp:
                return f"if ({self.value(i.line, i.guard.lstrip('!'), 'pred')} != {'true' if i.guard[0] == '!' else 'false'}) "\
                       f"{{ {cpp} }}" if i.guard else cpp
        raise PtxError(i.line, f"unknown instruction {i.opcode} {', '.join(i.operands)}")

    # --- the body

    def statement(self, s):
        if s.kind == "open":
            self.scopes.append({})
        elif s.kind == "close":
            self.scopes.pop()
        elif s.kind == "label":
            self.code.append((s.line, f"L_{identifier(s.text)}:;"))
        elif s.text.startswith(".reg"):
            self.declare(s.line, s.text)
        elif s.text.startswith(".pragma"):
            pass  # unrolling, and nothing that changes a value
        elif s.text.startswith("."):
            self.variable(s)
        else:
            self.code.append((s.line, self.translate(instruction(s))))

    def variable(self, s):
        found = variable(s)
        if not found or found.space not in ("shared", "local"):
            raise PtxError(s.line, f"unknown directive {s.text}")
        if found.space == "shared":
            self.shared.append(found)
        else:
            name = f"local_{identifier(found.name)}"
            self.declarations.append(f"alignas({found.align}) unsigned char {name}[{found.size}];")
            self.addresses[found.name] = f"(u64){name}"

    def write(self, shared_bytes):
        k, name = self.kernel, identifier(self.kernel.name)
        self.addresses.update({p: f"(u64)values[{n}]" for n, p in enumerate(k.parameters)})
        for s in k.body:  # a variable may be declared after the code that uses it
            if s.text.startswith(".shared"):
                found = variable(s)
                shared_bytes = (shared_bytes + found.align - 1) // found.align * found.align
                self.addresses[found.name] = f"shared_static({shared_bytes})"
                shared_bytes += found.size
        for s in k.body:
            self.statement(s)
        lines = [f"static void kernel_{name}(void **values)", "{", "    (void)values;"]
        lines += [f"    {text}" for text in self.declarations]
        lines += [f"#line {line}\n    {text}" for line, text in self.code]
        lines += ["}", f'extern "C" char symbol_{name} __asm__("{k.name}");',
                  f'static const registration registered_{name}({{&symbol_{name}, "{k.name}", kernel_{name}, {shared_bytes}}});', ""]
        return "\n".join(lines)


def module_variables(variables):
    """(C++ definitions, name -> address, bytes of static shared memory)."""
    definitions, addresses, shared_bytes = [], {}, 0
    for v in variables:
        if v.space == "shared" and v.size == 0:
            addresses[v.name] = "shared_dynamic()"
        elif v.space == "shared":
            shared_bytes = (shared_bytes + v.align - 1) // v.align * v.align
            addresses[v.name] = f"shared_static({shared_bytes})"
            shared_bytes += v.size
        else:
            name = f"variable_{identifier(v.name)}"
            values = ", ".join(map(str, v.bytes))
            definitions.append(f"alignas({v.align}) static unsigned char {name}[{v.size}] = {{{values}}};")
            addresses[v.name] = f"(u64){name}"
    return definitions, addresses, shared_bytes


def translate(text, source="kernel.ptx"):
    """The C++ file for a PTX module. PtxError names the line of what it does not know."""
    variables, kernels = module(text)
    definitions, addresses, shared_bytes = module_variables(variables)
    bodies = [KernelWriter(kernel, addresses).write(shared_bytes) for kernel in kernels]
    head = ['#include "tests/cuda/ptx_runtime.h"', "namespace {", "using namespace ptx;", f'#line 1 "{source}"']
    return "\n".join(head + definitions + bodies + ["}", ""])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.splitlines()[0])
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    try:
        cpp = translate(text, sys.argv[1].rsplit("/", 1)[-1])
    except PtxError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(cpp)


if __name__ == "__main__":
    main()
