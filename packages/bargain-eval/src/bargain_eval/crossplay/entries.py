"""Who takes part in a cross-play: a distinct name and a fingerprint for every policy string."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

from bargain_eval.llm.client import Client
from bargain_eval.llm.prompt import prompt_file
from bargain_eval.registry import parse_policy_string, policy_names
from bargain_eval.results.layout import policy_file, run_folder


@dataclasses.dataclass(frozen=True)
class Entry:
    """One policy of a cross-play.

    Attributes:
        name: Distinct from all others.
        policy: The policy string.
        group: The list that it was given in: "policies", "rl_checkpoints" or "baselines".
        fingerprint: See `fingerprint`.
    """

    name: str
    policy: str
    group: str
    fingerprint: str


def make_entries(groups: Mapping[str, Sequence[str]], results_dir: Path) -> tuple[Entry, ...]:
    """Returns an entry for every policy string of every group, in order; a string given twice makes two entries.

    Raises:
        ValueError: If there is no policy, a run does not exist, or two pairs would read the same as "A_vs_B".
    """
    given = [(group, policy) for group, policies in groups.items() for policy in policies]
    if not given:
        raise ValueError("a cross-play needs at least one policy.")
    names = distinct_names([policy for _, policy in given])
    pairs: dict[str, tuple[str, str]] = {}
    for pair in product(names, names):
        other = pairs.setdefault(pair_key(*pair), pair)
        if other != pair:
            raise ValueError(f"{pair_key(*pair)} could mean {other} or {pair}; rename one of the files.")
    return tuple(
        Entry(name, policy, group, fingerprint(policy, results_dir))
        for name, (group, policy) in zip(names, given, strict=True)
    )


def pair_key(first: str, second: str) -> str:
    """Returns the name of a cell: `first` in seat 0 against `second` in seat 1."""
    return f"{first}_vs_{second}"


def distinct_names(policies: Sequence[str]) -> list[str]:
    """Returns a name for each policy string, all distinct.

    A name is the policy string itself. A file is named by its stem, with as many of the folders above it as it takes to
    tell it from the other files: two `best.pt` become `a/best` and `b/best`. Copies of one policy get `#2`, `#3`, ...
    """
    choices = [_choices(policy) for policy in policies]
    length = dict.fromkeys(choices, 0)
    while longer := _clashing(length):
        for names in longer:
            length[names] += 1
    taken: list[str] = []
    for names in choices:
        name = plain = names[length[names]]
        copy = 1
        while name in taken:
            copy += 1
            name = f"{plain}#{copy}"
        taken.append(name)
    return taken


def _choices(policy: str) -> tuple[str, ...]:
    """Returns the possible names of a policy, the shortest first; spellings of the same file give the same names."""
    name, argument, _ = parse_policy_string(policy)
    if name != "checkpoint" and not Path(argument).is_file():
        return (policy,)
    options = policy.rpartition("?")[2] if "?" in policy else ""
    before, after = "" if name == "checkpoint" else f"{name}:", f"?{options}" if options else ""
    parts = Path(os.path.abspath(argument)).with_suffix("").parts[1:]
    return tuple(f"{before}{'/'.join(parts[-count:])}{after}" for count in range(1, len(parts) + 1))


def _clashing(length: Mapping[tuple[str, ...], int]) -> list[tuple[str, ...]]:
    """Returns the choices whose present name is another's too, and which have a longer one."""
    present = [names[count] for names, count in length.items()]
    return [
        names
        for (names, count), name in zip(length.items(), present, strict=True)
        if present.count(name) > 1 and count + 1 < len(names)
    ]


def fingerprint(policy: str, results_dir: Path) -> str:
    """Returns the SHA-256 of a policy string and of everything that it names, in hexadecimal digits.

    That is the content of its files, and for a language model the words of its prompt and the server with its API.

    Raises:
        ValueError: If it names a run or a prompt that does not exist, or the address of a server is none.
    """
    digest = hashlib.sha256(policy.encode())
    for part in policies_within(policy):
        for content in _named_contents(part, results_dir):
            digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def policies_within(policy: str) -> Iterator[str]:
    """Yields a policy string and those within it, such as that of a search or of a fallback."""
    yield policy
    for text in _texts(policy):
        if not Path(text).is_file() and _is_policy(text):
            yield from policies_within(text)


def asks_language_model(policy: str) -> bool:
    """Tells whether a policy string names a language model, or has one within it."""
    return any(parse_policy_string(part)[0] == "openai" for part in policies_within(policy))


def _texts(policy: str) -> list[str]:
    """Returns the argument and the options of a policy string; the argument of a language model is only its name."""
    name, argument, options = parse_policy_string(policy)
    return [text for text in ("" if name == "openai" else argument, *options.values()) if text]


def _is_policy(text: str) -> bool:
    if text.partition(":")[0] in policy_names():
        return True
    return text[0] not in ":?" and parse_policy_string(text)[0] == "openai"


def _named_contents(policy: str, results_dir: Path) -> Iterator[bytes]:
    """Yields what a policy string itself names."""
    name, argument, options = parse_policy_string(policy)
    if name == "run" and argument:
        yield policy_file(run_folder(results_dir, argument), options.get("checkpoint")).read_bytes()
    if name == "openai":
        server = Client(options.get("base_url"), options.get("api", "auto"))  # type: ignore[arg-type] # checked there
        yield prompt_file(options.get("prompt", "baseline")).read_bytes()
        yield f"{server.api} {server.host}".encode()
    for text in _texts(policy):
        if Path(text).is_file():
            yield Path(text).read_bytes()
