"""One self-contained page: its style, its script and its data are in it, and its policy forbids everything else."""

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from mdpo.report_data import RunData
from mdpo.report_layout import Section
from mdpo.report_pack import pack
from mdpo.report_results import accuracy, comparison, headlines
from mdpo.report_rollouts import behaviour, rollouts
from mdpo.report_training import training

_STYLES = ("page.css", "figures.css", "browser.css")
_SCRIPTS = (
    "unpack.js", "symbols.js", "mathematics.js", "python.js", "attempt.js", "filters.js", "list.js", "detail.js",
    "browser.js",
)  # fmt: skip


def page(runs: Sequence[RunData]) -> str:
    """The page of one run, or of several."""
    style, script = ("\n".join(map(_read, names)) for names in (_STYLES, _SCRIPTS))
    # Loaded as a template of the package, so that autoescape covers all that is not marked as our own.
    environment = Environment(loader=PackageLoader("mdpo", "report_page"), autoescape=True, trim_blocks=True)
    environment.filters["number"] = "{:,}".format
    environment.filters["unmarked"] = _unmarked
    return environment.get_template("page.html.j2").render(
        runs=runs,
        title=_listed([run.name for run in runs]),
        headlines=headlines(runs),
        sections=_sections(runs),
        packed=pack([attempts for run in runs for attempts in run.attempts]),
        left_out=_left_out(runs),
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _sections(runs: Sequence[RunData]) -> list[Section]:
    compared = [comparison(runs)] if len(runs) > 1 else []
    return [accuracy(runs), *compared, training(runs), rollouts(runs), behaviour(runs)]


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _left_out(runs: Sequence[RunData]) -> list[str]:
    """Which trajectories the page does not hold."""
    return [
        f"{run.name} · {each.name}: {each.sample.size:,} of {each.tally.trajectories:,} trajectories, those of "
        f"{len(each.sample.problems):,} of {len(each.rewards):,} problems"
        for run in runs
        for each in run.attempts
        if each.sample.size < each.tally.trajectories
    ]


def _unmarked(note: str) -> str:
    """A stage's note as plain text: it was written for the terminal."""
    return re.sub(r"\[/?[a-z ]*\]", "", note)


def _read(name: str) -> str:
    return (files("mdpo") / "report_page" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a content security policy knows an inline element by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
