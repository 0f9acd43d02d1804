"""The text of a recipe: YAML, perhaps on top of another recipe, with overrides after it, and where each key stands.

base: paper.yaml                # beside this file, or one of the package's; all that is not said here is taken from it
policy: {model: some/model}
train: {args: {beta: null}}     # null takes away what the base says
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mdpo.errors import ConfigError
from mdpo.recipes import find_base

Keys = tuple[str, ...]
Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a recipe says, and where: keys → `file, line 3` or an override."""

    values: Values
    places: dict[Keys, str]


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but `4e-7` is a number, as everywhere else, and not a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        yaml.YAMLError: It is no YAML.
    """
    return yaml.load(text, _Loader)


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, the recipes that it stands on, and overrides.

    Args:
        path: A YAML file. Its key `base` names another one, relative to it; sections are merged key by key, anything
            else is replaced, and `null` takes a key of the base away.
        overrides: `section.key=value`; the value is YAML.

    Raises:
        ConfigError: A file is missing or no YAML, the bases go round in a circle, or an override cannot be read.
    """
    recipe = _with_bases(path, ())
    for override in overrides:
        _override(recipe, override)
    return recipe


def _with_bases(path: Path, above: tuple[Path, ...]) -> Recipe:
    recipe = _read(path)
    base = recipe.values.pop("base", None)
    place = recipe.places.pop(("base",), "")
    if base is None:
        return recipe
    if not isinstance(base, str):
        raise ConfigError(
            f"{place}: `base` is the name of one recipe, relative to this file, such as `base: paper.yaml`"
        )
    file, chain = find_base(base, path.parent), (*above, path)
    if file.resolve() in {other.resolve() for other in chain}:
        circle = " → ".join(str(other) for other in (*chain, file))
        raise ConfigError(f"{place}: the bases go round in a circle ({circle}); remove one of the `base` keys")
    if not file.is_file():
        raise ConfigError(f"{place}: `base` names {file}, and there is no such file; check the path")
    below = _with_bases(file, chain)
    _merge(below, recipe, below.values, recipe.values, ())
    return below


def _read(path: Path) -> Recipe:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"there is no configuration {path}; `mdpo configs` lists the recipes") from error
    try:
        node, values = yaml.compose(text), parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is no configuration: expected sections such as `policy:`")
    places: dict[Keys, str] = {}
    _find_places(node, (), path, places)
    return Recipe(values, places)


def _find_places(node: yaml.Node | None, keys: Keys, path: Path, places: dict[Keys, str]) -> None:
    """Where each key of a YAML document stands."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*keys, str(key.value))
            places[inner] = f"{path}, line {key.start_mark.line + 1}"
            _find_places(value, inner, path, places)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _find_places(item, (*keys, str(number)), path, places)


def _merge(below: Recipe, above: Recipe, into: Values, values: Values, keys: Keys) -> None:
    """Put what `above` says under `keys` over what `below` says there."""
    for key, value in values.items():
        inner = (*keys, str(key))
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(below, above, into[key], value, inner)
            continue
        for place in [place for place in below.places if place[: len(inner)] == inner]:
            del below.places[place]
        below.places.update({place: where for place, where in above.places.items() if place[: len(inner)] == inner})
        if value is None:
            into.pop(key, None)
        else:
            into[key] = value


def _override(recipe: Recipe, override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"cannot read the override {override!r}; write section.key=value")
    keys = tuple(name.split("."))
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of the override {override!r} is no valid YAML") from error
    section = recipe.values
    for key in keys[:-1]:
        inner = section.get(key)
        if inner is None:
            inner = section[key] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"the override {override!r} goes into `{key}`, which is a value and not a section")
        section = inner
    section[keys[-1]] = value
    recipe.places[keys] = f"the override {override!r}"
