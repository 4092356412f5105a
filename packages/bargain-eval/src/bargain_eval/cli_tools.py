"""What the command lines of the distributions share: one parser, one way to fail, and what sweep agents write."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import io
import os
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import tyro
from pydantic import ValidationError
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from bargain_eval.policy import PolicyFailed, read_bool

Command = tuple[type[Any], Callable[[Any], int]]
"""The dataclass of a command's options, and the function that runs it and returns the exit code."""

_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def run_cli(prog: str, description: str, commands: Mapping[str, Command], argv: Sequence[str] | None = None) -> int:
    """Parses a command line, runs its command and returns the exit code.

    A bad value, found by the parser or raised as ValueError by the command, prints one sentence to stderr and gives 2;
    a policy that cannot move, such as a model whose server gives no answer, one sentence and 1; Ctrl-C gives 130;
    `--help` prints a page to stdout and gives 0.

    Args:
        prog: The program's name.
        description: The first lines of `PROG --help`.
        commands: The commands by name; the first line of a dataclass's docstring describes it in the overview.
        argv: The arguments after the program's name; those of the process if None.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(prog, description, commands, arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _run(prog: str, description: str, commands: Mapping[str, Command], arguments: list[str]) -> int:
    name = arguments[0] if arguments else ""
    try:
        if name.startswith("-"):
            _parse(_overview(commands), prog, arguments, description)
        if name not in commands:
            raise ValueError(_unknown_command(name, commands))
        options, run = commands[name]
        prog = f"{prog} {name}"
        return run(read_options(options, arguments[1:], prog))
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt:
        sys.stderr.write(f"{prog}: interrupted.\n")
        return 130
    except PolicyFailed as error:
        sys.stderr.write(f"{prog}: {error}\n")
        return 1
    except ValueError as error:
        sys.stderr.write(f"{prog}: {sentence(error)}\n")
        return 2


def read_options(options: type[Any], arguments: Sequence[str], prog: str) -> Any:
    """Returns the dataclass `options` as the command `prog` reads it from `arguments`.

    Raises:
        ValueError: If an argument is unknown or a value is bad; see `sentence`.
        SystemExit: After printing the page that `--help` asks for.
    """
    return _parse(options, prog, normalise_arguments(arguments, options))


def normalise_arguments(arguments: Sequence[str], options: type[Any]) -> list[str]:
    """Returns the arguments as tyro reads them, for callers that write every flag as `--name=value`.

    `--flag=True` and `--flag=False` of a bool field become `--flag` and `--no-flag`; a list literal such as `[1, 2]`
    given to a field of several values becomes `1 2`. Names may be written with underscores. The rest is left alone.
    """
    kinds = _field_kinds(options)
    result: list[str] = []
    kind: Any = None
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag.startswith("--"):
            kind = kinds.get(flag[2:].replace("_", "-"))
            if equals and kind is bool and (truth := _read_or_none(value)) is not None:
                result.append(flag if truth else f"--no-{flag[2:]}")
            elif equals and kind is tuple and (items := _list_literal(value)) is not None:
                result += [flag, *items]
            else:
                result.append(argument)
        elif kind is tuple and (items := _list_literal(argument)) is not None:
            result += items
        else:
            result.append(argument)
    return result


def _field_kinds(options: type[Any]) -> dict[str, type[Any]]:
    """Returns `bool` or `tuple` for each such field by its flag's name; nested dataclasses are flattened."""
    kinds: dict[str, type[Any]] = {}
    for name, hint in get_type_hints(options).items():
        choices = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        if dataclasses.is_dataclass(hint):
            kinds |= _field_kinds(hint if isinstance(hint, type) else type(hint))
        elif hint is bool:
            kinds[name.replace("_", "-")] = bool
        elif any((get_origin(choice) or choice) in (tuple, list) for choice in choices):
            kinds[name.replace("_", "-")] = tuple
    return kinds


def _read_or_none(text: str) -> bool | None:
    try:
        return read_bool(text)
    except ValueError:
        return None


def _list_literal(text: str) -> list[str] | None:
    if not text.startswith(("[", "(")):
        return None
    try:
        return [str(item) for item in ast.literal_eval(text)]
    except (ValueError, SyntaxError, TypeError):
        return None


def _overview(commands: Mapping[str, Command]) -> Any:
    entries = tuple(
        Annotated[options, tyro.conf.subcommand(name, description=(options.__doc__ or "").partition("\n")[0])]
        for name, (options, _) in commands.items()
    )
    return Union[entries]  # noqa: UP007 - built at run time


def _parse(options: Any, prog: str, arguments: Sequence[str], description: str | None = None) -> Any:
    """Returns the parsed options; what tyro would print in a box for a bad value is raised as ValueError instead."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box), _help_with_ranges():
            return tyro.cli(
                options, prog=prog, args=arguments, description=description, config=(tyro.conf.OmitArgPrefixes,)
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise _validation_error(stop) or ValueError(_box_text(box.getvalue())) from None


def range_text(hint: Any) -> str:
    """Returns what numbers an annotated type allows, such as `>0, <=1`; "" if it says nothing of that."""
    return ", ".join(dict.fromkeys(_limits(hint)))


def _limits(hint: Any) -> Iterator[str]:
    for part in get_args(hint):
        for limit in getattr(part, "metadata", ()):
            yield from (f"{sign}{getattr(limit, name)}" for name, sign in _SIGNS.items() if hasattr(limit, name))
        yield from _limits(part)


def _help_with_ranges() -> ConstructorRegistry:
    """Returns tyro's rules with one more: beside its default, a field's help names the range of its type."""
    registry = ConstructorRegistry()
    asking = False

    @registry.struct_rule
    def with_ranges(info: StructTypeInfo) -> StructConstructorSpec | None:
        nonlocal asking
        if asking:
            return None
        asking = True
        spec = ConstructorRegistry.get_struct_spec(info)
        asking = False
        if not isinstance(spec, StructConstructorSpec):
            return None
        return dataclasses.replace(spec, fields=tuple(map(_with_range, spec.fields)))

    return registry


def _with_range(field: StructFieldSpec) -> StructFieldSpec:
    if not (text := range_text(field.type)):
        return field
    hint = tyro.conf.arg(help_behavior_hint=lambda default: f"({text}; default: {default})")
    with_hint: Any = Annotated[field.type, hint]
    return dataclasses.replace(field, type=with_hint)


def _validation_error(error: BaseException | None) -> ValidationError | None:
    """Returns the pydantic error that led to `error`, if one did."""
    while error is not None and not isinstance(error, ValidationError):
        error = error.__cause__ or error.__context__
    return error


def _box_text(box: str) -> str:
    """Returns the first paragraph of tyro's error box in one line, with the flag it proposes if it has one."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", box)
    lines = [re.sub(r"^│ | *│$", "", line).strip() for line in plain.splitlines()[1:]]
    text = " ".join("\n" if re.fullmatch("[╰─╯-]+", line) else line for line in lines).strip()
    proposed = re.search(r"Perhaps you meant: +(--[\w-]+)", text)
    return text.partition("\n")[0].strip() + (f"; perhaps you meant {proposed[1]}" if proposed else "")


def _unknown_command(name: str, commands: Mapping[str, Command]) -> str:
    close = difflib.get_close_matches(name, commands, n=1)
    problem = f"unknown command {name!r}" if name else "a command is missing"
    return f"{problem}; did you mean {close[0]}?" if close else f"{problem}; choose one of {', '.join(commands)}."


def sentence(error: ValueError) -> str:
    """Returns what is wrong as one sentence; of several bad values of a dataclass, the first, named by its flag."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        text = first["msg"].removeprefix("Value error, ")
        if first["loc"]:
            text = f"--{str(first['loc'][0]).replace('_', '-')}: {text}, got {first['input']!r}"
    else:
        text = str(error)
    text = re.sub(r" \.(?=\s|$)", ".", " ".join(text.split()))
    return text if text.endswith((".", "?")) else f"{text}."
