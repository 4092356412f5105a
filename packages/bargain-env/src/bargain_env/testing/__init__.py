"""Conformance checks for engines and environments; they raise `AssertionError` and need no test framework."""

from __future__ import annotations

from bargain_env.testing.compare import Arrays
from bargain_env.testing.engines import (
    EngineFactory,
    check_determinism,
    check_engine_parity,
    check_freshness,
    check_rollout,
    check_rows,
    check_state_round_trip,
    snapshot,
)
from bargain_env.testing.environments import (
    EnvFactory,
    check_env,
    check_env_determinism,
    check_env_games,
    check_env_seeding,
)

__all__ = [
    "Arrays",
    "EngineFactory",
    "EnvFactory",
    "check_determinism",
    "check_engine_parity",
    "check_env",
    "check_env_determinism",
    "check_env_games",
    "check_env_seeding",
    "check_freshness",
    "check_rollout",
    "check_rows",
    "check_state_round_trip",
    "snapshot",
]
