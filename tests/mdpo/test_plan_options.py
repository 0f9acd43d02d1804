"""The plan of a rollout from options and from a recipe."""

from dataclasses import replace

import pytest

from mdpo.config import RolloutConfig
from mdpo.errors import ConfigError
from mdpo.plan import Extra, Plan, Share
from mdpo.plan_options import read_plan
from mdpo.rollout import Sampling
from mdpo.stages import rollout_plan

SAMPLING = Sampling(temperature=0.9, seed=3)


def test_without_more_options_all_attempts_are_alike() -> None:
    assert read_plan(SAMPLING, 4, [], None) == Plan((Share(SAMPLING, 4),))


def test_shares_and_extra_attempts() -> None:
    shares = ["samples=10,policy=runs/a/policy", "samples=2,temperature=0.5,top_p=0.9"]
    assert read_plan(SAMPLING, 20, shares, "most=30,step=5,budget=2000") == Plan(
        (
            Share(SAMPLING, 20),
            Share(SAMPLING, 10, "runs/a/policy"),
            Share(replace(SAMPLING, temperature=0.5, top_p=0.9), 2),
        ),
        Extra(30, 5, 2000),
    )


@pytest.mark.parametrize(
    ("shares", "extra", "message"),
    [
        (["10"], None, r"cannot read the part '10' of --share '10'; write key=value"),
        (["policy=x"], None, r"--share 'policy=x': `samples`: field required; valid keys are samples, policy"),
        (["samples=0"], None, "`samples`: input should be greater than or equal to 1"),
        (["sample=2"], None, "`sample`: extra inputs are not permitted"),
        (["samples=2,temp=1"], None, "`temp`: .*valid keys are samples, policy, temperature, top_p"),
        ([], "step=2", "--extra 'step=2': `most`: field required; valid keys are most, step, budget"),
    ],
)
def test_an_option_that_cannot_be_read_names_the_key(shares: list[str], extra: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_plan(SAMPLING, 1, shares, extra)


def paper(previous: str | None) -> Plan:
    config = RolloutConfig.model_validate({"shares": [{"samples": 20}, {"samples": 10, "policy": "previous"}]})
    return rollout_plan(config, 7, previous)


def test_the_papers_mixture_of_the_current_and_the_previous_policy() -> None:
    assert [(share.samples, share.policy) for share in paper("before").shares] == [(20, None), (10, "before")]


def test_in_the_first_iteration_the_current_policy_takes_the_share_of_the_one_before() -> None:
    assert [(share.samples, share.policy) for share in paper(None).shares] == [(20, None), (10, None)]


def test_a_share_has_the_temperature_of_the_rollout_unless_it_names_its_own() -> None:
    config = RolloutConfig.model_validate(
        {"temperature": 0.8, "max_calls": 2, "shares": [{"samples": 1}, {"samples": 1, "temperature": 0.0}]}
    )
    plan = rollout_plan(config, 0)
    assert [share.sampling.temperature for share in plan.shares] == [0.8, 0.0]
    assert {share.sampling.max_calls for share in plan.shares} == {2}
