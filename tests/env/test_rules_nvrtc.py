"""rules.h is one text for two compilers: here NVRTC compiles it, which needs neither a GPU nor a driver."""

from __future__ import annotations

import io
import re
from importlib import resources

import pytest

core = pytest.importorskip("cuda.core")

KERNEL = """
using namespace bargain;

extern "C" __global__ void play_one_step(const __grid_constant__ Spec spec, u64 seed, i64 rows, i32* values,
                                         i32* outside, i16* moves, i16* offer, i8* turn, bool* finished,
                                         float* observation, float* reward, i64* action) {
    const i64 row = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (row >= rows) return;
    Game game{values + row * 2 * spec.num_items, outside + row * 2, moves + row * spec.max_turns,
              offer[row], turn[row], finished[row]};
    if (game.finished) {
        deal(spec, seed, row, 1, game.values, game.outside);
        game.offer = -1;
        game.turn = 0;
        game.finished = false;
    }
    action[row] = random_action(spec, game, seed, 3, row, 1);
    const Move move = play(spec, game, action[row]);
    reward[2 * row] = move.reward[0];
    reward[2 * row + 1] = move.reward[1];
    if (!game.finished) write_view(spec, game, mover(game), observation + row * spec.observation_dim);
    offer[row] = game.offer;
    turn[row] = game.turn;
    finished[row] = game.finished;
}
"""


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90", "sm_120"])
def test_nvrtc_compiles_the_rules_without_spills(arch: str) -> None:
    rules = resources.files("bargain_env").joinpath("native/rules.h").read_text(encoding="utf-8")
    options = core.ProgramOptions(arch=arch, std="c++17", fma=False, ptxas_options="-v")
    program, log = core.Program(rules + KERNEL, "c++", options), io.StringIO()
    cubin = program.compile("cubin", logs=log)
    assert cubin.code[:4] == b"\x7fELF"
    report = log.getvalue()
    assert "warning" not in report.lower()
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert spills is not None, f"ptxas reported no memory use: {report!r}"
    assert set(spills.groups()) == {"0"}
