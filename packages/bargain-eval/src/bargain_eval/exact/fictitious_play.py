"""Extensive-form fictitious play (XFP): both seats respond exactly to the average of all earlier responses.

No guarantee outside zero-sum games and a few other classes. Source: Heinrich, Lanctot and Silver 2015, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bargain_eval.exact.cfr import checked_checkpoints
from bargain_eval.exact.game import TabularGame
from bargain_eval.exact.profile import plan_strategy, uniform_profile
from bargain_eval.exact.values import Profile, best_response, flow, realisation


def xfp(game: TabularGame, checkpoints: Sequence[int]) -> Iterator[tuple[int, Profile]]:
    """Yields (t, average profile) after t iterations for each t of `checkpoints`, ascending.

    The average after t iterations holds the uniform profile and t best responses, each with weight 1 / (t + 1), mixed
    in realisation weights. Both seats respond at the same time; ties go to the lowest action.

    Raises:
        ValueError: If the checkpoints do not ascend from 1 or above.
    """
    averages = [realisation(game, strategy) for strategy in uniform_profile(game)]
    done = 0
    for stop in checked_checkpoints(checkpoints):
        while done < stop:
            done += 1
            flows = [flow(game, average) for average in averages]
            for seat in range(2):
                response, _ = best_response(game, seat, flows[1 - seat])
                for average, played in zip(averages[seat], realisation(game, response), strict=True):
                    average += (played - average) / (done + 1)
        yield stop, (plan_strategy(averages[0]), plan_strategy(averages[1]))
