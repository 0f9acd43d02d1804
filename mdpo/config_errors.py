"""What pydantic finds wrong with a recipe, told by key, line and nearest valid key."""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mdpo.recipe_file import Keys


def explain(error: ValidationError, root: type[BaseModel], places: Mapping[Keys, str], path: Path) -> str:
    """One sentence for each error, with the key, the place, and what to do.

    Args:
        error: What pydantic found.
        root: The model of the whole configuration.
        places: Where each key stands.
        path: The recipe, for keys that stand nowhere.
    """
    return "; ".join(_explain_one(detail["type"], detail["loc"], detail["msg"], root, places, path)
                     for detail in error.errors())  # fmt: skip


def _explain_one(
    kind: str,
    location: tuple[int | str, ...],
    message: str,
    root: type[BaseModel],
    places: Mapping[Keys, str],
    path: Path,
) -> str:
    keys = tuple(str(key) for key in location)
    name = ".".join(keys)
    place = next((places[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in places), str(path))
    if kind == "extra_forbidden":
        valid = list(_fields(root, keys[:-1]))
        near = difflib.get_close_matches(keys[-1], valid, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"valid are {', '.join(valid)}"
        return f"{place}: unknown key `{name}`; {hint}"
    if kind == "missing":
        return f"{place}: the key `{name}` is missing"
    return f"{place}: `{name}`: {message[0].lower() + message[1:]}"


def _fields(section: type[BaseModel], keys: Keys) -> Iterator[str]:
    """The valid keys of a section inside a section."""
    for key in keys:
        if not key.isdigit():
            section = _section_of(section.model_fields[key].annotation)
    yield from section.model_fields


def _section_of(annotation: Any) -> type[BaseModel]:
    """The section inside an annotation such as `SFTConfig | None` or `list[ProblemsConfig]`."""
    if get_origin(annotation) in (Union, UnionType, list):
        return next(_section_of(inner) for inner in get_args(annotation) if inner is not type(None))
    return annotation  # type: ignore[no-any-return]
