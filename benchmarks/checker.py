r"""Measure the answer checker and its peers on the same answers, and hold it against its bars.

    python benchmarks/checker.py [--shared DIR] [--rounds N] [--json FILE]

The peers are math-verify alone, the grader behind the paper's numbers (`eval.paper`) and the string equivalence of the
MATH data set (Hendrycks). `DIR` holds `bench/checker_dev.jsonl`, pairs with the verdict that mathematics gives,
`bench/extract_dev.jsonl`, texts with the answer that they state, and `data/`, the test sets. Each grader works in one
process, one grader at a time; rates are medians over rounds, each in a fresh process that sees every set once, so that
no memory of earlier answers helps.
"""

import argparse
import json
import re
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

# The folder of this file has files with the names of packages; the packages are beside the folder.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bars import Bar, at_least, at_most, describe_machine, show_bars
from benchmarks.checker_peers import EXTRACTORS, GRADERS, Hung, Process, hendrycks_normal
from eval import load_benchmark
from eval.audit import GoldDisagreement, audit_golds, check_math_verify

OURS, HOSTILE = "ours", "hostile"
AGREEMENT, NUMBERS_PER_SECOND, TIMES_MATH_VERIFY, SLOWEST = 0.99, 20_000.0, 5.0, 2.5
LIMIT, BATCH_LIMIT = 10.0, 300.0  # seconds for a case, and for a set of pairs
NUMBER_PAIRS = 1_000
LATEX_SETS = ("equal", "restyled", "different")
NAMES = {"str": str, "range": range, "chr": chr, "__builtins__": {}}


@dataclass
class Score:
    """How a function did on judged cases; `kinds` has the cases and the right ones of each kind."""

    cases: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    false_positives: Counter[str] = field(default_factory=Counter)
    false_negatives: Counter[str] = field(default_factory=Counter)
    hangs: list[str] = field(default_factory=list)
    ran_code: list[str] = field(default_factory=list)
    wrong: list[dict[str, Any]] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    @property
    def agreement(self) -> float:
        return self.right.total() / self.cases.total()


@dataclass
class Golds:
    """What the audit of a benchmark's golds found; `accepted_next` without pairs that a peer also finds equal."""

    name: str
    problems: int
    not_accepted: list[GoldDisagreement]
    accepted_next: list[GoldDisagreement]
    equal_next: list[GoldDisagreement]


def read_cases(path: Path, column: str) -> list[dict[str, Any]]:
    """The judged cases; long texts are stored as an expression of string literals, `str`, `chr`, `range` and `join`."""
    cases = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for case in cases:
        if f"{column}_py" in case:
            case[column] = eval(case[f"{column}_py"], NAMES)
    # Pairs on which reasonable graders differ have no verdict, ambiguous texts are marked.
    return [case for case in cases if case.get("judged", column == "text" or case["expected"] is not None)]


def same_text(found: object, case: dict[str, Any]) -> bool:
    accepted = [case["expected"], *case.get("also", [])]
    return found in accepted or any(
        isinstance(found, str) and isinstance(text, str) and "".join(found.split()) == "".join(text.split())
        for text in accepted
    )


def score(process: Process, cases: list[dict[str, Any]], extracting: bool) -> Score:
    """One case at a time, killed after the limit. A grader that raises or hangs has not accepted the answer."""
    result = Score()
    known_files = 0
    for case in cases:
        arguments = [case["text"]] if extracting else [case["prediction"], case["answer"]]
        kind, found, hung = case["kind"], None, False
        try:
            (found,), seconds, files = process.call([arguments], LIMIT)
        except Hung:
            seconds, files, hung = LIMIT, [], True
            result.hangs.append(case["id"])
        if len(files) > known_files:
            result.ran_code.append(case["id"])
        known_files = len(files)
        right = not hung and (same_text(found, case) if extracting else bool(found) == case["expected"])
        result.cases[kind] += 1
        result.right[kind] += right
        result.slowest = max(result.slowest, (seconds, case["id"]))
        if not right:
            (result.false_positives if found else result.false_negatives)[kind] += 1
            result.wrong.append({"id": case["id"], "case": [a[:100] for a in arguments], "found": found})
    return result


def restyle(gold: str) -> str:
    r"""The same LaTeX as others write it: `\dfrac`, plain brackets, other blanks."""
    gold = re.sub(r"\\[dt]?frac", r"\\dfrac", re.sub(r"\\(?:left|right)(?![a-z])", "", gold))
    return (
        gold if r"\text" in gold or r"\mbox" in gold else re.sub(r"(?<=[^\s{(\[,])([+=])", r" \1 ", gold).strip() + " "
    )


def pair_sets(shared: Path) -> dict[str, list[list[str]]]:
    """Pairs to measure rates on: real numbers of GSM8K, and the golds of MATH-500 in three ways."""
    path = shared / "bench" / "tora70b_gsm8k_trajectories.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    plain = re.compile(r"-?[0-9][0-9,]*(\.[0-9]+)?")
    numbers = [[row["prediction"], row["answer"]] for row in rows if plain.fullmatch(str(row["prediction"]))]
    golds = [problem.answer for problem in load_benchmark("math500", path=shared / "data" / "math500_test.jsonl")]
    return {
        "numbers": numbers[:NUMBER_PAIRS],
        "numbers .0": [[f"{float(a.replace(',', '')):.1f}", b] for a, b in numbers[:NUMBER_PAIRS]],
        "equal": [[gold, gold] for gold in golds],
        "restyled": [[restyle(gold), gold] for gold in golds],
        "different": [[other, gold] for gold, other in zip(golds, [*golds[1:], golds[0]], strict=True)],
    }


def measure_rates(sets: dict[str, list[list[str]]], rounds: int, console: Console) -> dict[str, dict[str, Any]]:
    """For each grader and set: checks a second of each round, and how many pairs it calls equal."""
    rates: dict[str, dict[str, Any]] = {name: {kind: {"rates": []} for kind in sets} for name in GRADERS}
    for number in range(rounds):
        console.print(f"rates, round {number + 1} of {rounds} …", style="dim", highlight=False)
        for name in GRADERS:
            with Process(name) as process:
                for kind, pairs in sets.items():
                    results, seconds, _ = process.call(pairs, BATCH_LIMIT)
                    rates[name][kind]["rates"].append(len(pairs) / seconds)
                    rates[name][kind]["equal"] = sum(map(bool, results))
    return rates


def audit(name: str, path: Path) -> Golds:
    problems = load_benchmark(name, path=path)
    found = audit_golds(problems)
    following = [d for d in found if d.test == "next"]
    equal = [d for d in following if d.other is not None and peers_accept(d.other, d.gold)]
    not_accepted = [d for d in found if d.test != "next"]
    return Golds(name, len(problems), not_accepted, [d for d in following if d not in equal], equal)


def peers_accept(prediction: str, gold: str) -> bool:
    return hendrycks_normal(prediction) == hendrycks_normal(gold) or check_math_verify(prediction, gold)


def peers_better(scores: dict[str, Score]) -> dict[str, list[str]]:
    """The kinds of case on which some peer is right more often than we are, and who."""
    kinds = sorted(scores[OURS].cases)
    better = {kind: [n for n, s in scores.items() if s.right[kind] > scores[OURS].right[kind]] for kind in kinds}
    return {kind: names for kind, names in better.items() if names}


def median_rate(rates: dict[str, dict[str, Any]], name: str, kind: str) -> float:
    return float(median(rates[name][kind]["rates"]))


def times_math_verify(rates: dict[str, dict[str, Any]], kind: str) -> float:
    """The median of the rounds' ratios."""
    mine, theirs = (rates[name][kind]["rates"] for name in (OURS, "math-verify"))
    return float(median(a / b for a, b in zip(mine, theirs, strict=True)))


def case_bars(scores: dict[str, Score], extracted: dict[str, Score]) -> list[Bar]:
    mine = scores[OURS]
    return [
        at_least("agreement on the pairs", mine.agreement, AGREEMENT),
        at_least("agreement on the texts", extracted[OURS].agreement, AGREEMENT),
        at_most("false positives on the hostile part", mine.false_positives[HOSTILE], 0),
        at_most("kinds of case on which a peer is better", len(peers_better(scores)), 0),
        at_most("slowest single answer, s", mine.slowest[0], SLOWEST),
    ]


def rate_bars(rates: dict[str, dict[str, Any]]) -> list[Bar]:
    numbers = median_rate(rates, OURS, "numbers")
    return [
        at_least("plain numeric checks per second", numbers, NUMBERS_PER_SECOND),
        *(
            at_least(f"times math-verify's rate on golds, {kind}", times_math_verify(rates, kind), TIMES_MATH_VERIFY)
            for kind in LATEX_SETS
        ),
    ]


def gold_bars(audits: list[Golds]) -> list[Bar]:
    total = sum(golds.problems for golds in audits)
    not_accepted = sum(len(golds.not_accepted) for golds in audits)
    accepted_next = sum(len(golds.accepted_next) for golds in audits)
    return [
        at_most(f"of {total} golds, not accepted for themselves or their solution", not_accepted, 0),
        at_most(f"of {total} golds, accepted for a different next one", accepted_next, 0),
    ]


def show_scores(scores: dict[str, Score], title: str, console: Console) -> None:
    table = Table("percent right", "cases", *scores, title=title, title_justify="left")
    for kind, cases in sorted(scores[OURS].cases.items()):
        table.add_row(kind, str(cases), *(f"{100 * s.right[kind] / cases:.0f}" for s in scores.values()))
    table.add_section()
    table.add_row("all", str(scores[OURS].cases.total()), *(f"{100 * s.agreement:.1f}" for s in scores.values()))
    for what in ("false_positives", "false_negatives"):
        counts = (str(getattr(s, what).total()) for s in scores.values())
        table.add_row(what.replace("_", " "), "", *counts)
    for what in ("hangs", "ran_code"):
        table.add_row(what.replace("_", " "), "", *(str(len(getattr(s, what))) for s in scores.values()))
    table.add_row("slowest, s", "", *(f"{s.slowest[0]:.2f}" for s in scores.values()))
    console.print(table)


def show_rates(rates: dict[str, dict[str, Any]], sets: dict[str, list[list[str]]], console: Console) -> None:
    title = "checks per second, and how many of the pairs are called equal"
    table = Table("pairs", *GRADERS, "ours,\ntimes\nmath-verify", title=title, title_justify="left")
    for kind, pairs in sets.items():
        figures = (f"{median_rate(rates, name, kind):,.0f}\n{rates[name][kind]['equal']} equal" for name in GRADERS)
        table.add_row(f"{kind},\n{len(pairs)}", *figures, f"{times_math_verify(rates, kind):.1f}")
    console.print(table)


def show_golds(audits: list[Golds], console: Console) -> None:
    for golds in audits:
        wrong = len(golds.not_accepted), len(golds.accepted_next), len(golds.equal_next)
        console.print(
            f"golds of {golds.name}: {golds.problems}; not accepted for themselves or from their solution {wrong[0]}; "
            f"accepted for the next {wrong[1]}, and {wrong[2]} that a peer also finds equal",
            highlight=False,
            soft_wrap=True,
        )
        for found in (*golds.not_accepted, *golds.accepted_next, *golds.equal_next):
            console.print(f"  {found}", style="dim", highlight=False, markup=False, soft_wrap=True)


def summary(one: Score) -> dict[str, Any]:
    return {"agreement": one.agreement, **vars(one)}


def score_all(names: Any, cases: list[dict[str, Any]], extracting: bool, console: Console) -> dict[str, Score]:
    scores = {}
    for name in names:
        console.print(f"{len(cases)} {'texts' if extracting else 'pairs'}: {name} …", style="dim", highlight=False)
        with Process(name, extracting) as process:
            process.start()
            scores[name] = score(process, cases, extracting)
    return scores


def run_cases(shared: Path, values: dict[str, Any], console: Console) -> list[Bar]:
    pairs = read_cases(shared / "bench" / "checker_dev.jsonl", "prediction")
    texts = read_cases(shared / "bench" / "extract_dev.jsonl", "text")
    scores = score_all(GRADERS, pairs, False, console)
    extracted = score_all(EXTRACTORS, texts, True, console)
    show_scores(scores, "is the answer right", console)
    show_scores(extracted, "which answer does the text state", console)
    values["checking"] = {name: summary(one) for name, one in scores.items()}
    values["extraction"] = {name: summary(one) for name, one in extracted.items()}
    values["peers_better"] = peers_better(scores)
    return case_bars(scores, extracted)


def run_rates(shared: Path, rounds: int, values: dict[str, Any], console: Console) -> list[Bar]:
    sets = pair_sets(shared)
    rates = measure_rates(sets, rounds, console)
    show_rates(rates, sets, console)
    values["rates"] = rates
    return rate_bars(rates)


def run_golds(shared: Path, values: dict[str, Any], console: Console) -> list[Bar]:
    console.print("golds of MATH and GSM8K …", style="dim", highlight=False)
    audits = [audit(name, shared / "data" / f"{name}_test.jsonl") for name in ("math", "gsm8k")]
    show_golds(audits, console)
    values["golds"] = [asdict(golds) for golds in audits]
    return gold_bars(audits)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the checker and its peers, and hold it against its bars.")
    beside = Path(__file__).resolve().parents[2] / "shared"
    parser.add_argument("--shared", type=Path, default=beside, help="folder with bench/ and data/ (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often rates are measured")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    console = Console()
    values: dict[str, Any] = {"machine": describe_machine()}
    found: list[Bar] = []
    absent: dict[str, str] = {}
    console.print(values["machine"], highlight=False)
    for part, folders in (("cases", ["bench"]), ("rates", ["bench", "data"]), ("golds", ["data"])):
        missing = [str(args.shared / folder) for folder in folders if not (args.shared / folder).is_dir()]
        if missing:
            absent[part] = f"there is no folder {missing[0]}; give the folder that holds it with --shared"
        elif part == "cases":
            found += run_cases(args.shared, values, console)
        elif part == "rates":
            found += run_rates(args.shared, args.rounds, values, console)
        else:
            found += run_golds(args.shared, values, console)
    show_bars(found, absent, console)
    if args.json:
        values |= {"bars": [asdict(bar) for bar in found], "absent": absent}
        args.json.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    sys.exit(0 if found and all(bar.holds for bar in found) else 1)


if __name__ == "__main__":
    main()
