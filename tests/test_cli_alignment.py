"""Each option of a command is the parameter of the same name of its function: names, defaults and choices."""

import inspect
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click
import pytest

import cellnet_sd as cn
from cellnet_sd import cli

COMMANDS: dict[str, Callable[..., Any]] = {
    "info": cn.info,
    "index": cn.index,
    "validate": cn.validate,
    "convert": cn.convert,
    "write": cn.write,
}


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a function; `**options` are those of `read`, of which `backed` changes nothing."""
    own = dict(inspect.signature(function).parameters)
    if own.pop("options", None) is not None:
        own |= {name: p for name, p in inspect.signature(cn.read).parameters.items() if name not in ("path", "backed")}
    return own


def keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return {name: p for name, p in parameters(function).items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def options(command: str) -> dict[str, click.Option]:
    params = cli.main.commands[command].params
    return {str(param.name): param for param in params if isinstance(param, click.Option)}


def arguments(command: str) -> list[str]:
    return [str(p.name) for p in cli.main.commands[command].params if isinstance(p, click.Argument)]


def words(annotation: Any) -> set[str]:
    """Return the strings an annotation allows, `true` and `false` for a bool."""
    if annotation is bool:
        return {"true", "false"}
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    if get_origin(annotation) in (Union, UnionType) or get_args(annotation):
        return set().union(*(words(part) for part in get_args(annotation) if part is not NoneType))
    return set()


def test_every_command_but_demo_has_a_function() -> None:
    assert list(cli.main.commands) == ["demo", *COMMANDS]


@pytest.mark.parametrize("command", COMMANDS)
def test_arguments_are_the_positional_parameters(command: str) -> None:
    positional = [
        name
        for name, parameter in parameters(COMMANDS[command]).items()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    assert arguments(command) == positional


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_the_keyword_parameters(command: str) -> None:
    assert set(options(command)) == set(keywords(COMMANDS[command]))


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_spelled_as_parameters(command: str) -> None:
    for name, option in options(command).items():
        assert option.opts == [f"--{name.replace('_', '-')}"]


def taken(option: click.Option) -> Any:
    """Return what the default that help shows would be converted to; `None` where it shows none."""
    default = option.to_info_dict()["default"]
    if option.multiple:
        values = tuple(option.type.convert(value, option, None) for value in default or ())
        bare = len(values) == 1 and isinstance(values[0], bool)
        return values[0] if bare else values or None
    return None if default is None else option.type.convert(default, option, None)


@pytest.mark.parametrize("command", COMMANDS)
def test_defaults_are_those_of_the_parameters(command: str) -> None:
    wanted = {name: parameter.default for name, parameter in keywords(COMMANDS[command]).items()}
    assert {name: taken(option) for name, option in options(command).items()} == wanted


@pytest.mark.parametrize("command", COMMANDS)
def test_choices_are_those_of_the_annotations(command: str) -> None:
    for name, parameter in keywords(COMMANDS[command]).items():
        option = options(command)[name]
        allowed = words(parameter.annotation)
        if isinstance(option.type, click.Choice):
            assert set(option.type.choices) == allowed, name
        else:
            assert allowed <= {"true", "false"}, name


@pytest.mark.parametrize("command", COMMANDS)
def test_sequences_are_options_to_repeat(command: str) -> None:
    for name, parameter in keywords(COMMANDS[command]).items():
        repeated = "Sequence" in str(parameter.annotation) or name == "cells"
        assert options(command)[name].multiple == repeated, name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_explains_itself(command: str) -> None:
    for name, option in options(command).items():
        assert option.help, name
        assert len(option.help) < 100, name
