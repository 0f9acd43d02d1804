"""Options that commands share: spread over the command line, gathered again for the command."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from mdpo.errors import ConfigError
from mdpo.options import Part, spread


@dataclass(frozen=True)
class Place:
    city: Annotated[str, typer.Option(help="Where.")]
    floor: Annotated[int, typer.Option(min=0)] = 1


def run(*arguments: str, **defaults: object) -> str:
    app = typer.Typer()

    @app.command()
    @spread(**defaults)
    def command(name: Annotated[str, typer.Argument()], place: Place, loud: bool = False) -> None:
        typer.echo(f"{name} {place} {loud}")

    return CliRunner().invoke(app, list(arguments)).output


def test_each_field_is_an_option_and_the_command_gets_the_dataclass() -> None:
    assert run("Ann", "--city", "Rome", "--loud") == "Ann Place(city='Rome', floor=1) True\n"


def test_a_command_may_have_another_default() -> None:
    assert run("Ann", city="Bonn", floor=3) == "Ann Place(city='Bonn', floor=3) False\n"


def test_bounds_and_missing_options_are_still_checked() -> None:
    assert "--city" in run("Ann")
    assert "greater than or equal to 0" in run("Ann", "--city", "Rome", "--floor", "-1")


def test_columns_are_pairs() -> None:
    assert Part("test", column=["question=q", "answer=a"]).columns() == {"question": "q", "answer": "a"}
    with pytest.raises(ConfigError, match="cannot read the column 'question'; write field=column"):
        Part("test", column=["question"]).columns()
