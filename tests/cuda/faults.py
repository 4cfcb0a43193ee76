"""The faults that run_faults.py seeds: what each changes in the real sources, and what it is."""
from dataclasses import dataclass

NORM, GEMM, DEVICE = "rmsnorm_quantize.cu", "vsq4z_gemm.cu", "device.cuh"


@dataclass(frozen=True)
class Fault:
    name: str
    file: str  # in kernels/cuda
    says: str
    old: str  # stands in the file once
    new: str

    @property
    def asm(self):
        """Only nvcc's branch of device.cuh has it."""
        return self.file == DEVICE


FAULTS = [
    # --- barriers
    Fault("barrier-missing", NORM, "warps' largest are read before they are all there",
          "    keep_of_warp(kept, lane, kept_of_warps + tid / 32 * KEPT);\n    __syncthreads();\n",
          "    keep_of_warp(kept, lane, kept_of_warps + tid / 32 * KEPT);\n"),
    Fault("barrier-of-a-warp", NORM, "__syncwarp where other warps read",
          "        keep_of_warp(of_all, lane, kept_of_block);\n    }\n    __syncthreads();\n",
          "        keep_of_warp(of_all, lane, kept_of_block);\n    }\n    __syncwarp();\n"),
    Fault("broadcast-unordered", NORM, "the factor of thread 0 is read without a barrier",
          "__fsqrt_rn(__fadd_rn(mean, eps)));\n        __syncthreads();\n",
          "__fsqrt_rn(__fadd_rn(mean, eps)));\n"),
    Fault("barrier-divergent", NORM, "half of the threads skip a barrier",
          "        __syncthreads(); // chunk is there", "        if (tid < THREADS / 2) __syncthreads(); // chunk is there"),
    Fault("overlay-unordered", GEMM, "sums go where other warps still read activations",
          "    cp_async_wait<0>();\n    __syncthreads();\n    int *all", "    cp_async_wait<0>();\n    int *all"),
    # --- cp.async
    Fault("wait-missing", NORM, "a chunk is read while it is being copied",
          "        cp_async_wait<0>();\n", ""),
    Fault("wait-too-few", GEMM, "one slab too many may still be on its way",
          "cp_async_wait<S::STAGES - 2>", "cp_async_wait<S::STAGES - 1>"),
    Fault("buffer-reused", NORM, "the next chunk is copied over the one being read",
          "staged + (chunk + 1) % 2 * CHUNK", "staged + chunk % 2 * CHUNK"),
    # --- shared memory
    Fault("shared-uninitialised", NORM, "a place is not written when there are fewer values",
          "if (lane == 0) out[i] = largest;", "if (lane == 0 && largest) out[i] = largest;"),
    Fault("shared-too-small", NORM, "the launch gives less shared memory than is taken",
          "THREADS / 32 * sizeof(int) + 64;", "THREADS / 32 * sizeof(int) - 64;"),
    Fault("shared-overrun", NORM, "a copy runs past its array of shared memory",
          "i < CHUNK; i += THREADS * 4)", "i <= CHUNK; i += THREADS * 4)"),
    # --- global memory
    Fault("read-past-row", NORM, "the last vector of a row is read whole",
          "    if (k + 4 <= cols) return", "    if (k < cols) return"),
    Fault("read-past-columns", GEMM, "activations behind the last column are copied",
          "bool there = k < in.cols;", "bool there = true;"),
    Fault("write-past-outputs", GEMM, "the last block writes all of its outputs",
          "        if (output >= outputs) continue;\n", ""),
    Fault("load-misaligned", GEMM, "8 bytes are loaded from a multiple of 4",
          "*reinterpret_cast<const uint32_t *>(tile + CUDA_TILE_SCALES + output * 4)",
          "(uint32_t)*reinterpret_cast<const uint64_t *>(tile + CUDA_TILE_SCALES + output * 4)"),
    # --- warps
    Fault("shuffle-of-half", NORM, "a shuffle of all lanes that half of them do not reach",
          "    if (tid >= 32) return 0;\n", "    if (tid >= 16) return 0;\n"),
    Fault("scale-lane", GEMM, "a lane takes the scale of another output",
          "int output = half * 8 + me.lane / 4;", "int output = half * 8 + me.lane % 4;"),
    Fault("tiles-swapped", GEMM, "products of one tile of rows with the activations of another",
          "mma_s8u8_16832(sums[r][half], a[r], b,", "mma_s8u8_16832(sums[r][half], a[S::ROW_TILES - 1 - r], b,"),
    # --- arithmetic
    Fault("zero-point", GEMM, "a zero point of 8 counts as 7",
          "s * (7u + eight)", "s * (7u + 0u * eight)"),
    Fault("sums-of-16-bits", GEMM, "a warp's sums do not fit where they are kept",
          "= sums[r][half][i];", "= static_cast<short>(sums[r][half][i]);"),
    Fault("sum-off-by-one", NORM, "one warp is left out of the sum of the int8",
          "for (int warp = 1; tid == 0", "for (int warp = 2; tid == 0"),
    Fault("rounding", NORM, "toward zero instead of to nearest",
          "__float2int_rn(__fmul_rn(h.x, inverse))", "static_cast<int>(__fmul_rn(h.x, inverse))"),
    # --- asm, which only translated PTX runs
    Fault("asm-sign", DEVICE, "the product takes weights for signed",
          "row.col.s32.s8.u8.s32", "row.col.s32.s8.s8.s32"),
    Fault("asm-operands", DEVICE, "the registers of B are swapped",
          '"r"(b[0]), "r"(b[1])', '"r"(b[1]), "r"(b[0])'),
    Fault("asm-transposed", DEVICE, "ldmatrix transposes",
          "ldmatrix.sync.aligned.m8n8.x4.shared", "ldmatrix.sync.aligned.m8n8.x4.trans.shared"),
    Fault("asm-copy", DEVICE, "cp.async ignores how much is to be copied",
          "[%0], [%1], 16, %2;", "[%0], [%1], 16;"),
]
