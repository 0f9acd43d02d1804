"""The commands as a user types them: help, errors of one sentence, and a small piece of work through each."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mdpo.quickstart.problems import generate_problems
from mdpo.trajectory import read_trajectories

SMALL = ["--max-action-tokens", "96", "--max-tokens", "448", "--horizon", "4", "--dtype", "float32"]
ENGINE = ["--engine", "transformers", "--threads", "1"]
POLICY = "package:mdpo/quickstart/checkpoint"


def environment() -> dict[str, str]:
    """As a user's, wide enough for a sentence, without a hub and without local data."""
    return {**os.environ, "COLUMNS": "200", "HF_HUB_OFFLINE": "1", "MDPO_DATA": ""}


def mdpo(*arguments: str | Path, cwd: Path, code: int = 0) -> str:
    """Run a command and return what it printed; both streams."""
    done = subprocess.run(
        [sys.executable, "-m", "mdpo.cli", *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    assert "Traceback" not in output
    return output


def test_help_names_every_command(tmp_path: Path) -> None:
    output = mdpo("--help", cwd=tmp_path)
    for name in ("run", "rollout", "pairs", "train", "eval", "report", "inspect", "configs", "doctor"):
        assert f" {name} " in output


def test_recipes_are_listed_outside_the_repository(tmp_path: Path) -> None:
    assert "quickstart" in mdpo("configs", cwd=tmp_path)


# Each: what is typed, the exit status, and what the error says.
ERRORS: list[tuple[list[str], int, str]] = [
    (["run", "quickstrat"], 2, "no recipe of that name"),
    (["run", "quickstart", "rollout.smaples=3"], 2, "did you mean `samples`?"),
    (["run", "quickstart", "--dir", "r", "sft.ready=nowhere/at/all"], 1, "no such folder"),
    (["inspect", "none.jsonl"], 1, "there is no trajectory file none.jsonl; make one with `mdpo rollout`"),
    (["pairs", "none.jsonl", "--out", "p.jsonl"], 1, "there is no trajectory file"),
    (["report", "."], 1, "is no run directory"),
    (["eval", "--model", POLICY, "--data", "none.jsonl", *ENGINE], 1, "there is no file"),
    (["eval", "--model", POLICY, "--benchmark", "gsm9k", *ENGINE], 1, "did you mean"),
    (["eval"], 2, "name it with --model"),
    (["eval", "--model", POLICY, "-n", "4", "--temperature", "0", *ENGINE], 2, "4 times the same"),
    (["eval", "compare", "none.jsonl", "none.json"], 1, "there is no trajectory file none.jsonl"),
    (["eval", "contamination", "none.jsonl"], 1, "there is no training file none.jsonl"),
    (["eval", "audit"], 2, "give one of them"),
    (["eval", "audit", "p.jsonl", "--golds", "gsm8k"], 2, "give one of them"),
    (["eval", "--model", "broken", "--benchmark", "quickstart", *ENGINE], 1, "broken"),
    (["train", "--model", POLICY, "--data", "none.jsonl", "--out", "o"], 1, "make one with `mdpo pairs"),
    (["train", "--model", POLICY, "--data", "p.jsonl", "--out", "o", "beta"], 2, "write name=value"),
]
# One interpreter for all of them: importing torch takes longer than every error together.
IN_TURN = """
import contextlib, io, json, sys
from mdpo.cli import main

for arguments in json.load(sys.stdin):
    sys.argv = ["mdpo", *arguments]
    shown, code = io.StringIO(), 0
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([code, shown.getvalue()]))
"""


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str]]:
    """Exit status and output of each command of `ERRORS`."""
    folder = tmp_path_factory.mktemp("errors")
    (folder / "broken").mkdir()
    (folder / "broken" / "config.json").write_text("{}")
    (folder / "p.jsonl").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN],
        cwd=folder,
        env=environment(),
        input=json.dumps([arguments for arguments, _, _ in ERRORS]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(ERRORS)), ids=[" ".join(arguments) for arguments, _, _ in ERRORS])
def test_an_error_is_one_sentence_that_says_what_to_do(failures: list[tuple[int, str]], number: int) -> None:
    _, code, says = ERRORS[number]
    status, output = failures[number]
    assert status == code, output
    assert says in output
    errors = [line for line in output.splitlines() if line.startswith("mdpo:")]
    assert len(errors) == 1


def test_without_vllm_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    pytest.importorskip("mdpo.engines.vllm")
    try:
        import vllm  # noqa: F401
    except ImportError:
        output = mdpo("eval", "--model", POLICY, "--benchmark", "quickstart", "--limit", "1", cwd=tmp_path, code=1)
        assert "pip install 'mdpo[vllm]'" in output
        return
    pytest.skip("vLLM is installed here")


def test_the_stages_work_one_by_one(tmp_path: Path) -> None:
    common = ["--model", POLICY, "--benchmark", "quickstart", *SMALL, *ENGINE]
    output = mdpo("rollout", *common, "--limit", 24, "--samples", 4, "--out", "t.jsonl", cwd=tmp_path)
    assert "96 trajectories in t.jsonl" in output
    assert len(list(read_trajectories(tmp_path / "t.jsonl"))) == 96

    output = mdpo("inspect", "t.jsonl", "--right", "--count", 2, "--mask", cwd=tmp_path)
    assert output.count("the ids decode to the texts") == 2
    assert "<|assistant|>" in output
    assert "1 ┃ " in output

    assert " pairs from 96 trajectories of 24 problems" in mdpo("pairs", "t.jsonl", "--out", "p.jsonl", cwd=tmp_path)
    output = mdpo(
        "train", "--model", POLICY, "--data", "p.jsonl", "--out", "trained", "--dtype", "float32", "--threads", 1,
        "learning_rate=1e-4", "per_device_train_batch_size=4", "gradient_accumulation_steps=1", cwd=tmp_path,
    )  # fmt: skip
    assert "action and" in output
    assert "the trained policy is trained/policy" in output

    evaluate = ["eval", "--model", "trained/policy", "--benchmark", "quickstart", "--limit", "16", *SMALL, *ENGINE]
    output = mdpo(*evaluate, cwd=tmp_path)
    assert "95 % interval" in output
    assert "of 16 problems" in output


def test_a_benchmark_file_is_evaluated_as_it_is(tmp_path: Path) -> None:
    easy = next(problem for problem in generate_problems("test", 8) if problem.subject == "multiples")
    row = {"problem": easy.question, "gold": int(easy.answer)}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row) + "\n")
    columns = ["--column", "question=problem", "--column", "answer=gold"]
    output = mdpo("eval", "--model", POLICY, "--benchmark", "mine.jsonl", *columns, *SMALL, *ENGINE, cwd=tmp_path)
    assert "mine: 100.0 % right" in output
    assert "1 of 1 problems" in output
    output = mdpo("eval", "audit", "--golds", "mine.jsonl", *columns, cwd=tmp_path)
    assert "0 to look at in 1 gold answers" in output


def actions(path: Path) -> dict[tuple[str, int], list[list[int]]]:
    return {t.key: [turn.action_ids for turn in t.turns] for t in read_trajectories(path)}


@pytest.mark.slow
def test_a_greedy_evaluation_is_repeatable_resumes_and_is_compared(tmp_path: Path) -> None:
    evaluate = ["eval", "--model", POLICY, "--benchmark", "quickstart", "--limit", "48", *SMALL, *ENGINE]
    first = mdpo(*evaluate, "--out", "a.jsonl", cwd=tmp_path)
    record = (tmp_path / "a.json").read_text()
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines(keepends=True)

    mdpo(*evaluate, "--out", "b.jsonl", cwd=tmp_path)
    assert actions(tmp_path / "b.jsonl") == actions(tmp_path / "a.jsonl")

    (tmp_path / "a.jsonl").write_bytes(b"".join(lines[:20]) + lines[20][:50])
    assert mdpo(*evaluate, "--out", "a.jsonl", cwd=tmp_path).splitlines()[-1] == first.splitlines()[-1]
    there, here = json.loads(record), json.loads((tmp_path / "a.json").read_text())
    for result in (there["result"], here["result"]):
        assert result["tool"].pop("seconds") > 0  # the only number that a clock decides
    assert here == there

    assert "p = 1 (McNemar, exact)" in mdpo("eval", "compare", "a.json", "b.jsonl", "--json", "c.json", cwd=tmp_path)
    assert json.loads((tmp_path / "c.json").read_text())["difference"]["problems"] == 48
    assert "sampling.horizon" in mdpo(*evaluate, "--horizon", "2", "--out", "a.jsonl", cwd=tmp_path, code=2)
    assert " answers of a.jsonl" in mdpo("eval", "audit", "a.jsonl", cwd=tmp_path)


@pytest.mark.slow
def test_samples_give_pass_at_k_and_no_tool_runs_nothing(tmp_path: Path) -> None:
    evaluate = ["eval", "--model", POLICY, "--benchmark", "quickstart", "--limit", "8", *SMALL, *ENGINE]
    output = mdpo(*evaluate, "-n", "4", cwd=tmp_path)
    assert "pass@k" in output
    assert "of 32 attempts at 8 problems" in output
    output = mdpo(*evaluate, "--no-tool", cwd=tmp_path)
    assert "without the tool: one action, no program was run" in output
    files = sorted((tmp_path / "runs" / "eval").glob("*no-tool*.jsonl"))
    assert all(len(t.turns) == 1 and t.calls == 0 for t in read_trajectories(files[0]))


def test_contamination_is_found_and_told_by_the_exit_status(tmp_path: Path) -> None:
    test = {"question": "How many  apples?", "answer": "3"}
    (tmp_path / "test.jsonl").write_text(json.dumps(test) + "\n")
    for text, code, says in (("How many pears?", 0, "none of 1 test problems"), ("how many APPLES", 1, "1 of 1 test")):
        (tmp_path / "train.jsonl").write_text(json.dumps({"messages": [{"content": text}]}) + "\n")
        output = mdpo(
            "eval", "contamination", "train.jsonl", "--benchmark", "test.jsonl", "--json", "c.json",
            cwd=tmp_path, code=code,
        )  # fmt: skip
        assert says in output
        assert len(json.loads((tmp_path / "c.json").read_text())) == code


def test_the_doctor_tries_the_sandbox_and_the_checker(tmp_path: Path) -> None:
    output = mdpo("doctor", cwd=tmp_path)
    assert "LaTeX answers are parsed and compared" in output
    assert "each protection was tried" in output
    # Square brackets are the terminal library's markup, and part of what is to be typed.
    if importlib.util.find_spec("deepspeed") is None:
        assert "pip install 'mdpo[deepspeed]'" in output
