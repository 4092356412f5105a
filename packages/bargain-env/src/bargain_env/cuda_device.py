"""Which CUDA device an engine can play on, and one clear sentence where there is none."""

from __future__ import annotations

import re

_EXTRAS = 'pip install "bargain-env[cuda13]" (or [cuda12] for a driver of CUDA 12)'


def find_cuda_device(device: str = "cuda") -> int:
    """Returns the index of the CUDA device that `device` names; "cuda" is torch's current one.

    Loads torch and cuda-core; costs their import and the start of the driver the first time.

    Raises:
        ValueError: If `device` is neither "cuda" nor "cuda:k", or there is no device k.
        RuntimeError: If torch, cuda-core, NVRTC, a CUDA build of torch or the NVIDIA driver is missing.
    """
    named = re.fullmatch(r"cuda(?::(\d+))?", device)
    if named is None:
        raise ValueError(f'device must be "cpu", "cuda" or "cuda:k", got {device!r}.')
    try:
        import torch
    except ImportError:
        raise RuntimeError(f'device "{device}" needs torch and cuda-core: {_EXTRAS}.') from None
    if torch.version.cuda is None:
        raise RuntimeError(
            f'device "{device}" needs a CUDA build of torch, and torch {torch.__version__} is none: '
            "install one from https://pytorch.org/get-started/locally."
        )
    _check_compiler(device, torch.version.cuda.partition(".")[0])
    if not torch.cuda.is_available():
        raise RuntimeError(
            f'device "{device}" needs an NVIDIA GPU and its driver, and torch finds none: '
            "nvidia-smi must list the GPU, and CUDA_VISIBLE_DEVICES must not hide it."
        )
    count = torch.cuda.device_count()
    index = torch.cuda.current_device() if named[1] is None else int(named[1])
    if index >= count:
        known = ", ".join(f"cuda:{k}" for k in range(count))
        raise ValueError(f'there is no device "{device}"; this machine has {known}.')
    return index


def has_cuda_device() -> bool:
    """Tells whether `find_cuda_device()` would name a device."""
    try:
        find_cuda_device()
    except RuntimeError:
        return False
    return True


def _check_compiler(device: str, version: str) -> None:
    extra = f'pip install "bargain-env[cuda{version}]"'
    try:
        import cuda.core  # noqa: F401 - whether it loads is the question
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise RuntimeError(f'device "{device}" needs cuda-core, which does not load ({error}): {extra}.') from error
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:
        raise RuntimeError(f'device "{device}" needs the compiler NVRTC, and none is found: {extra}.') from error
