"""The kernels on the host under sanitizers: no data race in a block, no misaligned store, no index out of a tile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("cuda.core")

from host_launcher import COMPILER

RUNTIMES = {"undefined": None, "thread": "libtsan.so"}


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", RUNTIMES)
@pytest.mark.skipif(COMPILER is None or not sys.platform.startswith("linux"), reason="needs a C++ compiler on Linux")
def test_the_kernels_are_clean(sanitizer: str) -> None:
    assert COMPILER is not None
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    if runtime := RUNTIMES[sanitizer]:
        found = subprocess.run([COMPILER, f"-print-file-name={runtime}"], capture_output=True, text=True, check=True)
        environment["LD_PRELOAD"] = found.stdout.strip()
        if not _starts(environment):
            pytest.skip(f"Python does not start under {runtime}")
    script = Path(__file__).with_name("host_sanitized.py")
    flags = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-g"]
    played = subprocess.run([sys.executable, str(script), *flags], env=environment, capture_output=True, text=True)
    assert "WARNING: ThreadSanitizer" not in played.stderr, played.stderr[:3000]
    assert played.returncode == 0, played.stderr[-3000:]
    assert played.stdout == "clean\n"


def _starts(environment: dict[str, str]) -> bool:
    return subprocess.run([sys.executable, "-c", ""], env=environment, capture_output=True, check=False).returncode == 0
