"""A stand-in for the GPU behind the launch seam: the same kernels, compiled by the host's C++ compiler.

The arguments pass through `as_parameter` and cuda.core's own `ParamHolder`, as in a real launch, and are held against
the signatures in the source: their number, width and kind.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from bargain_env.cuda_engine import CudaEngine
from bargain_env.cuda_launcher import as_parameter
from bargain_env.cuda_source import kernel_source, largest_tile
from bargain_env.layout import Layout
from bargain_env.spec import GameSpec
from cuda.core._kernel_arg_handler import ParamHolder

COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")

FOLDER = tempfile.TemporaryDirectory(prefix="bargain-host-kernels-")

DTYPES: dict[str, tuple[torch.dtype, type]] = {
    "float": (torch.float32, np.float32),
    "bool": (torch.bool, np.bool_),
    "i8": (torch.int8, np.int8),
    "i16": (torch.int16, np.int16),
    "i32": (torch.int32, np.int32),
    "i64": (torch.int64, np.int64),
    "u64": (torch.int64, np.uint64),  # torch keeps the bits of a key as int64
}


class Parameter(NamedTuple):
    """One parameter of a kernel."""

    kind: str
    pointer: bool
    name: str


def signatures(source: str) -> dict[str, list[Parameter]]:
    """Returns the parameters of the kernels in `source`, by kernel."""
    text = source.replace("\\\n", " ")
    macros = dict(re.findall(r"#define (\w+_PARAMETERS)\s+(.*)", text))
    found = {}
    for name, listed in re.findall(r'extern "C" __global__ void (\w+)\((.*?)\)\s*\{', text, re.DOTALL):
        for macro, expansion in macros.items():
            listed = listed.replace(macro, expansion)
        parameters = []
        for part in listed.split(","):
            matched = re.fullmatch(r"(?:const )?(\w+)\s*(\*?)\s*(\w+)", " ".join(part.split()))
            assert matched, f"{name}: cannot read the parameter {part!r}"
            parameters.append(Parameter(matched[1], bool(matched[2]), matched[3]))
        found[name] = parameters
    return found


def check_arguments(kernel: str, parameters: list[Parameter], arguments: tuple[Any, ...]) -> None:
    """Checks each argument against the parameter at its place."""
    assert len(arguments) == len(parameters), f"{kernel} takes {len(parameters)} arguments, got {len(arguments)}"
    for parameter, argument in zip(parameters, arguments, strict=True):
        tensor, scalar = DTYPES[parameter.kind]
        where = f"{kernel}: {parameter.name}"
        if not parameter.pointer:
            assert type(argument) is scalar, f"{where} is {parameter.kind}, got {type(argument)}"
        elif argument is not None:
            assert isinstance(argument, torch.Tensor), f"{where} is a pointer, got {type(argument)}"
            assert argument.dtype == tensor, f"{where} points at {parameter.kind}, got {argument.dtype}"
            assert argument.is_contiguous(), f"{where} is strided"


@lru_cache
def compiled(source: str, *flags: str) -> ctypes.CDLL:
    """Returns the library of the kernels in `source`, with one entry `launch_NAME` for each."""
    if COMPILER is None:
        pytest.skip("needs a C++ compiler")
    entries = []
    for name, parameters in signatures(source).items():
        types = (f"{parameter.kind}{'*' if parameter.pointer else ''}" for parameter in parameters)
        values = ", ".join(f"*({kind}*)arguments[{at}]" for at, kind in enumerate(types))
        entries.append(
            f"EXPORTED void launch_{name}(void** arguments, unsigned blocks, unsigned threads) "
            f"{{ run_grid(blocks, threads, [=] {{ {name}({values}); }}); }}"
        )
    header = Path(__file__).with_name("host_cuda.h").read_text(encoding="utf-8")
    text = "\n".join((header, source.replace("#pragma once", ""), *entries))
    stem = Path(FOLDER.name) / hashlib.sha256(f"{text}{flags}".encode()).hexdigest()[:16]
    stem.with_suffix(".cpp").write_text(text, encoding="utf-8")
    options = ["-std=c++20", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-w", "-shared", "-fPIC", "-pthread"]
    options.append("-fvisibility=hidden")  # or the libraries of two games would share the constants of the first
    command = [COMPILER, *options, *flags, str(stem.with_suffix(".cpp")), "-o", str(stem.with_suffix(".so"))]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return ctypes.CDLL(str(stem.with_suffix(".so")))


def filled(layout: Layout, offset: int) -> dict[str, torch.Tensor]:
    """Returns arrays of 7s, `offset` elements into their memory, with one more element behind them."""
    arrays = {}
    for name, (shape, dtype) in layout.items():
        size = int(np.prod(shape))
        memory = torch.from_numpy(np.full(size + offset + 1, 7, dtype))
        arrays[name] = memory[offset : offset + size].view(shape)
    return arrays


class HostLauncher:
    """`Launcher` on the CPU: blocks of `threads` real threads, whatever the kernels' number of threads on a GPU."""

    device = torch.device("cpu")

    def __init__(self, spec: GameSpec, threads: int = 1, processors: int = 1) -> None:
        self.threads, self.processors = threads, processors
        self.launched: list[str] = []
        self._source, self._tile = kernel_source(spec), largest_tile(spec)
        self._signatures = signatures(self._source)
        self.library = compiled(self._source)

    def launch(self, kernel: str, blocks: int, arguments: tuple[Any, ...]) -> None:
        check_arguments(kernel, self._signatures[kernel], arguments)
        by_name = {
            parameter.name: argument for parameter, argument in zip(self._signatures[kernel], arguments, strict=True)
        }
        num_envs, tile = int(by_name["num_envs"]), int(by_name["tile_rows"])
        assert 1 <= tile <= self._tile
        assert (blocks - 1) * tile < num_envs <= blocks * tile
        holder = ParamHolder(tuple(map(as_parameter, arguments)))
        entry = getattr(self.library, f"launch_{kernel}")
        entry(ctypes.c_void_p(holder.ptr), ctypes.c_uint(blocks), ctypes.c_uint(self.threads))
        self.launched.append(kernel)


def host_engine(
    spec: GameSpec | None = None, num_envs: int = 1, *, threads: int = 1, processors: int = 1, **arguments: Any
) -> CudaEngine:
    """Returns a `CudaEngine` on CPU tensors; `threads` real threads play each block."""
    spec = spec or GameSpec()
    return CudaEngine(spec, num_envs, launcher=HostLauncher(spec, threads, processors), **arguments)


class NumpyEngine:
    """A `host_engine` over numpy arrays that share its memory, for tests that are written for the CPU engine."""

    def __init__(self, engine: CudaEngine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._engine, name)
        return value.numpy() if isinstance(value, torch.Tensor) else value

    def step(self, actions: Any) -> None:
        self._engine.step(torch.from_numpy(np.ascontiguousarray(actions)))

    def random_actions(self, stream: int = 0, out: Any = None) -> Any:
        drawn = self._engine.random_actions(stream, None if out is None else torch.from_numpy(out))
        return drawn.numpy() if out is None else out

    def seat_views(self, observation: Any, action_mask: Any) -> None:
        self._engine.seat_views(torch.from_numpy(observation), torch.from_numpy(action_mask))

    def recorder(self, out: Any) -> Any:
        return self._engine.recorder({name: torch.from_numpy(array) for name, array in out.items()})

    def random_rollout(self, out: Any, stream: int = 0) -> None:
        self._engine.random_rollout({name: torch.from_numpy(array) for name, array in out.items()}, stream)

    def get_state(self) -> dict[str, Any]:
        return {name: array.numpy() for name, array in self._engine.get_state().items()}


def numpy_engine(*arguments: Any, **options: Any) -> NumpyEngine:
    """Returns a `host_engine` over numpy arrays."""
    return NumpyEngine(host_engine(*arguments, **options))
