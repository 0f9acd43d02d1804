"""Recipes that stand on other recipes."""

from pathlib import Path

import pytest

from mdpo.errors import ConfigError
from mdpo.recipe_file import read_recipe

BASE = """\
policy: {model: some/model, dtype: float32}
train:
  method: mdpo
  args: {beta: 0.1, learning_rate: 4e-7}
eval:
  problems:
    - {benchmark: gsm8k, split: test}
    - {benchmark: math, split: test}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "paper.yaml").write_text(BASE)
    return tmp_path


def recipe(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        read_recipe(path)
    return str(raised.value)


def test_sections_are_merged_lists_replaced_and_null_takes_away(folder: Path) -> None:
    over = "base: base/paper.yaml\ntrain: {method: raft, args: {beta: null, warmup_steps: 5}}\neval: {problems: [1]}\n"
    assert read_recipe(recipe(folder, over)).values == {
        "policy": {"model": "some/model", "dtype": "float32"},
        "train": {"method": "raft", "args": {"learning_rate": 4e-7, "warmup_steps": 5}},
        "eval": {"problems": [1]},
    }


def test_a_base_may_have_a_base_and_overrides_come_last(folder: Path) -> None:
    recipe(folder, "base: base/paper.yaml\npolicy: {dtype: bfloat16}\nseed: 1\n", "middle.yaml")
    values = read_recipe(recipe(folder, "base: middle.yaml\nseed: 2\n"), ["policy.model=other"]).values
    assert values["policy"] == {"model": "other", "dtype": "bfloat16"}
    assert values["seed"] == 2


def test_each_key_is_known_by_the_file_and_line_that_decided_it(folder: Path) -> None:
    path = recipe(folder, "base: base/paper.yaml\n\npolicy:\n  dtype: bfloat16\neval: {problems: [1]}\n")
    places = read_recipe(path).places
    assert places[("policy", "dtype")] == f"{path}, line 4"
    assert places[("policy", "model")] == f"{folder / 'base' / 'paper.yaml'}, line 1"
    # Nothing of a list that was replaced.
    assert places[("eval", "problems")] == f"{path}, line 5"
    assert ("eval", "problems", "1", "split") not in places


def test_bases_that_go_round_in_a_circle_are_refused(folder: Path) -> None:
    recipe(folder, f"seed: 1\nbase: ../{folder.name}/mine.yaml\n", "other.yaml")
    message = refused(recipe(folder, "base: other.yaml\n"))
    assert message.startswith(f"{folder / 'other.yaml'}, line 2: the bases go round in a circle")
    assert "go round in a circle" in refused(recipe(folder, "base: self.yaml\n", "self.yaml"))


def test_a_base_that_is_missing_or_no_name_is_refused_with_its_line(folder: Path) -> None:
    assert "line 2: `base` names" in refused(recipe(folder, "seed: 1\nbase: none.yaml\n"))
    assert "line 1: `base` is the name of one recipe" in refused(recipe(folder, "base: [a, b]\n"))


def test_a_recipe_anywhere_may_stand_on_one_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: base/paper.yaml\npolicy: {model: org/mine}\n")
    recipe = read_recipe(tmp_path / "mine.yaml")
    assert recipe.values["policy"]["model"] == "org/mine"
    assert recipe.values["train"]["args"]["beta"] == 0.1
