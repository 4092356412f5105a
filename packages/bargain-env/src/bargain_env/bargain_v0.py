"""The game under the names that PettingZoo's users expect: `env`, `raw_env` and `parallel_env`."""

from bargain_env.aec_env import env, raw_env
from bargain_env.pettingzoo_env import parallel_env

__all__ = ["env", "parallel_env", "raw_env"]
