"""`mdpo pairs`: choose pairs of a right and a wrong trajectory of the same problem."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from mdpo.config import PairsConfig, PoolConfig, UncertaintyConfig
from mdpo.display import Display, Task
from mdpo.errors import ConfigError
from mdpo.filters import switches
from mdpo.options import spread
from mdpo.pairing import Origin, choose_pairs
from mdpo.preference import write_pairs
from mdpo.uncertain import Uncertain

_CONVERTED = Path("runs") / "converted"  # checkpoints made from GGUF files


@dataclass(frozen=True, slots=True)
class Choice:
    """Which pairs."""

    strategy: Annotated[
        Literal["random", "best_worst", "shortest_correct", "uncertain"],
        typer.Option(help="Which right and which wrong trajectory of a problem; uncertain needs --model."),
    ] = "random"
    ties: Annotated[
        Literal["length", "logprob"],
        typer.Option(help="Among equal rewards: shorter is better, or likelier a token is better (best_worst)."),
    ] = "length"
    length_penalty: Annotated[
        float, typer.Option(min=0, help="Taken off the reward for each sampled token (best_worst).")
    ] = 0.0
    per_problem: Annotated[int, typer.Option(min=1, help="Largest number of pairs of one problem.")] = 1
    filter: Annotated[
        list[str] | None,
        typer.Option(help="Switch a filter on, e.g. void_turn; repeat it for others. docs/preferences.md lists them."),
    ] = None
    no_filter: Annotated[
        list[str] | None, typer.Option(help="Switch a filter off, e.g. repeated; repeat it for others.")
    ] = None
    pool: Annotated[
        list[Path] | None,
        typer.Option(help="An earlier trajectory file, the latest first; repeat it for others. Needs --pool-share."),
    ] = None
    pool_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of all pairs that is of the earlier files.", show_default=False),
    ] = None

    def config(self, uncertainty: UncertaintyConfig) -> PairsConfig:
        """The options as a section of the configuration.

        Raises:
            ConfigError: There is no filter of a name, or two options do not go together.
        """
        if bool(self.pool) != (self.pool_share is not None):
            raise ConfigError("--pool and --pool-share go together, as in --pool earlier.jsonl --pool-share 0.3")
        named = {**dict.fromkeys(self.filter or (), True), **dict.fromkeys(self.no_filter or (), False)}
        try:
            pool = None if not self.pool else PoolConfig(share=self.pool_share or 0.0, iterations=len(self.pool))
            return PairsConfig(
                strategy=self.strategy,
                ties=self.ties,
                length_penalty=self.length_penalty,
                per_problem=self.per_problem,
                filters=switches(named),
                pool=pool,
                uncertainty=uncertainty,
            )
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"{key}{': ' if key else ''}{first['msg']}") from error
        except ValueError as error:
            raise ConfigError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Compared:
    """How uncertain a pair is (uncertain)."""

    model: Annotated[
        str | None, typer.Option(help="The policy whose hidden states are compared.", show_default=False)
    ] = None
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="The type of its weights.")] = (
        "bfloat16"
    )
    covariance: Annotated[
        Path | None,
        typer.Option(
            help="The covariance file of the round before, made with the same model; default: there was none.",
            show_default=False,
        ),
    ] = None
    ridge: Annotated[float, typer.Option(help="λ of Σ = λI + Σᵢ uᵢuᵢᵀ; of the first round only.")] = 1.0
    dimension: Annotated[
        int, typer.Option(min=1, help="A larger hidden state is projected down to so many features.")
    ] = 256
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens of one forward pass, padding included.")] = 8192
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch.")] = None

    def strategy(self, model: str, config: UncertaintyConfig, task: Task) -> Uncertain:
        """The strategy `uncertain` with the features of a model."""
        import torch

        from mdpo.adapter import is_adapter
        from mdpo.checkpoint import resolve_checkpoint
        from mdpo.stages import uncertain_strategy

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        policy = model if is_adapter(model) else resolve_checkpoint(model, _CONVERTED)
        return uncertain_strategy(policy, self.dtype, config, self.covariance, task)

    def config(self) -> UncertaintyConfig:
        """The options as a section of the configuration. Raises ConfigError if λ is not positive."""
        if self.ridge <= 0:
            raise ConfigError(f"--ridge is λ and must be positive, not {self.ridge:g}")
        return UncertaintyConfig(ridge=self.ridge, dimension=self.dimension, batch_tokens=self.batch_tokens)


@spread()
def pairs(
    trajectories: Annotated[Path, typer.Argument(help="A trajectory file.")],
    out: Annotated[Path, typer.Option(help="The preference file to write.")],
    choice: Choice,
    compared: Compared,
    max_length: Annotated[int, typer.Option(min=1, help="Drop longer trajectories, in tokens.")] = 2048,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
) -> None:
    """Choose pairs of a right and a wrong trajectory of the same problem.

    The strategy uncertain writes OUT.covariance.npz beside the pairs, for the next round's --covariance.
    """
    if (choice.strategy == "uncertain") != (compared.model is not None):
        raise ConfigError("--strategy uncertain and --model go together: it compares that policy's hidden states")
    config, display = choice.config(compared.config()), Display()
    earlier = [Origin(str(path), path) for path in choice.pool or ()]
    with display.task(f"Choosing pairs from {trajectories}") as task:
        uncertain = None if compared.model is None else compared.strategy(compared.model, config.uncertainty, task)
        chosen = choose_pairs(config, Origin(str(trajectories), trajectories), earlier, max_length, seed, uncertain)
        if uncertain is not None and uncertain.exploration is not None:
            uncertain.exploration.save(out.with_suffix(".covariance.npz"))
        write_pairs(out, chosen.pairs)
    display.console.print(chosen.table())
    display.say(f"{chosen} in {out}")
