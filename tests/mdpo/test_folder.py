"""A run directory belongs to one configuration."""

from pathlib import Path

import pytest

from mdpo.config import Config
from mdpo.errors import ConfigError
from mdpo.folder import open_folder

RUN = {
    "policy": {"model": "org/model"},
    "problems": {"benchmark": "quickstart", "split": "train"},
    "eval": {"problems": [{"benchmark": "quickstart", "split": "test"}]},
}


def config(**sections: dict[str, object]) -> Config:
    return Config.model_validate(RUN | sections)


def test_another_configuration_is_refused_and_the_key_is_named(tmp_path: Path) -> None:
    with open_folder(tmp_path, config()):
        pass
    with pytest.raises(ConfigError, match=r"rollout\.horizon: 2, 6 there"), open_folder(
        tmp_path, config(rollout={"horizon": 2})
    ):  # fmt: skip
        pass


def test_a_run_goes_on_on_another_machine(tmp_path: Path) -> None:
    for url in ("http://one/v1", "http://two/v1"):
        with open_folder(tmp_path, config(engine={"kind": "server", "urls": [url], "max_rows": len(url)})):
            pass


def test_two_runs_in_one_directory_are_refused(tmp_path: Path) -> None:
    refused = pytest.raises(ConfigError, match="another mdpo works in")
    with open_folder(tmp_path, config()), refused, open_folder(tmp_path, config()):
        pass
