"""Compile Triton kernels for Hopper on any machine, and read what came out.

A kernel is a Triton function with a list of configurations (`@tuned`) and a list of `Build`s: the
same function with argument types and constants filled in, one build for each configuration.
`compile_for_hopper` turns a build into a cubin for sm_90a, which needs no GPU and no driver and
takes about a second, and reads from it what decides whether the kernel will be fast: registers a
thread, bytes of stack (anything but 0 is spilling), shared memory, how many blocks fit on a
multiprocessor, and the machine instructions themselves (SASS), counted by kind.

`ptxas`, `cuobjdump` and `nvdisasm` are those inside the triton package: a system's own are often
too old for its PTX. Under `TRITON_INTERPRET=1` functions are interpreted and can't be compiled;
`compile_for_hopper` then raises RuntimeError.
"""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

HOPPER = GPUTarget("cuda", 90, 32)
INTERPRETED = triton.knobs.runtime.interpret

# One multiprocessor of compute capability 9.0 (CUDA programming guide, table of technical
# specifications): registers are handed to a warp in units of 256; a block pays 1 KiB of shared
# memory for the system, and may have 227 KiB itself.
REGISTERS, REGISTER_UNIT, WARPS, BLOCKS = 65536, 256, 64, 32
SHARED, SHARED_OF_BLOCK, SHARED_OF_SYSTEM = 228 * 1024, 227 * 1024, 1024


@dataclass(frozen=True)
class Build:
    """A kernel with everything filled in that the compiler must know.

    `signature` maps each argument that is no constant to its type: `*bf16`, `*fp8e4nv`, `fp32`,
    `i32`; a suffix `:16` promises that the pointer or number is divisible by 16, as Triton sees for
    itself at a launch. What `signature` leaves out must be in `constants`. `fp_fusion` lets the
    compiler join a multiplication and an addition, as a launch does unless it is given
    `enable_fp_fusion=False`; `maxnreg` holds it to so many registers a thread.
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any] = field(default_factory=dict)
    num_warps: int = 4
    num_stages: int = 3
    fp_fusion: bool = True
    maxnreg: int | None = None


@dataclass(frozen=True)
class Compiled:
    """What a kernel is on the chip: per thread `registers` and `stack` bytes, per block `shared`
    bytes and `warps`; `blocks` of it fit on a multiprocessor at once, which is `occupancy` of its
    64 warps. `sass` is the disassembly, `instructions` counts it by opcode with modifiers."""

    registers: int
    stack: int
    shared: int
    warps: int
    blocks: int
    occupancy: float
    instructions: Counter
    sass: str
    ptx: str

    def count(self, *prefixes: str) -> int:
        """How many instructions start so: count("QGMMA"), count("LDG.E.128"), count("STL")."""
        return sum(n for opcode, n in self.instructions.items() if opcode.startswith(prefixes))

    @property
    def local_accesses(self) -> int:
        """Loads and stores of spilled registers."""
        return self.count("LDL", "STL")

    @property
    def async_copies(self) -> int:
        """Copies from global to shared memory that the pipeline doesn't wait for."""
        return self.count("LDGSTS", "UTMALDG")

    @property
    def loads(self) -> dict[int, int]:
        """Loads from global memory, asynchronous ones too, by width in bits.

        Tensor copies (`UTMALDG`) have no width and aren't here.
        """
        found: Counter = Counter()
        for opcode, n in self.instructions.items():
            if opcode.startswith(("LDG.", "LDGSTS.")):
                found[_width(opcode)] += n
        return dict(found)

    @property
    def stores(self) -> dict[int, int]:
        """Stores to global memory by width in bits."""
        found: Counter = Counter()
        for opcode, n in self.instructions.items():
            if opcode.startswith("STG."):
                found[_width(opcode)] += n
        return dict(found)


def tuned(configs: list[triton.Config], key: list[str]) -> Callable:
    """`triton.autotune` for a kernel; interpreted, the first configuration alone.

    Put above `@triton.jit`. The kernel keeps its list as `.configs` and the function as `.fn`.
    """

    def decorate(kernel):
        return triton.autotune(configs[:1] if INTERPRETED else configs, key=key)(kernel)

    return decorate


def builds(
    name: str,
    kernel: Any,
    signature: Mapping[str, str],
    constants: Mapping[str, Any] | None = None,
    fp_fusion: bool = True,
) -> list[Build]:
    """One `Build` for each configuration of a `@tuned` kernel, named after it.

    The name is `name/CONSTANT=value,…/wN/sN/rN`: the configuration's own constants, warps, stages
    and limit of registers; what it leaves to Triton is left out.
    """
    made = []
    for config in kernel.configs:
        values = ",".join(f"{k}={v}" for k, v in config.kwargs.items())
        parts = [name, values, f"w{config.num_warps}", f"s{config.num_stages}"]
        parts.append(f"r{config.maxnreg}" if config.maxnreg else "")
        made.append(
            Build(
                "/".join(filter(None, parts)),
                kernel.fn,
                signature,
                {**(constants or {}), **config.kwargs},
                config.num_warps,
                config.num_stages,
                fp_fusion,
                config.maxnreg,
            )
        )
    return made


def compile_build(build: Build) -> Compiled:
    """`compile_for_hopper` of a `Build`."""
    return compile_for_hopper(
        build.kernel,
        build.signature,
        build.constants,
        build.num_warps,
        build.num_stages,
        build.fp_fusion,
        build.maxnreg,
    )


def compile_for_hopper(
    kernel: Any,
    signature: Mapping[str, str],
    constants: Mapping[str, Any],
    num_warps: int = 4,
    num_stages: int = 3,
    fp_fusion: bool = True,
    maxnreg: int | None = None,
) -> Compiled:
    """Compile a `@triton.jit` function for sm_90a and read the result; about a second.

    Triton keeps what it compiled in its cache folder (`triton.knobs.cache.dir`). Raises
    RuntimeError when interpreted, ValueError when an argument has neither type nor value or both.
    """
    if INTERPRETED:
        raise RuntimeError("TRITON_INTERPRET is set: unset it to compile a kernel")
    names = kernel.arg_names
    for name in names:
        if (name in signature) == (name in constants):
            what = "both a type and a value" if name in signature else "neither type nor value"
            raise ValueError(f"{kernel.__name__}: argument {name} has {what}, expected one of them")
    aligned = [["tt.divisibility", 16]]
    source = ASTSource(
        kernel,
        {name: signature.get(name, "constexpr").split(":")[0] for name in names},
        dict(constants),
        {(i,): aligned for i, n in enumerate(names) if signature.get(n, "").endswith(":16")},
    )
    options = {
        "num_warps": num_warps,
        "num_stages": num_stages,
        "enable_fp_fusion": fp_fusion,
        "maxnreg": maxnreg,
    }
    made = triton.compile(source, target=HOPPER, options=options)
    resources, sass = _read(made.asm["cubin"])
    shared = made.metadata.shared
    warps = made.metadata.num_warps
    blocks = blocks_on_multiprocessor(resources["REG"], shared, warps)
    return Compiled(
        registers=resources["REG"],
        stack=resources["STACK"] + resources["LOCAL"],
        shared=shared,
        warps=warps,
        blocks=blocks,
        occupancy=blocks * warps / WARPS,
        instructions=_opcodes(sass),
        sass=sass,
        ptx=made.asm["ptx"],
    )


def blocks_on_multiprocessor(registers: int, shared: int, warps: int) -> int:
    """How many blocks a Hopper multiprocessor holds at once; 0 when not even one fits."""
    if shared > SHARED_OF_BLOCK:
        return 0
    of_warp = -(-registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    by_registers = REGISTERS // (of_warp * warps)
    return min(BLOCKS, WARPS // warps, by_registers, SHARED // (shared + SHARED_OF_SYSTEM))


def _read(cubin: bytes) -> tuple[dict[str, int], str]:
    """Resource usage as `cuobjdump` says it, and the disassembly."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        usage = _tool(triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(path))
        sass = _tool(triton.knobs.nvidia.nvdisasm.path, "-c", str(path))
    resources = {key: int(value) for key, value in re.findall(r"\b([A-Z]+):(\d+)", usage)}
    if not {"REG", "STACK", "LOCAL"} <= resources.keys():
        raise RuntimeError(f"cuobjdump said {usage!r}, expected REG:, STACK: and LOCAL:")
    return resources, sass


def _tool(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def _opcodes(sass: str) -> Counter:
    """Count instructions: `/*0010*/ @!P0 LDG.E.128 R4, …` is an LDG.E.128."""
    found = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.x]*)", sass)
    return Counter(opcode for opcode in found if opcode != "NOP")


def _width(opcode: str) -> int:
    """Bits a load or store moves: `.128`, `.64`, `.U16`, `.S8`; 32 where nothing is said."""
    parts = opcode.split(".")
    for part in parts:
        digits = part.lstrip("US")
        if digits in ("8", "16", "64", "128"):
            return int(digits)
    return 32
