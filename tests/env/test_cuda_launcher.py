"""What stands between engine and GPU: the cache of kernels, the launch, and what is said where CUDA is missing."""

from __future__ import annotations

import ctypes
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bargain_env import GameSpec, make_engine

torch = pytest.importorskip("torch")
pytest.importorskip("cuda.core")

from bargain_env import cuda_device, cuda_launcher  # noqa: E402
from bargain_env.cuda_launcher import CudaLauncher, as_parameter, cache_directory, compile_kernels  # noqa: E402
from bargain_env.cuda_source import kernel_source  # noqa: E402
from cuda.core import LaunchConfig, Stream  # noqa: E402
from cuda.core._kernel_arg_handler import ParamHolder  # noqa: E402
from cuda.core.utils import FileStreamProgramCache  # noqa: E402

SOURCE = 'extern "C" __global__ void twice(int* x) { *x *= 2; }'


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BARGAIN_CACHE_DIR", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The source of every compilation, in order."""
    done: list[str] = []
    honest = cuda_launcher._compile

    def compile(source: str, options: Any) -> bytes:
        done.append(source)
        return honest(source, options)

    monkeypatch.setattr(cuda_launcher, "_compile", compile)
    return done


# The cache ----------------------------------------------------------------------------------------


def test_a_second_compilation_is_found_in_the_cache(cache: Path, compilations: list[str]) -> None:
    first = compile_kernels(SOURCE, "sm_80")
    assert compile_kernels(SOURCE, "sm_80") == first
    assert first[:4] == b"\x7fELF"
    assert len(compilations) == 1
    assert list(cache.rglob("*"))


def test_another_source_game_or_chip_is_compiled(cache: Path, compilations: list[str]) -> None:
    sources = [SOURCE, SOURCE.replace("2", "3"), kernel_source(GameSpec()), kernel_source(GameSpec(max_rounds=2))]
    codes = {compile_kernels(source, "sm_80") for source in sources}
    codes.add(compile_kernels(SOURCE, "sm_90"))
    assert len(codes) == len(compilations) == 5


@pytest.mark.parametrize("damage", [b"", b"\x7fELF", b"\x00" * 5000])
def test_a_damaged_entry_is_compiled_anew(cache: Path, compilations: list[str], damage: bytes) -> None:
    code = compile_kernels(SOURCE, "sm_80")
    (entry,) = (path for path in cache.rglob("*") if path.is_file())
    entry.write_bytes(damage)
    assert compile_kernels(SOURCE, "sm_80") == code
    assert compile_kernels(SOURCE, "sm_80") == code
    assert len(compilations) == 2


def test_a_truncated_entry_is_compiled_anew(cache: Path, compilations: list[str]) -> None:
    code = compile_kernels(SOURCE, "sm_80")
    (entry,) = (path for path in cache.rglob("*") if path.is_file())
    entry.write_bytes(entry.read_bytes()[:-1])
    assert compile_kernels(SOURCE, "sm_80") == code
    assert len(compilations) == 2


def test_a_folder_that_cannot_be_made_costs_a_compilation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BARGAIN_CACHE_DIR", str(tmp_path / "file" / "kernels"))
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match=r"^compiled kernels are not kept \(.*\); set BARGAIN_CACHE_DIR to a"):
            assert compile_kernels(SOURCE, "sm_80")[:4] == b"\x7fELF"
    assert len(compilations) == 2


def test_a_folder_that_cannot_be_written_costs_a_compilation(
    cache: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("[Errno 13] Permission denied")

    monkeypatch.setattr(FileStreamProgramCache, "__setitem__", refuse)
    with pytest.warns(RuntimeWarning, match=r"\(\[Errno 13\] Permission denied\)"):
        assert compile_kernels(SOURCE, "sm_80")[:4] == b"\x7fELF"
    assert len(compilations) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no such folders there")
def test_the_cache_lies_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BARGAIN_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "bargain-env"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "bargain-env"
    compile_kernels(SOURCE, "sm_80")
    entries = [path for path in cache_directory().rglob("*") if path.is_file()]
    assert [stat.S_IMODE(path.stat().st_mode) for path in entries] == [0o600]


def test_what_nvrtc_says_is_handed_on(cache: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)^NVRTC could not compile the kernels for sm_80; .*undefined"):
        compile_kernels(SOURCE.replace("*x *=", "y *="), "sm_80")
    with pytest.raises(RuntimeError, match=r"(?s)^NVRTC could not compile the kernels for sm_30; if it does not know"):
        compile_kernels(SOURCE, "sm_30")
    assert not [path for path in cache.rglob("*") if path.is_file()]


# The launch ---------------------------------------------------------------------------------------


class FakeKernel:
    """A kernel that notes when its code is loaded."""

    def __init__(self, loaded: list[int]) -> None:
        self.occupancy = self
        self._loaded = loaded

    def max_active_blocks_per_multiprocessor(self, block_size: int, dynamic_shared_memory_size: int) -> int:
        self._loaded.append(block_size)
        assert dynamic_shared_memory_size == 0
        return 8


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replaces what CudaLauncher asks of torch and cuda.core; "log" tells what it did, in order."""
    log: list[tuple[Any, ...]] = []
    loaded: list[int] = []
    kernels = {name: FakeKernel(loaded) for name in cuda_launcher.KERNELS}

    @contextmanager
    def guard(device: Any) -> Iterator[None]:
        log.append(("enter", str(device)))
        yield
        log.append(("leave", str(device)))

    def load(source: str, arch: str) -> dict[str, FakeKernel]:
        log.append(("load", arch))
        return kernels

    monkeypatch.setattr(cuda_launcher, "find_cuda_device", lambda device: 1)
    properties = SimpleNamespace(multi_processor_count=132, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.cuda, "device", guard)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=0))
    current = SimpleNamespace(set_current=lambda: log.append(("current",)))
    monkeypatch.setattr(cuda_launcher, "Device", lambda index: current)
    monkeypatch.setattr(cuda_launcher, "load_kernels", load)
    monkeypatch.setattr(cuda_launcher, "launch", lambda *arguments: log.append(("launch", *arguments)))
    return {"log": log, "loaded": loaded, "kernels": kernels}


def test_a_launcher_compiles_for_its_chip_and_loads_every_kernel(fake_gpu: dict[str, Any]) -> None:
    launcher = CudaLauncher(GameSpec(), "cuda:1")
    assert launcher.device == torch.device("cuda", 1)
    assert launcher.processors == 132
    assert fake_gpu["log"] == [("enter", "cuda:1"), ("current",), ("load", "sm_90"), ("leave", "cuda:1")]
    assert fake_gpu["loaded"] == [128] * len(cuda_launcher.KERNELS)


def test_a_launch_takes_the_current_stream_of_its_device(
    fake_gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = CudaLauncher(GameSpec(), "cuda:1")
    tensor, log = torch.zeros(3), fake_gpu["log"]
    log.clear()
    for handle in (0, 0x7000):
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device, at=handle: SimpleNamespace(cuda_stream=at))
        launcher.launch("observe", 17, (tensor, None, np.int32(4)))
        stream = Stream.from_handle(handle)
        parameters = (tensor.data_ptr(), 0, np.int32(4))
        config = LaunchConfig(grid=17, block=128)
        launched = ("launch", stream, config, fake_gpu["kernels"]["observe"], *parameters)
        assert log == [("enter", "cuda:1"), ("current",), launched, ("leave", "cuda:1")]
        log.clear()


@pytest.mark.parametrize(
    "scalar", [np.int32(-5), np.int64(-(2**40)), np.uint64(2**64 - 1), np.int8(3), np.float32(1.5)], ids=repr
)
def test_a_numpy_scalar_keeps_its_width(scalar: Any) -> None:
    assert _bytes_of(scalar) == scalar.tobytes()


def test_tensors_pass_their_address() -> None:
    tensor = torch.arange(5)
    assert _bytes_of(tensor) == tensor.data_ptr().to_bytes(8, "little")
    assert _bytes_of(tensor[2:]) == (tensor.data_ptr() + 16).to_bytes(8, "little")
    assert _bytes_of(None) == bytes(8)


def _bytes_of(argument: Any) -> bytes:
    """Returns the memory that cuda.core hands to the driver for one argument."""
    holder = ParamHolder((as_parameter(argument),))
    addresses = ctypes.cast(holder.ptr, ctypes.POINTER(ctypes.c_void_p))
    return ctypes.string_at(addresses[0] or 0, argument.nbytes if isinstance(argument, np.generic) else 8)


@pytest.mark.parametrize("argument", [5, 2.0, True, [1], np.zeros(3)], ids=repr)
def test_an_argument_without_a_width_is_refused(argument: Any) -> None:
    with pytest.raises(TypeError, match=r"^a kernel takes tensors, None and numpy scalars, got .*\.$"):
        as_parameter(argument)


def test_a_refusing_driver_is_named(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def refuse(name: str) -> Any:
        raise ValueError("CUDA_ERROR_INVALID_IMAGE")

    code = SimpleNamespace(from_cubin=lambda cubin: SimpleNamespace(get_kernel=refuse))
    monkeypatch.setattr(cuda_launcher, "ObjectCode", code)
    with pytest.raises(RuntimeError, match=r"^the NVIDIA driver refuses kernels .* newer driver \(CUDA_ERROR_INV.*\)"):
        cuda_launcher.load_kernels(SOURCE, "sm_80")


# Where CUDA is missing ----------------------------------------------------------------------------


@pytest.fixture
def cuda_torch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A CUDA build of torch that sees two GPUs."""
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    return monkeypatch


def _refusal(device: str = "cuda", error: type[Exception] = RuntimeError) -> str:
    with pytest.raises(error, match=r"\S") as caught:
        make_engine(device=device)
    return str(caught.value)


def test_devices_are_found(cuda_torch: pytest.MonkeyPatch) -> None:
    assert [cuda_device.find_cuda_device(name) for name in ("cuda", "cuda:0", "cuda:1")] == [1, 0, 1]
    assert cuda_device.has_cuda_device()


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", "cuda:0:1", ""])
def test_an_unknown_device_is_refused(device: str) -> None:
    assert _refusal(device, ValueError) == f'device must be "cpu", "cuda" or "cuda:k", got {device!r}.'


def test_a_device_that_is_not_there(cuda_torch: pytest.MonkeyPatch) -> None:
    assert _refusal("cuda:2", ValueError) == 'there is no device "cuda:2"; this machine has cuda:0, cuda:1.'


def test_threads_are_for_the_cpu(cuda_torch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^threads are CPU threads; with a GPU leave them at 1, got 2\.$"):
        make_engine(device="cuda", threads=2)


def test_torch_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    expected = 'pip install "bargain-env[cuda13]" (or [cuda12] for a driver of CUDA 12).'
    assert _refusal() == f'device "cuda" needs torch and cuda-core: {expected}'
    assert not cuda_device.has_cuda_device()


def test_torch_is_built_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    refusal = _refusal("cuda:0")
    assert refusal.startswith(f'device "cuda:0" needs a CUDA build of torch, and torch {torch.__version__} is none: ')


def test_cuda_core_is_missing(cuda_torch: pytest.MonkeyPatch) -> None:
    cuda_torch.setitem(sys.modules, "cuda.core", None)
    refusal = _refusal()
    assert refusal.startswith('device "cuda" needs cuda-core, which does not load (')
    assert refusal.endswith('pip install "bargain-env[cuda12]".')


def test_nvrtc_is_missing(cuda_torch: pytest.MonkeyPatch) -> None:
    from cuda.bindings import nvrtc

    def missing() -> None:
        raise RuntimeError("libnvrtc.so.12 was not found")

    cuda_torch.setattr(nvrtc, "nvrtcVersion", missing)
    expected = 'device "cuda" needs the compiler NVRTC, and none is found: pip install "bargain-env[cuda12]".'
    assert _refusal() == expected


def test_the_driver_is_missing(cuda_torch: pytest.MonkeyPatch) -> None:
    cuda_torch.setattr(torch.cuda, "is_available", lambda: False)
    assert _refusal().startswith('device "cuda" needs an NVIDIA GPU and its driver, and torch finds none: nvidia-smi')
    assert not cuda_device.has_cuda_device()


def test_the_cpu_engine_loads_neither_torch_nor_cuda() -> None:
    code = "import sys, bargain_env; bargain_env.make_engine(); assert not {'torch', 'cuda'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
