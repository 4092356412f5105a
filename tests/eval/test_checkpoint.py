import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bargain_eval.checkpoint import CheckpointError, make_checkpoint, read_checkpoint, write_checkpoint


class TouchFile:
    """Pickles into a command that leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.trace}",)


def checkpoint(**changes: Any) -> dict[str, Any]:
    networks = [
        {"config": {"kind": "mlp", "sizes": (3, 2)}, "policy_state_dict": torch.nn.Linear(3, 2).state_dict()},
        {"config": {"kind": "mlp", "sizes": (3, 2)}, "policy_state_dict": torch.nn.Linear(3, 2).state_dict()},
    ]
    data = make_checkpoint(
        algorithm="psro",
        spec={"item_quantities": (7, 4, 1), "discount": 1.0},
        networks=networks,
        seats=[[(0, 1.0)], [(0, 0.25), (1, 0.75)]],
        step=640,
        resume={"rng": torch.get_rng_state(), "python_rng": (3, (1, 2), None), "big": 2**100},
    )
    return data | changes


def test_everything_written_is_read_back(tmp_path: Path) -> None:
    written = checkpoint()
    write_checkpoint(tmp_path / "deep" / "policy.pt", written)

    stored = read_checkpoint(tmp_path / "deep" / "policy.pt")

    assert stored.keys() == written.keys()
    for key in ("format", "format_version", "algorithm", "spec", "seats", "versions", "step"):
        assert stored[key] == written[key]
    assert stored["resume"]["python_rng"] == (3, (1, 2), None)
    assert stored["resume"]["big"] == 2**100
    assert torch.equal(stored["resume"]["rng"], written["resume"]["rng"])
    assert stored["versions"]["torch"].startswith(torch.__version__.split("+", maxsplit=1)[0])
    for network, original in zip(stored["networks"], written["networks"], strict=True):
        assert network["config"] == original["config"]
        for name, tensor in original["policy_state_dict"].items():
            assert torch.equal(network["policy_state_dict"][name], tensor)
    policy = torch.nn.Linear(3, 2)
    policy.load_state_dict(stored["policy_state_dict"])
    assert torch.equal(policy.weight, written["networks"][0]["policy_state_dict"]["weight"])


@pytest.mark.parametrize("copied", [False, True])
def test_the_first_network_is_stored_once(tmp_path: Path, copied: bool) -> None:
    weights = {"weight": torch.rand(1000, 100)}
    data = checkpoint(networks=[{"config": {}, "policy_state_dict": weights}], seats=[[(0, 1.0)], [(0, 1.0)]])
    data["policy_state_dict"] = {"weight": weights["weight"].clone()} if copied else weights

    write_checkpoint(tmp_path / "policy.pt", data)

    assert (tmp_path / "policy.pt").stat().st_size < 1.2 * 400_000
    stored = read_checkpoint(tmp_path / "policy.pt")
    assert (
        stored["policy_state_dict"]["weight"].data_ptr()
        == stored["networks"][0]["policy_state_dict"]["weight"].data_ptr()
    )


@pytest.mark.parametrize("kind", ["archive", "legacy", "pickle"])
def test_code_is_refused_and_not_run(tmp_path: Path, kind: str) -> None:
    trace, path = tmp_path / "trace", tmp_path / "policy.pt"
    data = checkpoint(resume={"evil": TouchFile(trace)})
    if kind == "pickle":
        path.write_bytes(pickle.dumps(data))
    else:
        torch.save(data, path, _use_new_zipfile_serialization=kind == "archive")

    with pytest.raises(CheckpointError, match=r"refused: .*code") as refusal:
        read_checkpoint(path)

    assert not trace.exists()
    assert "\n" not in str(refusal.value)
    if kind == "archive":
        torch.load(path, weights_only=False)
        assert trace.exists(), "the payload of this test does nothing"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint at .*absent\.pt$"):
        read_checkpoint(tmp_path / "absent.pt")


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "policy.pt"
    write_checkpoint(path, checkpoint())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])

    with pytest.raises(CheckpointError, match=r"truncated or damaged|no bargain checkpoint") as refusal:
        read_checkpoint(path)

    assert "\n" not in str(refusal.value)


def test_a_damaged_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.pt"
    write_checkpoint(path, checkpoint())
    whole = bytearray(path.read_bytes())
    start = whole.index(b"bargain-checkpoint")
    whole[start - 40 : start + 200] = bytes(240)
    path.write_bytes(whole)

    with pytest.raises(CheckpointError, match=r"policy\.pt") as refusal:
        read_checkpoint(path)

    assert "\n" not in str(refusal.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a torch without CUDA device")
def test_a_missing_device_is_not_called_damage(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "policy.pt", checkpoint())
    with pytest.raises(CheckpointError, match=r"cannot be loaded onto cuda: .*CUDA"):
        read_checkpoint(tmp_path / "policy.pt", map_location="cuda")


def test_a_foreign_archive_is_refused(tmp_path: Path) -> None:
    torch.save({"model": torch.zeros(2)}, tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("other.pt", "list.pt"):
        with pytest.raises(CheckpointError, match="no bargain checkpoint"):
            read_checkpoint(tmp_path / name)


def test_a_future_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    torch.save(checkpoint(format_version=2), tmp_path / "policy.pt")
    with pytest.raises(CheckpointError, match=r"format version 2.* reads up to 1: upgrade"):
        read_checkpoint(tmp_path / "policy.pt")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format_version": "1"}, "format_version"),
        ({"algorithm": None}, "'algorithm' as str"),
        ({"spec": None}, "'spec' as dict"),
        ({"step": 1.5}, "'step' as int"),
        ({"networks": []}, "no network"),
        ({"networks": [{"config": {}}]}, "network 0 needs"),
        ({"seats": [[(0, 1.0)]]}, "two seats"),
        ({"seats": [[(0, 1.0)], []]}, "weights"),
        ({"seats": [[(0, 1.0)], [(2, 1.0)]]}, "below 2"),
        ({"seats": [[(0, 1.0)], [(0, -1.0), (1, 2.0)]]}, "not negative"),
        ({"seats": [[(0, 1.0)], [(0, float("nan"))]]}, "weights"),
        ({"seats": [[(0, 1.0)], [0]]}, "pairs"),
    ],
)
def test_a_bad_header_is_refused_by_writer_and_reader(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    data = checkpoint(**changes)
    with pytest.raises(CheckpointError, match=complaint):
        write_checkpoint(tmp_path / "policy.pt", data)
    assert list(tmp_path.iterdir()) == []

    torch.save(data, tmp_path / "policy.pt")
    with pytest.raises(CheckpointError, match=complaint):
        read_checkpoint(tmp_path / "policy.pt")


def test_the_writer_refuses_what_could_not_be_read(tmp_path: Path) -> None:
    resume = {"optimizer": {"lr": [1.0, io.StringIO()]}}
    with pytest.raises(CheckpointError, match=r"resume\.optimizer\.lr\[1\] is a _io\.StringIO"):
        write_checkpoint(tmp_path / "policy.pt", checkpoint(resume=resume))
    numpy_weight = torch.zeros(1, dtype=torch.float64).numpy()[0]
    with pytest.raises(CheckpointError, match=r"resume\.lr is a numpy\.float64"):
        write_checkpoint(tmp_path / "policy.pt", checkpoint(resume={"lr": numpy_weight}))


def test_optimizer_and_module_states_can_be_resumed(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()

    write_checkpoint(tmp_path / "policy.pt", checkpoint(resume={"optimizer": optimizer.state_dict()}))

    torch.optim.Adam(module.parameters()).load_state_dict(
        read_checkpoint(tmp_path / "policy.pt")["resume"]["optimizer"]
    )


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policy.pt"
    write_checkpoint(path, checkpoint())

    def half_a_file(data: object, file: io.BufferedWriter) -> None:
        file.write(b"PK\x03\x04half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half_a_file)
    with pytest.raises(OSError, match="disk full"):
        write_checkpoint(path, checkpoint(step=650))

    assert read_checkpoint(path)["step"] == 640
    assert [file.name for file in tmp_path.iterdir()] == ["policy.pt"]


def test_without_torch_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = checkpoint()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError, match=r"bargain-eval\[torch\]"):
        read_checkpoint(tmp_path / "policy.pt")
    with pytest.raises(ModuleNotFoundError, match=r"bargain-eval\[torch\]"):
        write_checkpoint(tmp_path / "policy.pt", data)


def test_importing_the_stores_loads_no_torch() -> None:
    code = "import sys, bargain_eval.checkpoint, bargain_eval.commands.results; print('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
