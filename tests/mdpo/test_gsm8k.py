"""GSM8K solutions become programs that Python runs, and demonstrations only where the run gives the gold answer."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import Problem, extract_answer
from mdpo.demonstration import Demonstration, read_demonstrations, write_demonstrations
from mdpo.errors import DataError
from mdpo.gsm8k import demonstrations, program
from sandbox import ExecutionResult, Limits, Sandbox

SHARED = Path(os.environ.get("MDPO_SHARED", Path(__file__).resolve().parents[2] / "../shared"))
GSM8K = SHARED / "data/gsm8k_train.jsonl"


def problem(solution: str | None, question: str = "How many?", answer: str = "0", id: str = "p") -> Problem:
    return Problem(id=id, question=question, answer=answer, source="gsm8k", solution=solution)


def code(solution: str, question: str = "How many?") -> list[str]:
    made = program(problem(solution, question))
    assert made is not None
    return made.code.splitlines()


Run = Callable[[str], ExecutionResult]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with Sandbox(Limits(seconds=5)) as sandbox, sandbox.session() as session:
        yield session.run_sync


NATALIA = problem(
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n"
    "Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.\n#### 72",
    "Natalia sold clips to 48 of her friends in April, and half as many in May. How many clips did she sell?",
    "72",
)


def test_every_annotation_becomes_an_assignment_under_its_sentence() -> None:
    assert code(NATALIA.solution or "", NATALIA.question) == [
        "# Natalia sold 48/2 = clips in May.",
        "clips = 48 / 2",
        "# Natalia sold 48+clips = clips_altogether in April and May.",
        "clips_altogether = 48 + clips",
        "print(round(clips_altogether))",
    ]


def test_an_equation_without_annotation_is_a_step_too() -> None:
    assert code("He is 2*6 = <<2*6=12>>12.\nThen he will be 12 + 10 = 22 years old.")[3] == "years_old = step_1 + 10"


@pytest.mark.parametrize(
    ("solution", "source"),
    [
        ("<<$1,500*2=3000>>3,000", "1500 * 2"),
        ("<<20%*50=10>>10", "20 / 100 * 50"),
        ("<<5.00*2=10>>10", "5 * 2"),
        ("<<7 % 4=3>>3", "7 % 4"),
        ("<<2**3=8>>8", "2 ** 3"),
        ("<<(1+2)*3=9>>9", "(1 + 2) * 3"),
        ("<<-5+8=3>>3", "-5 + 8"),
        ("3 x 4 = 12", "3 * 4"),
        ("10/3 = <<10/3=3.33>>3.33", "10 / 3"),
    ],
)
def test_usual_dresses_of_arithmetic_are_taken_off(solution: str, source: str) -> None:
    assert f"step_1 = {source}" in code(solution)


@pytest.mark.parametrize(
    "solution",
    [
        None,
        "Let x be her age. x + 3 = 7, so x = 4.",
        "<<21=21>>21",
        "<<2*3=7>>7",
        "<<1/0=0>>0",
        "<<9**9**9=0>>0",
        "<<__import__('os').getpid()=1>>1",
        "<<(((((2=2>>2",
    ],
)
def test_what_is_no_true_calculation_gives_no_program(solution: str | None) -> None:
    assert program(problem(solution)) is None


def test_a_result_that_was_used_gives_way_to_the_same_number_in_the_question() -> None:
    solution = "<<2*5=10>>10\n<<10+1=11>>11\n<<11+10=21>>21"
    assert code(solution, "How many?")[5] == "step_3 = step_2 + step_1"
    assert code(solution, "10 of them?")[5] == "step_3 = step_2 + 10"


def test_a_number_that_may_be_a_result_or_the_question_s_drops_the_solution() -> None:
    solution = "<<2*5=10>>10\n<<3*4=12>>12\n<<12+10=22>>22"
    assert program(problem(solution, "How many?")) is not None
    assert program(problem(solution, "Ten of them?")) is None


def test_equal_results_are_told_apart_by_their_use() -> None:
    assert code("<<1+5=6>>6\n<<2*3=6>>6\n<<6+6=12>>12")[5] == "step_3 = step_1 + step_2"


def test_the_hundred_of_a_percentage_stays_a_number() -> None:
    assert code("<<50*2=100>>100\n<<100*30/100=30>>30")[3] == "step_2 = step_1 * 30 / 100"


def test_a_number_worked_out_in_the_head_drops_the_solution() -> None:
    assert program(problem("2 boxes * 7 pens = 14 pens\nThat is 14 + 5 = <<14+5=19>>19 pens.")) is None


def test_only_what_python_makes_a_float_is_rounded_and_only_if_it_is_whole() -> None:
    assert code("<<2*3=6>>6")[-1] == "print(step_1)"
    assert code("<<6/2=3>>3")[-1] == "print(round(step_1))"
    assert code("<<7/2=3.5>>3.5")[-1] == "print(step_1)"


def test_words_of_python_are_no_names() -> None:
    assert code("<<1+1=2>>2 sum\n<<2+2=4>>4 for all")[1::2] == ["step_1 = 1 + 1", "step_2 = step_1 + step_1"]


def test_a_demonstration_has_a_program_its_real_output_and_a_boxed_answer(run: Run) -> None:
    (demonstration,) = demonstrations([NATALIA], run, seed=0)
    assert "```python\n" in demonstration.actions[0]
    assert demonstration.observations == ("72",)
    assert extract_answer(demonstration.actions[1]) == "72"


@pytest.mark.parametrize(
    "broken",
    [
        lambda text: ExecutionResult("timeout", "72\n", "too slow", 1.0, False),
        lambda text: ExecutionResult("ok", "71\n", None, 0.0, False),
    ],
)
def test_a_run_that_fails_or_prints_another_answer_is_dropped(broken: Run) -> None:
    assert list(demonstrations([NATALIA], broken, seed=0)) == []


def test_the_sentences_of_a_problem_depend_on_the_seed_and_not_on_other_problems(run: Run) -> None:
    others = [problem(NATALIA.solution, NATALIA.question, "72", id=str(number)) for number in range(8)]
    together = list(demonstrations(others, run, seed=1))
    assert together[-1:] == list(demonstrations(others[-1:], run, seed=1))
    assert len({demonstration.actions for demonstration in together}) > 1


@given(st.lists(st.tuples(st.sampled_from("+-*"), st.integers(1, 999)), min_size=1, max_size=5), st.integers(1, 999))
def test_a_chain_of_whole_steps_prints_its_last_result(run: Run, steps: list[tuple[str, int]], start: int) -> None:
    lines, value = [], start
    for sign, number in steps:
        result = {"+": value + number, "-": value - number, "*": value * number}[sign]
        lines.append(f"<<{value}{sign}{number}={result}>>{result}")
        value = result
    if value < 0 or any("=-" in line for line in lines):
        return  # GSM8K's results are not negative
    made = program(problem("\n".join(lines)))
    assert made is not None
    assert run(made.code).output == f"{value}\n"


@pytest.mark.skipif(not GSM8K.is_file(), reason="the GSM8K training set is not beside the repository (MDPO_SHARED)")
def test_most_real_solutions_reproduce_their_gold_answer(run: Run) -> None:
    rows = [json.loads(line) for line in GSM8K.read_text(encoding="utf-8").splitlines()[:1000]]
    problems = [problem(row["solution"], row["question"], row["answer"], row["id"]) for row in rows]
    assert len(list(demonstrations(problems, run, seed=0))) >= 0.85 * len(problems)


def test_a_demonstration_needs_one_observation_between_each_two_actions() -> None:
    with pytest.raises(ValueError, match="2 actions need one observation less"):
        Demonstration("p", "q", "1", "s", ("a", "b"), ())


def test_demonstrations_come_back_from_their_file(tmp_path: Path) -> None:
    written = [Demonstration("p", "½ of 2?", "1", "s", ("```python\nprint(1)\n```", "$\\boxed{1}$"), ("1",))]
    write_demonstrations(tmp_path / "d.jsonl", written)
    assert list(read_demonstrations(tmp_path / "d.jsonl")) == written


@pytest.mark.parametrize("line", ["{", "[]", '{"problem_id": "p"}'])
def test_a_line_that_is_no_demonstration_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "d.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=r"d\.jsonl, line 1"):
        list(read_demonstrations(tmp_path / "d.jsonl"))


def test_a_missing_file_of_demonstrations_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file of demonstrations .*d\.jsonl"):
        list(read_demonstrations(tmp_path / "d.jsonl"))
