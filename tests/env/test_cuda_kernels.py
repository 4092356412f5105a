"""NVRTC compiles the kernels of every game for every chip, which needs neither a GPU nor a driver."""

from __future__ import annotations

import io
import re
from functools import lru_cache
from typing import Any

import pytest
from bargain_env import GAMES, GameSpec

pytest.importorskip("torch")
core = pytest.importorskip("cuda.core")
nvrtc = pytest.importorskip("cuda.bindings.nvrtc")

from bargain_env.cuda_launcher import KERNELS  # noqa: E402
from bargain_env.cuda_source import kernel_source, largest_tile  # noqa: E402
from host_launcher import signatures  # noqa: E402

CHIPS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")

SPECS = {
    "default": GameSpec(),
    "history": GameSpec(observation="history"),
    "mini-a": GAMES["mini-a"],
    "discount": GameSpec(max_rounds=5, discount=0.98, outside_range=(0.1, 0.5)),
    "eight types": GameSpec(item_quantities=(1,) * 8),
    "most actions": GameSpec(item_quantities=(31, 31, 30), max_rounds=2),
    "largest": GameSpec(item_quantities=(2,) * 8, max_rounds=63, discount=0.9, observation="history"),
}

CASES = [("default", chip) for chip in CHIPS] + [(name, "sm_80") for name in SPECS if name != "default"]


def _has_nvrtc() -> bool:
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError:
        return False
    return True


pytestmark = pytest.mark.skipif(not _has_nvrtc(), reason="needs NVRTC")


@lru_cache
def _report(name: str, chip: str) -> tuple[bytes, str]:
    options = core.ProgramOptions(arch=chip, std="c++17", fma=False, ptxas_options="-v")
    log = io.StringIO()
    code = core.Program(kernel_source(SPECS[name]), "c++", options).compile("cubin", logs=log)
    return code.code, log.getvalue()


@pytest.mark.parametrize(("name", "chip"), CASES)
def test_every_kernel_compiles_without_spills_or_a_stack(name: str, chip: str) -> None:
    code, report = _report(name, chip)
    assert code[:4] == b"\x7fELF"
    assert "warning" not in report.lower()
    memory = re.findall(
        r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads",
        report,
        re.DOTALL,
    )
    assert {kernel: tuple(sizes) for kernel, *sizes in memory} == dict.fromkeys(KERNELS, ("0", "0", "0"))


@pytest.mark.parametrize("name", SPECS)
def test_a_block_fits_everywhere(name: str) -> None:
    """Registers for 5 blocks on a processor, and the 48 KiB of shared memory that a block may have anywhere."""
    _, report = _report(name, "sm_80")
    assert max(map(int, re.findall(r"Used (\d+) registers", report))) <= 96
    assert max(map(int, re.findall(r"(\d+) bytes smem", report))) <= 48 * 1024
    assert largest_tile(SPECS[name]) == {"largest": 8}.get(name, 128)


@lru_cache
def _ptx() -> dict[str, str]:
    status, program = nvrtc.nvrtcCreateProgram(kernel_source(GameSpec()).encode(), b"kernels.cu", 0, None, None)
    options = [b"--gpu-architecture=compute_80", b"--std=c++17", b"--fmad=false"]
    results: list[Any] = [status, *nvrtc.nvrtcCompileProgram(program, len(options), options)]
    status, size = nvrtc.nvrtcGetPTXSize(program)
    text = b" " * size
    results += [status, *nvrtc.nvrtcGetPTX(program, text), *nvrtc.nvrtcDestroyProgram(program)]
    assert set(results) == {nvrtc.nvrtcResult.NVRTC_SUCCESS}
    parts = re.split(r"\.entry (\w+)", text.decode())
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("kernel", sorted({*KERNELS} - {"random_actions"}))
def test_rows_are_written_four_elements_at_a_time(kernel: str) -> None:
    assert "st.global.v4.f32" in _ptx()[kernel]
    single = 2 + 4 * (kernel in ("step_int32", "step_int64", "reset", "observe")) + 8 * (kernel == "random_rollout")
    assert len(re.findall(r"st\.global\.f32", _ptx()[kernel])) <= single  # the ends of a range, and rewards


def test_no_operation_is_fused_or_approximate() -> None:
    for kernel, text in _ptx().items():
        assert not re.findall(r"fma\.rn\.f32|mad\.f32|\.approx|\.ftz|\.f64|\.local", text), kernel
        assert ("div.rn.f32" in text) == (kernel != "random_actions"), kernel


def test_the_source_holds_every_kernel_and_is_its_own() -> None:
    source = kernel_source(GameSpec())
    assert set(signatures(source)) == set(KERNELS)
    assert "#include" not in source
    assert len({kernel_source(spec) for spec in SPECS.values()}) == len(SPECS)
    assert kernel_source(GameSpec()) == source
