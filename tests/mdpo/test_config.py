from pathlib import Path

import pytest
import yaml

from mdpo.config import differences, dump_config, load_config
from mdpo.errors import ConfigError
from mdpo.recipes import find_recipe, recipes

RECIPE = """\
policy: {model: some/model}
problems: {benchmark: gsm8k, split: train}
rollout:
  samples: 4
train:
  args:
    learning_rate: 4e-7
eval:
  problems:
    - {benchmark: gsm8k, split: test}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def error(recipe: Path, *overrides: str, text: str | None = None) -> str:
    if text is not None:
        recipe.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_config(recipe, overrides)
    return str(raised.value)


def test_overrides_come_after_the_file_and_the_seed_after_both(recipe: Path) -> None:
    config = load_config(recipe, ["rollout.samples=8", "sft.count=5", "train.args.beta=0.2", "seed=1"], seed=2)
    assert (config.rollout.samples, config.seed) == (8, 2)
    assert config.sft is not None
    assert config.sft.count == 5
    assert config.train.args == {"learning_rate": 4e-7, "beta": 0.2}


@pytest.mark.parametrize("text", ["4e-7", "4E-7", "4.0e-7", "0.0000004"])
def test_a_learning_rate_is_a_number_however_it_is_written(recipe: Path, text: str) -> None:
    assert load_config(recipe, [f"train.args.learning_rate={text}"]).train.args["learning_rate"] == 4e-7


def test_an_unknown_key_names_its_line_and_the_nearest_valid_one(recipe: Path) -> None:
    message = error(recipe, text=RECIPE.replace("samples: 4", "smaples: 4"))
    assert message == f"{recipe}, line 4: unknown key `rollout.smaples`; did you mean `samples`?"


def test_an_unknown_key_inside_a_list_is_found_too(recipe: Path) -> None:
    message = error(recipe, text=RECIPE.replace("split: test}", "split: test, limt: 5}"))
    assert "line 10: unknown key `eval.problems.0.limt`; did you mean `limit`?" in message


def test_an_unknown_key_without_a_neighbour_lists_the_valid_ones(recipe: Path) -> None:
    assert "valid are policy, problems" in error(recipe, "zzz=1")


def test_an_unknown_key_of_an_override_is_told_apart(recipe: Path) -> None:
    assert error(recipe, "rollout.temprature=1").startswith(
        "the override 'rollout.temprature=1': unknown key `rollout.temprature`; did you mean `temperature`?"
    )


def test_a_wrong_type_names_the_key_and_what_is_expected(recipe: Path) -> None:
    assert "`rollout.samples`: input should be a valid integer" in error(recipe, "rollout.samples=four")
    assert "`rollout.samples`: input should be greater than or equal to 1" in error(recipe, "rollout.samples=0")
    assert "'user', 'tool', 'ipython' or 'inline'" in error(recipe, "policy.observation_role=robot")


def test_several_greedy_attempts_are_refused(recipe: Path) -> None:
    assert "`eval`: value error, greedy attempts are all the same" in error(recipe, "eval.samples=4")
    assert load_config(recipe, ["eval.samples=4", "eval.temperature=0.7"]).eval.samples == 4


def test_a_missing_key_is_named(recipe: Path) -> None:
    assert "`policy` is missing" in error(recipe, text=RECIPE.replace("policy: {model: some/model}", ""))


@pytest.mark.parametrize("override", ["nonsense", "policy.model.x=1", "rollout.samples=[1"])
def test_an_override_that_cannot_be_read_is_quoted(recipe: Path, override: str) -> None:
    assert repr(override) in error(recipe, override)


def test_a_file_that_is_missing_or_no_yaml_says_so(tmp_path: Path, recipe: Path) -> None:
    assert "mdpo configs" in error(tmp_path / "none.yaml")
    assert "no valid YAML" in error(recipe, text="a: [1")
    assert "expected sections" in error(recipe, text="just words")


def test_a_dumped_configuration_reads_back_as_the_same(recipe: Path, tmp_path: Path) -> None:
    config = load_config(recipe)
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config


def test_differences_name_the_keys() -> None:
    assert list(differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})) == ["a.c: 2, 3"]


@pytest.mark.parametrize(("name", "path"), [(name, path) for name, path, _ in recipes()])
def test_every_recipe_is_valid_and_opens_with_what_it_is(name: str, path: Path) -> None:
    load_config(path)
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert yaml.safe_load(path.read_text())


def test_a_recipe_is_found_by_its_name_and_by_its_path_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe("quickstart") == find_recipe("configs/quickstart.yaml")
    with pytest.raises(ConfigError, match=r"no recipe of that name.*quickstart"):
        find_recipe("quickstrat")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["engine.kind=server"], "`engine`: value error, the server engine needs `urls`"),
        (["engine.urls=[http://localhost:8000/v1]"], "`urls` are for kind: server"),
    ],
)
def test_servers_and_their_addresses_go_together(recipe: Path, overrides: list[str], message: str) -> None:
    assert message in error(recipe, *overrides)
    both = ["engine.kind=server", "engine.urls=[http://localhost:8000/v1]"]
    assert load_config(recipe, both).engine.urls == ["http://localhost:8000/v1"]


def test_filters_are_changed_by_name_or_named_all(recipe: Path) -> None:
    def on(override: str) -> list[str]:
        return [name for name, is_on in load_config(recipe, [override]).pairs.filters.items() if is_on]

    paper = ["too_long", "without_a_call", "right_after_a_failed_call", "repeated"]
    assert on("seed=0") == paper
    assert on("pairs.filters={void_turn: true, repeated: false}") == [*paper[:-1], "void_turn"]
    assert on("pairs.filters.void_turn=true") == [*paper[:-1], "void_turn", "repeated"]
    assert on("pairs.filters=[repeated]") == ["repeated"]
    assert on("pairs.filters=[]") == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pairs.filters=[void_trun]", "`pairs.filters`: value error, there is no filter `void_trun`; did you mean"),
        ("pairs.filters={void_turn: 1}", "`pairs.filters.void_turn`: input should be a valid boolean"),
        ("pairs.filters=void_turn", "`pairs.filters`: input should be a valid dictionary"),
        ("pairs.length_penalty=0.1", "`pairs`: value error, `length_penalty` ranks for strategy: best_worst"),
        ("pairs.pool={share: 1.0}", "`pairs.pool.share`: input should be less than 1"),
        ("pairs.pool={iterations: 2}", "the key `pairs.pool.share` is missing"),
        ("pairs.pool={share: 0.1, iteration: 2}", "unknown key `pairs.pool.iteration`; did you mean `iterations`?"),
        ("pairs.strategy=best", "`pairs.strategy`: input should be 'random', 'best_worst'"),
    ],
)
def test_settings_of_pairs_are_checked(recipe: Path, override: str, message: str) -> None:
    assert message in error(recipe, override)
