"""The format of a saved policy: one file of tensors and plain values, written atomically and read without running code.

The file is a torch archive of one dict:

| key | value |
|---|---|
| `format`, `format_version` | `"bargain-checkpoint"`, 1 |
| `algorithm`, `step` | the training command and the environment steps it had taken |
| `spec` | the fields of the `GameSpec` |
| `networks` | a list of `{"config": plain values, "policy_state_dict": tensors}` |
| `seats` | for each of the two seats a list of `(index into networks, weight)`; a mixture has several |
| `policy_state_dict` | the state dict of network 0, stored once |
| `versions` | the software that wrote the file |
| `resume` | optional: what continuing the training needs |
"""

import math
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from bargain_eval.files import replace_file
from bargain_eval.versions import software_versions

FORMAT = "bargain-checkpoint"
FORMAT_VERSION = 1

_HEADER = {
    "algorithm": str,
    "spec": dict,
    "networks": list,
    "seats": list,
    "policy_state_dict": dict,
    "versions": dict,
    "step": int,
}
_PLAIN_TYPES = (type(None), bool, int, float, str, bytes)
_ZIP_MAGIC = b"PK\x03\x04"


class CheckpointError(ValueError):
    """A file or a dict is no bargain checkpoint, or not one that may be read."""


def make_checkpoint(
    *,
    algorithm: str,
    spec: Mapping[str, Any],
    networks: Sequence[Mapping[str, Any]],
    seats: Sequence[Sequence[tuple[int, float]]],
    step: int,
    resume: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The dict of a checkpoint, header included, ready for `write_checkpoint`; the tensors are not copied.

    Raises:
        CheckpointError: a field does not fit the format.
    """
    data: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "algorithm": algorithm,
        "spec": dict(spec),
        "networks": [dict(network) for network in networks],
        "seats": [[(int(index), float(weight)) for index, weight in seat] for seat in seats],
        "policy_state_dict": networks[0].get("policy_state_dict", {}) if networks else {},
        "versions": software_versions(),
        "step": int(step),
    }
    if resume is not None:
        data["resume"] = dict(resume)
    _check_header(data, "the checkpoint")
    return data


def write_checkpoint(path: str | Path, data: Mapping[str, Any]) -> None:
    """Writes `data` to `path`, atomically; folders above it are made.

    Everything in `data` is checked to be readable again: tensors, plain values, and dicts, lists and tuples of these.
    The entry `policy_state_dict` is stored as that of network 0, whatever stands there.

    Raises:
        CheckpointError: the header does not fit the format, or a value could not be read again.
        ModuleNotFoundError: torch is not installed.
    """
    path = Path(path)
    torch = _import_torch()
    _check_header(data, "the checkpoint")
    _check_readable(data, "", torch)
    stored = {**data, "policy_state_dict": data["networks"][0]["policy_state_dict"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as file:
        torch.save(stored, file)


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The checkpoint stored in `path`, with its tensors on `map_location`; no code of the file is ever run.

    Raises:
        CheckpointError: the file is missing, damaged, holds code, is no bargain checkpoint, or is of a future format.
        ModuleNotFoundError: torch is not installed.
    """
    path = Path(path)
    torch = _import_torch()
    _check_archive(path)
    try:
        data = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL:? ([\w.]+)", str(error))
        content = f"code or classes ({found[1]})" if found else "code or classes"
        raise CheckpointError(
            f"{path} is refused: it holds {content}, and only tensors and plain values are read"
        ) from error
    except (RuntimeError, OSError, EOFError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} cannot be loaded onto {map_location}: {reason}") from error
    _check_header(data, str(path))
    return dict(data)


def _import_torch() -> ModuleType:
    try:
        import torch
    except ModuleNotFoundError as error:
        message = "trained policies are read and written with torch: pip install 'bargain-eval[torch]'"
        raise ModuleNotFoundError(message, name="torch") from error
    return torch


def _check_archive(path: Path) -> None:
    """Refuses what is no torch archive before any unpickler sees it."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(_ZIP_MAGIC))
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint at {path}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if magic != _ZIP_MAGIC:
        raise CheckpointError(
            f"{path} is refused: it is no bargain checkpoint (plain pickles, which can hold code, are never read)"
        )
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} cannot be read: it is truncated or damaged")


def _check_header(data: object, name: str) -> None:
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise CheckpointError(f"{name} is no bargain checkpoint: it lacks the entry format={FORMAT!r}")
    version = data.get("format_version")
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{name} has no valid format_version (found {version!r})")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{name} has format version {version}; this bargain-eval reads up to {FORMAT_VERSION}: upgrade it"
        )
    for key, kind in _HEADER.items():
        if not isinstance(data.get(key), kind):
            raise CheckpointError(
                f"{name} needs the entry {key!r} as {kind.__name__}, found {type(data.get(key)).__name__}"
            )
    _check_networks(data["networks"], name)
    _check_seats(data["seats"], len(data["networks"]), name)


def _check_networks(networks: list[Any], name: str) -> None:
    if not networks:
        raise CheckpointError(f"{name} holds no network")
    for index, network in enumerate(networks):
        parts = network if isinstance(network, Mapping) else {}
        if not all(isinstance(parts.get(key), Mapping) for key in ("config", "policy_state_dict")):
            raise CheckpointError(f"{name}: network {index} needs a 'config' and a 'policy_state_dict'")


def _check_seats(seats: list[Any], num_networks: int, name: str) -> None:
    if len(seats) != 2 or not all(_is_mixture(seat, num_networks) for seat in seats):
        raise CheckpointError(
            f"{name}: 'seats' needs, for each of the two seats, (network index, weight) pairs with indices"
            f" below {num_networks} and weights that are not negative and not all zero"
        )


def _is_mixture(seat: Any, num_networks: int) -> bool:
    try:
        pairs = [(index, weight) for index, weight in seat]
        indices_fit = all(type(index) is int and 0 <= index < num_networks for index, _ in pairs)
        return indices_fit and all(weight >= 0 for _, weight in pairs) and 0 < sum(w for _, w in pairs) < math.inf
    except (TypeError, ValueError):
        return False


def _check_readable(value: Any, place: str, torch: ModuleType) -> None:
    if type(value) in _PLAIN_TYPES or isinstance(value, torch.Tensor | torch.Size | torch.dtype | torch.device):
        return
    if type(value) in {dict, OrderedDict}:
        for key, item in value.items():
            _check_readable(key, place, torch)
            _check_readable(item, f"{place}.{key}" if place else str(key), torch)
    elif type(value) in {list, tuple}:
        for index, item in enumerate(value):
            _check_readable(item, f"{place}[{index}]", torch)
    else:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise CheckpointError(f"{place} is a {kind}, which could not be read again: store tensors and plain values")
