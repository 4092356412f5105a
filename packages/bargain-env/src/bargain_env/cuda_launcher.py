"""The one seam to the GPU: kernels compiled for a game and a chip, kept on disk, launched on torch's current stream."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from cuda.core import Device, LaunchConfig, ObjectCode, Program, ProgramOptions, Stream, launch
from cuda.core.utils import FileStreamProgramCache, make_program_cache_key

from bargain_env.cuda_device import find_cuda_device
from bargain_env.cuda_source import BLOCK_THREADS, kernel_source
from bargain_env.spec import GameSpec

KERNELS = (
    *("reset", "step_int32", "step_int64", "observe", "random_actions"),
    *("mover_views", "seat_views", "random_rollout"),
)
"""Names of the kernels in kernels.cu."""

CACHE_BYTES = 256 * 2**20
"""The cache drops the kernels that were not used for longest above this size."""

_DIGEST_SIZE = hashlib.sha256().digest_size


class Launcher(Protocol):
    """Runs kernels of one game on the tensors of one device.

    Attributes:
        device: Where the tensors lie.
        processors: Multiprocessors, which want a block each at the least.
    """

    device: torch.device
    processors: int

    def launch(self, kernel: str, blocks: int, arguments: tuple[Any, ...]) -> None:
        """Starts `kernel`; `arguments` are tensors of `device`, None (a null pointer) and numpy scalars, in order."""
        ...


class CudaLauncher:
    """`Launcher` on a GPU; building it compiles the kernels of `spec` (about a second) or finds them in the cache.

    Raises:
        ValueError: If there is no such device.
        RuntimeError: If something CUDA needs is missing, or the kernels do not compile or load.
    """

    def __init__(self, spec: GameSpec, device: str = "cuda") -> None:
        index = find_cuda_device(device)
        properties = torch.cuda.get_device_properties(index)
        self.device = torch.device("cuda", index)
        self.processors = properties.multi_processor_count
        with torch.cuda.device(self.device):
            Device(index).set_current()
            self._kernels = load_kernels(kernel_source(spec), f"sm_{properties.major}{properties.minor}")
            for kernel in self._kernels.values():
                # The driver loads a kernel's code when it is first needed: now, rather than within a graph's capture.
                kernel.occupancy.max_active_blocks_per_multiprocessor(BLOCK_THREADS, 0)

    def launch(self, kernel: str, blocks: int, arguments: tuple[Any, ...]) -> None:
        """Starts `kernel` on torch's current stream of the device, without waiting; see `Launcher.launch`.

        May be captured in a CUDA graph, which then keeps the values of the numpy scalars.
        """
        config = _launch_config(blocks)
        with torch.cuda.device(self.device):
            Device(self.device.index).set_current()  # a new thread has no CUDA context yet
            stream = _stream(torch.cuda.current_stream(self.device).cuda_stream)
            launch(stream, config, self._kernels[kernel], *map(as_parameter, arguments))


def as_parameter(argument: Any) -> Any:
    """Returns what `cuda.core` passes for `argument`: a tensor's address, 0 for None, a numpy scalar in its width.

    Raises:
        TypeError: If it is anything else, whose width would be a guess.
    """
    if isinstance(argument, torch.Tensor):
        return argument.data_ptr()
    if argument is None:
        return 0
    if isinstance(argument, np.generic):
        return argument
    raise TypeError(f"a kernel takes tensors, None and numpy scalars, got {argument!r}.")


@lru_cache(maxsize=64)
def _stream(handle: int) -> Stream:
    return Stream.from_handle(handle)  # holds the number alone, so it stays right if the address is used again


@lru_cache(maxsize=64)
def _launch_config(blocks: int) -> LaunchConfig:
    return LaunchConfig(grid=blocks, block=BLOCK_THREADS)


@lru_cache(maxsize=32)
def load_kernels(source: str, arch: str) -> Mapping[str, Any]:
    """Returns the kernels of `source` by name, loaded into the driver; once a process for each source and chip.

    Raises:
        RuntimeError: If they do not compile, or the driver does not take them.
    """
    code = ObjectCode.from_cubin(compile_kernels(source, arch))
    try:
        return {name: code.get_kernel(name) for name in KERNELS}
    except Exception as error:
        raise RuntimeError(
            f"the NVIDIA driver refuses kernels that NVRTC compiled for {arch}: install the extra of the driver's "
            f'CUDA version, "bargain-env[cuda12]" or "bargain-env[cuda13]", or a newer driver ({error}).'
        ) from error


def compile_kernels(source: str, arch: str) -> bytes:
    """Returns the machine code of `source` for the chip `arch` ("sm_90"), from the cache if it is there.

    A cache that cannot be read or written is left out, with a warning; a damaged entry is compiled anew.

    Raises:
        RuntimeError: If NVRTC refuses, with its log.
    """
    options = ProgramOptions(arch=arch, std="c++17", fma=False, ftz=False, prec_div=True, prec_sqrt=True)
    key = make_program_cache_key(code=source, code_type="c++", options=options, target_type="cubin")
    try:
        cache = FileStreamProgramCache(cache_directory(), max_size_bytes=CACHE_BYTES)
        found: bytes | None = cache.get(key)
    except (OSError, RuntimeError) as error:
        _warn(error)
        return _compile(source, options)
    if found is not None and hashlib.sha256(found[_DIGEST_SIZE:]).digest() == found[:_DIGEST_SIZE]:
        return found[_DIGEST_SIZE:]
    code = _compile(source, options)
    try:
        cache[key] = hashlib.sha256(code).digest() + code
    except OSError as error:
        _warn(error)
    return code


def cache_directory() -> Path:
    """Returns the folder of compiled kernels: `BARGAIN_CACHE_DIR`, else `bargain-env` in the user's cache folder.

    Raises:
        RuntimeError: If the user has no home directory.
    """
    if own := os.environ.get("BARGAIN_CACHE_DIR"):
        return Path(own)
    if os.name == "nt":
        parent = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        parent = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(parent) / "bargain-env"


def _compile(source: str, options: ProgramOptions) -> bytes:
    try:
        return bytes(Program(source, "c++", options).compile("cubin").code)
    except Exception as error:
        raise RuntimeError(
            f"NVRTC could not compile the kernels for {options.arch}; if it does not know this chip, install a newer "
            f'one with pip install -U "bargain-env[cuda13]": {error}'
        ) from error


def _warn(error: Exception) -> None:
    warnings.warn(
        f"compiled kernels are not kept ({error}); set BARGAIN_CACHE_DIR to a folder that can be written.",
        RuntimeWarning,
        stacklevel=4,
    )
