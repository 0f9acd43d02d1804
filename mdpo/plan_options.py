"""The plan of a rollout from the command line's options."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import yaml
from pydantic import Field, ValidationError

from mdpo.config import Count, ExtraConfig, Section
from mdpo.errors import ConfigError
from mdpo.options import split_option
from mdpo.plan import Extra, Plan, Share
from mdpo.recipe_file import parse_yaml
from mdpo.rollout import Sampling

_Fields = TypeVar("_Fields", bound=Section)


class _ShareOption(Section):
    """What `--share` may hold."""

    samples: Count
    policy: str | None = None
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)


def read_plan(sampling: Sampling, samples: int, shares: Sequence[str], extra: str | None) -> Plan:
    """The attempts that the options ask for.

    Args:
        sampling: Of the first share, and of the others where they do not differ.
        samples: Of the first share.
        shares: Options such as `samples=10,policy=PATH,temperature=0.7,top_p=0.9`.
        extra: An option such as `most=30,step=5,budget=2000`, or `None`.

    Raises:
        ConfigError: An option cannot be read; the message names the key and what is valid.
    """
    more = [_share(sampling, _read(_ShareOption, text, "--share")) for text in shares]
    granted = None if extra is None else Extra(**_read(ExtraConfig, extra, "--extra").model_dump())
    return Plan((Share(sampling, samples), *more), granted)


def _share(sampling: Sampling, option: _ShareOption) -> Share:
    given = {key: value for key in ("temperature", "top_p") if (value := getattr(option, key)) is not None}
    return Share(replace(sampling, **given), option.samples, option.policy)


def _read(fields: type[_Fields], text: str, option: str) -> _Fields:
    """The fields of an option such as `samples=10,temperature=0.7`."""
    pairs = [split_option(part, f"part {part!r} of {option}", "key=value") for part in text.split(",")]
    try:
        return fields.model_validate({name.strip(): parse_yaml(value) for name, value in pairs})
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read {option} {text!r}: a value is no YAML") from error
    except ValidationError as error:
        # A key that is unknown often is the one that seems to be missing.
        first = min(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"cannot read {option} {text!r}: `{key}`: {first['msg'].lower()}; valid keys are "
            f"{', '.join(fields.model_fields)}"
        ) from error
