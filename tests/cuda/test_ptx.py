#!/usr/bin/env python3
"""Holds the PTX translator to what the PTX ISA says: small kernels with known answers.

    python3 test_ptx.py WORK

Each case is a few instructions from the inputs %r1, %r2, %r3 of a lane to its output %r0, and what
must come out, worked out here in Python. ptxas reads the cases too where it is there, so none is a
test of text that is no PTX.
"""
import argparse
import math
import os
import struct
import subprocess
import sys

import toolchain
from ptx_parse import PtxError
from ptx_to_cpp import translate

M32 = 0xFFFFFFFF


def f(value):
    """The bits of a float32."""
    return struct.unpack("<I", struct.pack("<f", value))[0]


NAN, INF = 0x7FC00000, 0x7F800000
PTX_NAN = 0x7FFFFFFF
NEAR_ONE = 0x3F800001

# name, instructions, [(%r1, %r2, %r3, expected %r0)]
SCALAR = [
    ("add wraps", "add.s32 %r0, %r1, %r2;", [(0x7FFFFFFF, 1, 0, 0x80000000), (5, M32, 0, 4)]),
    ("sub wraps", "sub.s32 %r0, %r1, %r2;", [(0x80000000, 1, 0, 0x7FFFFFFF)]),
    ("add u16", "cvt.u16.u32 %h1, %r1; cvt.u16.u32 %h2, %r2; add.s16 %h3, %h1, %h2; cvt.u32.u16 %r0, %h3;",
     [(0xFFFF, 2, 0, 1)]),
    ("mul.lo", "mul.lo.s32 %r0, %r1, %r2;", [(0x10001, 0x10001, 0, 0x20001), (M32, 3, 0, M32 - 2)]),
    ("mul.hi.s32", "mul.hi.s32 %r0, %r1, %r2;", [(M32, 2, 0, M32), (0x80000000, 0x80000000, 0, 0x40000000)]),
    ("mul.hi.u32", "mul.hi.u32 %r0, %r1, %r2;", [(M32, 2, 0, 1), (M32, M32, 0, 0xFFFFFFFE)]),
    ("mul.wide.s32", "mul.wide.s32 %rd5, %r1, %r2; shr.u64 %rd5, %rd5, 32; cvt.u32.u64 %r0, %rd5;",
     [(M32, 2, 0, M32), (0x7FFFFFFF, 4, 0, 1)]),
    ("mul.wide.u32", "mul.wide.u32 %rd5, %r1, %r2; shr.u64 %rd5, %rd5, 32; cvt.u32.u64 %r0, %rd5;",
     [(M32, 2, 0, 1)]),
    ("mad.lo", "mad.lo.s32 %r0, %r1, %r2, %r3;", [(7, M32, 10, 3), (0x10000, 0x10000, 9, 9)]),
    ("mad.wide.s32", "cvt.s64.s32 %rd5, %r3; mad.wide.s32 %rd6, %r1, %r2, %rd5; shr.u64 %rd6, %rd6, 32; "
     "cvt.u32.u64 %r0, %rd6;", [(M32, 1, 1, 0), (M32, 1, 0, M32)]),
    ("div.s32 to zero", "div.s32 %r0, %r1, %r2;", [(M32 - 6, 2, 0, M32 - 2), (7, 2, 0, 3)]),
    ("rem.s32", "rem.s32 %r0, %r1, %r2;", [(M32 - 6, 2, 0, M32), (7, 4, 0, 3)]),
    ("min.s32", "min.s32 %r0, %r1, %r2;", [(M32, 1, 0, M32)]),
    ("min.u32", "min.u32 %r0, %r1, %r2;", [(M32, 1, 0, 1)]),
    ("abs and neg", "abs.s32 %r4, %r1; neg.s32 %r0, %r4;", [(M32 - 4, 0, 0, M32 - 4), (5, 0, 0, M32 - 4)]),
    ("shl past the end", "shl.b32 %r0, %r1, %r2;", [(M32, 31, 0, 0x80000000), (M32, 32, 0, 0), (1, 300, 0, 0)]),
    ("shr.u32", "shr.u32 %r0, %r1, %r2;", [(0x80000000, 31, 0, 1), (M32, 32, 0, 0)]),
    ("shr.s32", "shr.s32 %r0, %r1, %r2;", [(0x80000000, 31, 0, M32), (0x80000000, 40, 0, M32), (9, 40, 0, 0)]),
    ("shf.l.wrap", "shf.l.wrap.b32 %r0, %r1, %r2, %r3;", [(0x80000001, 0x12345678, 4, 0x23456788), (1, 2, 32, 2)]),
    ("shf.r.wrap", "shf.r.wrap.b32 %r0, %r1, %r2, %r3;", [(0x80000001, 0x12345678, 4, 0x88000000), (1, 2, 33, 0)]),
    ("shf.r.clamp", "shf.r.clamp.b32 %r0, %r1, %r2, %r3;", [(1, 2, 33, 2), (0xF0, 0xA, 4, 0xA000000F)]),
    ("shf.l.clamp", "shf.l.clamp.b32 %r0, %r1, %r2, %r3;", [(1, 2, 40, 1), (0x80000000, 0, 1, 1)]),
    ("prmt", "prmt.b32 %r0, %r1, %r2, %r3;",
     [(0x03020100, 0x07060504, 0x7531, 0x07050301), (0x03020100, 0x07060504, 0x0123, 0x00010203)]),
    ("prmt signs", "prmt.b32 %r0, %r1, %r2, %r3;", [(0x80, 0x7F, 0x8C80, 0xFF00FF80)]),
    ("lop3", "lop3.b32 %r0, %r1, %r2, %r3, 0xCA;", [(0xFF00FF00, 0x12345678, 0x9ABCDEF0, 0x12BC56F0)]),
    ("bfe.u32", "bfe.u32 %r0, %r1, %r2, %r3;", [(0x12345678, 8, 8, 0x56), (M32, 28, 8, 15), (M32, 3, 0, 0)]),
    ("bfe.s32", "bfe.s32 %r0, %r1, %r2, %r3;", [(0x0000F800, 8, 8, 0xFFFFFFF8), (0x70000000, 28, 8, 7)]),
    ("bfi", "bfi.b32 %r0, %r1, %r2, 4, 8;", [(0xAB, M32, 0, 0xFFFFFABF), (0xFFFF, 0, 0, 0xFF0)]),
    ("brev popc clz", "brev.b32 %r4, %r1; popc.b32 %r5, %r4; clz.b32 %r6, %r1; mad.lo.s32 %r0, %r5, 256, %r6;",
     [(0xF0, 0, 0, 4 * 256 + 24), (0, 0, 0, 32)]),
    ("bfind", "bfind.u32 %r4, %r1; bfind.shiftamt.u32 %r5, %r1; mad.lo.s32 %r0, %r4, 256, %r5;",
     [(0x50, 0, 0, 6 * 256 + 25), (0, 0, 0, (-257) & M32)]),
    ("dp4a", "dp4a.s32.s32 %r0, %r1, %r2, %r3;", [(0x80FF0102, 0x7F02FF03, 10, (-128 * 127 - 2 - 1 + 6 + 10) & M32)]),
    ("f32 is fma only where it says so", "mul.rn.f32 %r4, %r1, %r2; add.rn.f32 %r0, %r4, %r3;",
     [(NEAR_ONE, NEAR_ONE, f(-1.0), 0x34800000)]),
    ("fma", "fma.rn.f32 %r0, %r1, %r2, %r3;", [(NEAR_ONE, NEAR_ONE, f(-1.0), f(2**-22 + 2**-46))]),
    ("min.f32 and NaN", "min.f32 %r0, %r1, %r2;",
     [(NAN, f(2), 0, f(2)), (f(2), NAN, 0, f(2)), (NAN, NAN, 0, PTX_NAN), (f(-0.0), 0, 0, f(-0.0)), (0, f(-0.0), 0, f(-0.0))]),
    ("max.f32 and NaN", "max.f32 %r0, %r1, %r2;", [(NAN, f(-2), 0, f(-2)), (f(-0.0), 0, 0, 0), (0, f(-0.0), 0, 0)]),
    ("max.NaN.f32", "max.NaN.f32 %r0, %r1, %r2;", [(NAN, f(2), 0, PTX_NAN), (f(1), f(2), 0, f(2))]),
    ("abs.f32, neg.f32", "abs.f32 %r4, %r1; neg.f32 %r0, %r4;", [(f(-3), 0, 0, f(-3)), (f(-0.0), 0, 0, f(-0.0))]),
    ("copysign takes the first's sign", "copysign.f32 %r0, %r1, %r2;", [(f(-1), f(5), 0, f(-5))]),
    ("div.rn", "div.rn.f32 %r0, %r1, %r2;", [(f(1), f(3), 0, 0x3EAAAAAB), (f(1), 0, 0, INF)]),
    ("rcp, sqrt", "sqrt.rn.f32 %r4, %r1; rcp.rn.f32 %r0, %r4;", [(f(16), 0, 0, f(0.25))]),
    ("rsqrt", "rsqrt.approx.f32 %r0, %r1;", [(f(4), 0, 0, f(0.5)), (0, 0, 0, INF)]),
    ("ex2", "ex2.approx.f32 %r0, %r1;", [(f(3), 0, 0, f(8)), (f(-200), 0, 0, 0)]),
    ("ex2.ftz", "ex2.approx.ftz.f32 %r0, %r1;", [(f(-130), 0, 0, 0)]),
    ("cvt.rni.s32 to even", "cvt.rni.s32.f32 %r0, %r1;",
     [(f(0.5), 0, 0, 0), (f(1.5), 0, 0, 2), (f(-2.5), 0, 0, M32 - 1), (f(3e9), 0, 0, 0x7FFFFFFF), (f(-3e9), 0, 0, 0x80000000),
      (NAN, 0, 0, 0)]),
    ("cvt.rzi", "cvt.rzi.s32.f32 %r0, %r1;", [(f(-1.9), 0, 0, M32), (f(1.9), 0, 0, 1)]),
    ("cvt.rmi", "cvt.rmi.s32.f32 %r0, %r1;", [(f(-1.1), 0, 0, M32 - 1)]),
    ("cvt.rpi", "cvt.rpi.s32.f32 %r0, %r1;", [(f(1.1), 0, 0, 2), (f(-1.1), 0, 0, M32)]),
    ("cvt.rzi.u32", "cvt.rzi.u32.f32 %r0, %r1;", [(f(-5), 0, 0, 0), (f(3e9), 0, 0, 3000000000), (f(5e9), 0, 0, M32)]),
    ("cvt.rni.f32.f32", "cvt.rni.f32.f32 %r0, %r1;", [(f(2.5), 0, 0, f(2)), (f(-3.5), 0, 0, f(-4))]),
    ("cvt.rn.f32.s32 rounds", "cvt.rn.f32.s32 %r0, %r1;", [(16777217, 0, 0, f(16777216)), (16777219, 0, 0, f(16777220))]),
    ("cvt.rn.f32.u32", "cvt.rn.f32.u32 %r0, %r1;", [(M32, 0, 0, f(4294967296))]),
    ("cvt of bytes", "cvt.s32.s8 %r0, %r1;", [(0x180, 0, 0, 0xFFFFFF80), (0x7F, 0, 0, 0x7F)]),
    ("cvt.sat.s8", "cvt.sat.s8.s32 %r0, %r1;", [(200, 0, 0, 127), (-300 & M32, 0, 0, -128 & M32), (5, 0, 0, 5)]),
    ("cvt.pack", "cvt.pack.sat.s8.s32.b32 %r0, %r1, %r2, %r3;", [(300, -5 & M32, 0xAABBCCDD, 0xCCDD7FFB)]),
    ("cvt.rn.bf16 to even", "cvt.rn.bf16.f32 %h1, %r1; cvt.u32.u16 %r0, %h1;",
     [(0x3F808000, 0, 0, 0x3F80), (0x3F818000, 0, 0, 0x3F82), (0x3F808001, 0, 0, 0x3F81), (NAN, 0, 0, 0x7FFF)]),
    ("cvt.rn.bf16x2", "cvt.rn.bf16x2.f32 %r0, %r1, %r2;", [(f(1), f(-2), 0, 0x3F80C000)]),
    ("cvt f16", "cvt.rn.f16.f32 %h1, %r1; cvt.f32.f16 %r0, %h1;", [(f(1.0 + 2**-11), 0, 0, f(1)), (f(70000), 0, 0, INF)]),
    ("setp orders", "setp.lt.s32 %p1, %r1, %r2; setp.lo.u32 %p2, %r1, %r2; selp.u32 %r4, 1, 0, %p1; selp.u32 %r5, 2, 0, %p2; "
     "or.b32 %r0, %r4, %r5;", [(M32, 1, 0, 1), (1, M32, 0, 2), (1, 2, 0, 3)]),
    ("setp and NaN", "setp.ne.f32 %p1, %r1, %r2; setp.neu.f32 %p2, %r1, %r2; selp.u32 %r4, 1, 0, %p1; selp.u32 %r5, 2, 0, %p2; "
     "or.b32 %r0, %r4, %r5;", [(NAN, f(1), 0, 2), (f(2), f(1), 0, 3), (f(1), f(1), 0, 0)]),
    ("setp geu, nan", "setp.geu.f32 %p1, %r1, %r2; setp.nan.f32 %p2, %r1, %r2; selp.u32 %r4, 1, 0, %p1; selp.u32 %r5, 2, 0, %p2; "
     "or.b32 %r0, %r4, %r5;", [(NAN, f(1), 0, 3), (f(2), f(1), 0, 1), (f(0), f(1), 0, 0)]),
    ("setp combines", "setp.ne.s32 %p3, %r3, 0; setp.gt.and.s32 %p1|%p2, %r1, %r2, %p3; selp.u32 %r4, 1, 0, %p1; "
     "selp.u32 %r5, 2, 0, %p2; or.b32 %r0, %r4, %r5;", [(2, 1, 1, 1), (1, 2, 1, 2), (2, 1, 0, 0)]),
    ("guards", "mov.u32 %r0, 7; setp.eq.s32 %p1, %r1, 1; @%p1 mov.u32 %r0, 8; @!%p1 add.s32 %r0, %r0, 10;",
     [(1, 0, 0, 8), (2, 0, 0, 17)]),
    ("branches and loops", "mov.u32 %r0, 0; $L: add.s32 %r0, %r0, %r1; sub.s32 %r1, %r1, 1; setp.ne.s32 %p1, %r1, 0; "
     "@%p1 bra $L;", [(4, 0, 0, 10), (1, 0, 0, 1)]),
    ("scopes", "{ .reg .b32 %t; add.s32 %t, %r1, 1; mov.b32 %r4, %t; } { .reg .b32 %t; add.s32 %t, %r2, 2; mov.b32 %r5, %t; } "
     "mul.lo.s32 %r0, %r4, %r5;", [(2, 3, 0, 15)]),
    ("mov packs and unpacks", "mov.b32 {%h1, %h2}, %r1; mov.b32 %r0, {%h2, %h1};", [(0x12345678, 0, 0, 0x56781234)]),
    ("mov of 64 bits", "mov.b64 %rd5, {%r1, %r2}; mov.b64 {%r4, %r5}, %rd5; sub.s32 %r0, %r5, %r4;", [(3, 10, 0, 7)]),
    ("st and ld of bytes", "mov.u32 %r9, %tid.x; cvt.u16.u32 %h1, %r1; st.shared.b8 [bytes], %h1; ld.shared.s8 %h2, [bytes]; "
     "cvt.s32.s16 %r0, %h2; bar.warp.sync -1;", [(0x1FE, 0, 0, 0xFFFFFFFE)]),
    ("generic pointers", "mov.u64 %rd5, bytes; cvta.shared.u64 %rd6, %rd5; st.u32 [%rd6+4], %r1; ld.shared.u32 %r0, [bytes+4];",
     [(77, 0, 0, 77)]),
]


def lanes(function):
    return [function(lane) for lane in range(32)]


# name, instructions, input of a lane -> (%r1, %r2, %r3), lane -> expected
WARP = [
    ("shfl.bfly", "shfl.sync.bfly.b32 %r0, %r1, 4, 31, -1;", lambda i: (i * 3, 0, 0), lambda i: (i ^ 4) * 3),
    ("shfl.idx", "shfl.sync.idx.b32 %r0, %r1, 7, 31, -1;", lambda i: (i + 100, 0, 0), lambda i: 107),
    ("shfl.up", "shfl.sync.up.b32 %r4|%p1, %r1, 3, 0, -1; selp.u32 %r5, 1000, 0, %p1; add.s32 %r0, %r4, %r5;",
     lambda i: (i, 0, 0), lambda i: i - 3 + 1000 if i >= 3 else i),
    ("shfl.down in eights", "shfl.sync.down.b32 %r4|%p1, %r1, 2, 6175, -1; selp.u32 %r5, 1000, 0, %p1; add.s32 %r0, %r4, %r5;",
     lambda i: (i, 0, 0), lambda i: i + 2 + 1000 if i % 8 < 6 else i),
    ("vote", "setp.gt.s32 %p1, %r1, 29; vote.sync.ballot.b32 %r0, %p1, -1;", lambda i: (i, 0, 0), lambda i: 0xC0000000),
    ("vote.any", "setp.gt.s32 %p1, %r1, 30; vote.sync.any.pred %p2, %p1, -1; selp.u32 %r0, 1, 0, %p2;",
     lambda i: (i, 0, 0), lambda i: 1),
    ("redux", "redux.sync.max.s32 %r0, %r1, -1;", lambda i: (-i & M32, 0, 0), lambda i: 0),
    ("through shared memory", "mov.u32 %r9, %tid.x; shl.b32 %r8, %r9, 2; mov.u32 %r7, bytes; add.s32 %r6, %r7, %r8; "
     "st.shared.u32 [%r6], %r1; bar.sync 0; xor.b32 %r5, %r8, 12; add.s32 %r5, %r5, %r7; ld.shared.u32 %r0, [%r5];",
     lambda i: (i * i, 0, 0), lambda i: (i ^ 3) ** 2),
    ("cp.async", "mov.u32 %r9, %tid.x; shl.b32 %r8, %r9, 2; mov.u32 %r7, bytes; add.s32 %r6, %r7, %r8; cp.async.ca.shared.global "
     "[%r6], [%rd3], 4; cp.async.commit_group; cp.async.wait_group 0; ld.shared.u32 %r0, [%r6];",
     lambda i: (i + 9, 0, 0), lambda i: i + 9),
]


def layout(lane, index, thread, shape, stride):
    """CUTLASS's (thread, value) layouts: lane = (lane % 4, lane / 4), value split by `shape`."""
    at = lane % 4 * thread[0] + lane // 4 * thread[1]
    for size, step in zip(shape, stride):
        at += index % size * step
        index //= size
    return at


def byte(seed):
    return (seed * 2654435761 >> 13) % 255 - 127


def mma_case():
    """mma.m16n8k32 on three words a lane: a0 = a2 = %r1, a1 = a3 = %r2, b0 = b1 = %r3."""
    text = ("mov.u32 %r10, 5; mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%r11, %r12, %r13, %r14}, {%r1, %r2, %r1, %r2}, "
            "{%r3, %r3}, {%r10, %r10, %r10, %r10}; mad.lo.s32 %r0, %r12, 3, %r11; mad.lo.s32 %r0, %r13, 5, %r0; "
            "mad.lo.s32 %r0, %r14, 7, %r0;")
    words = [[sum((byte(lane * 12 + w * 4 + b) & 255) << 8 * b for b in range(4)) for w in range(3)] for lane in range(32)]
    signed = lambda word, i: ((word >> 8 * i & 255) ^ 128) - 128
    a, b = {}, {}
    for lane in range(32):
        for i in range(16):  # (T32, V16) -> (M16, K32)
            a[layout(lane, i, (64, 1), (4, 2, 2), (16, 8, 256))] = signed(words[lane][i // 4 % 2], i % 4)
        for i in range(8):  # (T32, V8) -> (N8, K32)
            b[layout(lane, i, (32, 1), (4, 2), (8, 128))] = signed(words[lane][2], i % 4)
    assert len(a) == 512 and len(b) == 256

    def expected(lane):
        total = 0
        for i, weight in enumerate((1, 3, 5, 7)):
            at = layout(lane, i, (32, 1), (2, 2), (16, 8))
            total += weight * (5 + sum(a[at % 16 + 16 * k] * b[at // 16 + 8 * k] for k in range(32)))
        return total & M32
    return ("mma s8", text, lambda lane: words[lane], expected)


def kernel(name, body):
    return f""".visible .entry {name}(.param .u64 .ptr .align 4 in, .param .u64 out)
{{
    .reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<32>; .reg .b64 %rd<8>;
    .shared .align 16 .b8 bytes[256];
    ld.param.u64 %rd1, [in]; ld.param.u64 %rd2, [out];
    mov.u32 %r31, %tid.x; mad.wide.u32 %rd3, %r31, 12, %rd1; mad.wide.u32 %rd4, %r31, 4, %rd2;
    ld.global.nc.u32 %r1, [%rd3]; ld.global.u32 %r2, [%rd3+4]; ld.global.b32 %r3, [%rd3+8];
    {body}
    st.global.u32 [%rd4], %r0;
    ret;
}}
"""


def all_cases():
    """[(kernel name, title, body, inputs of the lanes, expected of the lanes)]"""
    cases = []
    for title, body, rows in SCALAR:
        padded = [rows[i % len(rows)] for i in range(32)]
        cases.append((title, body, [row[:3] for row in padded], [row[3] for row in padded]))
    for title, body, given, expected in WARP + [mma_case()]:
        cases.append((title, body, lanes(given), lanes(expected)))
    return [(f"case_{n}", *case) for n, case in enumerate(cases)]


REFUSED = [
    ("an unknown instruction", "madc.hi.s32 %r0, %r1, %r2, %r3;", "unknown instruction madc.hi.s32"),
    ("an unknown modifier", "add.ftz.f32 %r0, %r1, %r2;", "unknown instruction add.ftz.f32"),
    ("an unknown register", "add.s32 %r0, %r1, %q;", "operand %q"),
    ("a word of ld that is not known", "ld.global.frob.u32 %r0, [%rd3];", "unknown word .frob"),
    ("a missing operand", "add.s32 %r0, %r1;", "with 2 operands"),
    ("an mma of another shape", "mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%r1,%r2},{%r1},{%r1},{%r1,%r2};",
     "unknown instruction mma"),
]


def check_refusals():
    bad = []
    for title, body, message in REFUSED:
        try:
            translate(kernel("refused", "\n" + body))
            bad.append(f"{title}: translated")
        except PtxError as error:
            if message not in str(error) or "line 9" not in str(error):
                bad.append(f"{title}: {error}")
    return bad


def check_syntax(work, text):
    """Only ptxas can say that the cases are PTX: [] when it agrees or is not there."""
    if not toolchain.nvcc():
        print("SKIPPED: nvcc is not here, so ptxas did not check that the cases are PTX")
        return []
    path = os.path.join(work, "cases.ptx")
    with open(path, "w", encoding="utf-8") as file:
        file.write(".version 7.8\n.target sm_90\n.address_size 64\n" + text)
    done = subprocess.run([toolchain.ptxas(), "-arch=sm_90", "-o", os.devnull, path], capture_output=True, text=True, check=False)
    return [f"ptxas: {done.stdout}{done.stderr}"] if done.returncode else []


def build(work, generated):
    sources = [toolchain.write(os.path.join(work, name), content) for name, content in generated.items()]
    sources += toolchain.emulator_sources() + [os.path.join(toolchain.HERE, "ptx_driver.cpp")]
    objects = toolchain.compile_all(work, toolchain.FAST, sources)
    return toolchain.link(toolchain.FAST, objects, os.path.join(work, "cases"))


def run(binary, cases):
    lines = [name + " " + " ".join(f"{word & M32:x}" for lane in inputs for word in lane) for name, _, _, inputs, _ in cases]
    done = subprocess.run([binary], input="\n".join(lines), capture_output=True, text=True, check=False)
    return [[int(word, 16) for word in line.split()] for line in done.stdout.splitlines()[:len(cases)]], done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", help="a directory to build in")
    work = os.path.join(parser.parse_args().work, "ptx-test")
    os.makedirs(work, exist_ok=True)
    cases = all_cases()
    text = "".join(kernel(name, body) for name, _, body, _, _ in cases)
    failures = check_refusals() + check_syntax(work, text)
    stubs = "".join(f"extern char {name}; char {name};\n" for name, *_ in cases)
    binary = build(work, {"cases.ptx.cpp": translate(text), "stubs.cpp": stubs})
    results, errors = run(binary, cases)
    for (_, title, _, inputs, expected), got in zip(cases, results):
        wrong = [lane for lane in range(32) if got[lane] != expected[lane]]
        if wrong:
            lane = wrong[0]
            failures.append(f"{title}: lane {lane} {[hex(w & M32) for w in inputs[lane]]}: {got[lane]:#x}, not {expected[lane]:#x}")
    if len(results) != len(cases):
        failures.append(f"{len(results)} of {len(cases)} cases ran: {errors}")
    print("\n".join(failures))
    total = len(cases) + len(REFUSED)
    print(f"{total - len(failures)} passed, {len(failures)} failed")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
