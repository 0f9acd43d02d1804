"""The whole configuration as typed models: one YAML file per recipe, overrides after it, errors that name the key.

mdpo run configs/quickstart.yaml iterations=1 rollout.temperature=0.8 train.args.beta=0.05
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mdpo.errors import ConfigError
from mdpo.filters import switches

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]
# Names alone, or some names with on or off, become the whole table: a run's config.yaml shows every filter.
Switches = Annotated[
    dict[str, bool],
    BeforeValidator(lambda value: switches(map(str, value)) if isinstance(value, list) else value),
    AfterValidator(switches),
]
Keys = tuple[str, ...]


class Section(BaseModel):
    """A part of the configuration; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PolicyConfig(Section):
    """The policy before any training, and how it is talked to."""

    model: str
    """A folder, a hub id, a GGUF file, `package:NAME/PATH` for something inside an installed package, or `quickstart`
    for the quickstart's tiny Llama with random weights."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """The type of the weights, in training and in generation."""
    observation_role: Literal["user", "tool", "ipython", "inline"] = "user"
    """How observations are shown: in a message of `user` (the paper), of `tool` or of `ipython`, or `inline`, within
    the policy's own turn (ToRA, DeepSeek-Math)."""
    system: str | None = None
    """A system prompt."""
    examples: str | None = None
    """A JSONL file of demonstrations that are put in front of every question, as earlier turns."""
    history: Literal["append", "refuse"] = "append"
    """A chat template that rewrites earlier turns, for example drops their thinking: `append` goes on behind what was
    sampled, `refuse` makes it an error."""
    template_args: dict[str, Any] = {}
    """Passed to the chat template, for example `{enable_thinking: false}`."""


class ProblemsConfig(Section):
    """Where problems come from."""

    benchmark: str
    """`gsm8k`, `math`, `math500`, `gsm_hard`, `svamp`, `asdiv`, `quickstart`, or a JSONL file."""
    split: Literal["train", "test"]
    """Which part of the benchmark."""
    file: str | None = None
    """A local JSONL file to read instead of the hub's copy."""
    columns: dict[str, str] = {}
    """The file's names for `question`, `answer`, `id`, `source`, `subject`, `level`, `solution`, where they differ."""
    limit: Count | None = None
    """Take this many, chosen by the seed; default: all (the quickstart: 1,000)."""


class AdapterConfig(Section):
    """LoRA: small matrices are trained beside frozen weights, and merged into them at the end."""

    r: Count = 16
    """Rank."""
    alpha: float = Field(default=32.0, gt=0)
    """The adapters' output is scaled by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """On their input."""
    target_modules: Literal["all-linear"] | list[str] = "all-linear"
    """The linear layers that have one, by the last part of their name; `all-linear` is all but the output matrix."""
    quantize: bool = False
    """Keep the frozen weights in 4 bits: QLoRA, on a CUDA GPU with bitsandbytes."""


class SFTConfig(Section):
    """Supervised fine-tuning before the first iteration."""

    ready: str | None = None
    """A policy that is already fine-tuned (named like `policy.model`): it is taken as it is and nothing is trained."""
    demonstrations: str = "quickstart"
    """`quickstart`, `gsm8k` (made from its training solutions), or a JSONL file of demonstrations."""
    count: Count = 1000
    """How many demonstrations."""
    max_length: Count = 2048
    """Longer demonstrations are dropped, in tokens."""
    micro_batch_tokens: Count | None = None
    """Tokens that one backward pass covers; see `train.micro_batch_tokens`."""
    adapter: AdapterConfig | None = None
    """Train adapters (LoRA) instead of all weights."""
    args: dict[str, Any] = {}
    """Arguments of TRL's `SFTConfig`."""


class EngineConfig(Section):
    """Who samples the actions."""

    kind: Literal["transformers", "vllm", "server"] = "vllm"
    """`vllm`, `server` for servers that are running already, or `transformers` for tiny models and machines without
    vLLM."""
    urls: list[str] = []
    """The servers' addresses, such as `http://localhost:8000/v1` (server)."""
    max_rows: Count = 256
    """Largest number of requests sampled together, at each server."""
    tensor_parallel_size: Count = 1
    """GPUs that share one copy of the model (vLLM)."""
    data_parallel_size: Count = 1
    """Copies of the model, each on its own GPUs (vLLM)."""
    max_lora_rank: Count | None = None
    """Largest rank of a LoRA adapter that is loaded into the running engine; default: none can be (vLLM)."""
    memory_share: float = Field(default=0.9, gt=0, le=1)
    """Share of a GPU's memory that the engine takes (vLLM)."""
    keep: bool = False
    """Keep the engine running while a policy is trained, and load the next weights into it: no start at each iteration,
    and memory for both at once."""
    threads: Count | None = None
    """CPU threads of torch, in training too; one is fastest for a tiny policy."""

    @model_validator(mode="after")
    def _servers_have_addresses(self) -> Self:
        if self.kind == "server" and not self.urls:
            raise ValueError("the server engine needs `urls`, such as urls: [http://localhost:8000/v1]")
        if self.kind != "server" and self.urls:
            raise ValueError(f"`urls` are for kind: server, and the kind is {self.kind}")
        return self


class SandboxConfig(Section):
    """Limits of the Python interpreter."""

    seconds: float = Field(default=5.0, gt=0)
    """Wall-clock time of one program."""
    memory_mb: Count = 512
    """Memory of one session."""
    output_chars: Count = 2000
    """Longer output is cut in the middle."""


class ShareConfig(Section):
    """Some of the attempts at each problem."""

    samples: Count
    """How many."""
    policy: Literal["current", "previous"] = "current"
    """Who makes them: the policy of this iteration, or of the one before (the first iteration has only its own)."""
    temperature: float | None = Field(default=None, ge=0)
    """Default: `rollout.temperature`."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Default: `rollout.top_p`."""


class ExtraConfig(Section):
    """More attempts at the problems that have no right or no wrong one yet."""

    most: Count
    """Largest number of extra attempts at one problem."""
    step: Count = 4
    """How many are added at a time."""
    budget: Count | None = None
    """Largest number of extra attempts in an iteration."""


class RolloutConfig(Section):
    """How trajectories are sampled for training."""

    problems: Count = 1000
    """Problems of each iteration; every iteration takes the next ones, and starts again when all were used."""
    samples: Count = 30
    """Attempts at each problem, all alike; or give `shares`."""
    shares: list[ShareConfig] | None = Field(default=None, min_length=1)
    """Attempts at each problem by several policies or temperatures. The paper: 20 current, 10 previous."""
    extra: ExtraConfig | None = None
    """More attempts where they are needed."""
    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus mass."""
    horizon: Count = 6
    """H, the largest number of actions."""
    max_calls: Count | None = None
    """Largest number of programs that are run; default: only the horizon bounds it."""
    box_with_code: Literal["final", "run", "answer"] = "final"
    """An action with a program and a boxed answer: `final`, a box after the program is the answer and any other waits
    for the output; `run`, the program is always run; `answer`, a box outside the program is the answer."""
    max_action_tokens: Count = 512
    """Largest action, in tokens."""
    max_tokens: Count = 2048
    """Largest trajectory, the prompt included, in tokens."""
    concurrency: Count | None = None
    """Largest number of attempts in flight; default: half as many again as `engine.max_rows`, so that the engine stays
    full while programs run."""

    @model_validator(mode="after")
    def _some_are_current(self) -> Self:
        if self.shares is not None and all(share.policy == "previous" for share in self.shares):
            raise ValueError("at least one of `shares` must be of the current policy")
        return self


class PoolConfig(Section):
    """Pairs from the trajectories of earlier iterations, beside those of this one."""

    share: float = Field(gt=0, lt=1)
    """Their share of all pairs."""
    iterations: Count = 1
    """How many iterations back."""


class UncertaintyConfig(Section):
    """How the uncertainty Γ of a pair is measured, for the strategy `uncertain`."""

    ridge: float = Field(default=1.0, gt=0)
    """λ of Σ = λI + Σᵢ uᵢuᵢᵀ: the larger, the more pairs it takes before a direction counts as known."""
    dimension: Count | None = 256
    """A larger hidden state is projected down to so many features; null: never."""
    batch_tokens: Count = 8192
    """Tokens, padding included, of one forward pass."""


class PairsConfig(Section):
    """How trajectories become pairs."""

    strategy: Literal["random", "best_worst", "shortest_correct", "uncertain"] = "random"
    """Which right and which wrong trajectory: `random` (the paper), `best_worst` by reward, `shortest_correct`, or
    `uncertain`, of the largest Γ."""
    ties: Literal["length", "logprob"] = "length"
    """Among equal rewards (`best_worst`): by `length`, shorter is better; by `logprob`, likelier a token is better."""
    length_penalty: float = Field(default=0.0, ge=0)
    """Taken off the reward for each sampled token (`best_worst`)."""
    per_problem: Count = 1
    """Largest number of pairs of one problem; no trajectory is in two."""
    filters: Switches = Field(default_factory=switches)
    """Which trajectories are left out. `{void_turn: true}` changes one of the defaults, `[void_turn]` is that one and
    none of the others; docs/preferences.md explains each."""
    pool: PoolConfig | None = None
    """Pairs of earlier iterations; default: none."""
    uncertainty: UncertaintyConfig = UncertaintyConfig()

    @model_validator(mode="after")
    def _penalty_is_used(self) -> Self:
        if self.length_penalty and self.strategy != "best_worst":
            raise ValueError(f"`length_penalty` ranks for strategy: best_worst, and the strategy is {self.strategy}")
        return self


class TrainConfig(Section):
    """Preference training of each iteration."""

    method: Literal["mdpo", "mkto", "dpo", "kto", "raft"] = "mdpo"
    """The loss: `mdpo` and `mkto` sum over the policy's own tokens; `dpo` and `kto` are the single-turn baselines, with
    observations in the sums; `raft` fine-tunes on right trajectories."""
    reference: Literal["previous", "initial"] = "previous"
    """π_ref: the policy that the iteration started from, or always the one after SFT."""
    max_length: Count = 2048
    """Pairs with a longer side are dropped, in tokens."""
    nll: float = Field(default=0.0, ge=0)
    """Coefficient of the mean cross entropy of the chosen actions (`mdpo`, `dpo`). It helps an underfitted start, and
    hurt in the paper otherwise."""
    turn_weights: Literal["dmpo", "dmpo_discounted"] | None = None
    """Weights of the turns from DMPO: φ(t, T), or γ^t φ(t, T) as in its authors' code; default: all count alike."""
    gamma: float = Field(default=0.7, ge=0, le=1)
    """γ of these weights."""
    micro_batch_tokens: Count | None = None
    """Tokens that one backward pass covers, a matter of memory only; default: as many as
    `args.per_device_train_batch_size` of the longest examples have."""
    adapter: AdapterConfig | None = None
    """Train adapters (LoRA) instead of all weights."""
    args: dict[str, Any] = {}
    """Arguments of TRL's `DPOConfig`, `KTOConfig` or `SFTConfig` (`raft`); η is `beta`. A step has
    `per_device_train_batch_size` × `gradient_accumulation_steps` × processes examples."""

    @model_validator(mode="after")
    def _nll_has_a_chosen_side(self) -> Self:
        if self.nll and self.method not in ("mdpo", "dpo"):
            raise ValueError(f"`nll` belongs to mdpo and dpo; {self.method} has no such term, so set it to 0")
        return self


class EvalConfig(Section):
    """Evaluation after SFT and after each iteration, within the limits of `rollout`."""

    problems: list[ProblemsConfig] = Field(min_length=1)
    """The benchmarks."""
    samples: Count = 1
    """Attempts at each problem; several give pass@k and maj@k and need a temperature."""
    temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature; 0 is greedy decoding."""
    tool: bool = True
    """Whether programs are run; without the tool an attempt is one action (chain of thought)."""

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("greedy attempts are all the same; set a temperature (the paper: 0.7), or samples to 1")
        return self


class Config(Section):
    """A whole experiment."""

    policy: PolicyConfig
    problems: ProblemsConfig
    """The problems to learn from."""
    sft: SFTConfig | None = None
    """Left out: the policy is taken as it is."""
    engine: EngineConfig = EngineConfig()
    sandbox: SandboxConfig = SandboxConfig()
    rollout: RolloutConfig = RolloutConfig()
    pairs: PairsConfig = PairsConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig
    iterations: Amount = 3
    """Online iterations after SFT."""
    seed: Amount = 0
    """Of everything that is random."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but `4e-7` is a number, as everywhere else, and not a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        yaml.YAMLError: It is no YAML.
    """
    return yaml.load(text, _Loader)


def load_config(path: Path, overrides: Sequence[str] = (), seed: int | None = None) -> Config:
    """Read a recipe, apply overrides, and validate the whole.

    Args:
        path: A YAML file.
        overrides: `section.key=value`; the value is YAML.
        seed: Replaces the recipe's seed.

    Raises:
        ConfigError: The file is missing or no YAML; a key is unknown; a value does not fit. The message names the key,
            the nearest valid one, and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"there is no configuration {path}; `mdpo configs` lists the recipes") from error
    try:
        node = yaml.compose(text)
        values = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is no configuration: expected sections such as `policy:`")
    places = {keys: f"{path}, line {line}" for keys, line in _lines(node)}
    for override in overrides:
        _override(values, places, override)
    if seed is not None:
        values["seed"] = seed
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, places, path)) from error


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys in which two configurations differ, as `section.key: here, there`."""
    for key in {**one, **other}:
        left, right = one.get(key), other.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            yield from differences(left, right, f"{prefix}{key}.")
        elif left != right:
            yield f"{prefix}{key}: {left!r}, {right!r}"


def _override(values: dict[str, Any], places: dict[Keys, str], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"cannot read the override {override!r}; write section.key=value")
    keys = tuple(name.split("."))
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of the override {override!r} is no valid YAML") from error
    section = values
    for key in keys[:-1]:
        inner = section.get(key)
        if inner is None:
            inner = section[key] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"the override {override!r} goes into `{key}`, which is a value and not a section")
        section = inner
    section[keys[-1]] = value
    places[keys] = f"the override {override!r}"


def _lines(node: yaml.Node | None, keys: Keys = ()) -> Iterator[tuple[Keys, int]]:
    """Where each key of a YAML document stands."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*keys, str(key.value)), key.start_mark.line + 1
            yield from _lines(value, (*keys, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _lines(item, (*keys, str(number)))


def _explain(error: ValidationError, places: Mapping[Keys, str], path: Path) -> str:
    """One sentence for each error, with the key, the place, and what to do."""
    return "; ".join(_explain_one(detail["type"], detail["loc"], detail["msg"], places, path)
                     for detail in error.errors())  # fmt: skip


def _explain_one(
    kind: str, location: tuple[int | str, ...], message: str, places: Mapping[Keys, str], path: Path
) -> str:
    keys = tuple(str(key) for key in location)
    name = ".".join(keys)
    place = next((places[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in places), str(path))
    if kind == "extra_forbidden":
        valid = list(_fields(keys[:-1]))
        near = difflib.get_close_matches(keys[-1], valid, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"valid are {', '.join(valid)}"
        return f"{place}: unknown key `{name}`; {hint}"
    if kind == "missing":
        return f"{place}: the key `{name}` is missing"
    return f"{place}: `{name}`: {message[0].lower() + message[1:]}"


def _fields(keys: Keys) -> Iterator[str]:
    """The valid keys of a section."""
    section: type[BaseModel] = Config
    for key in keys:
        if not key.isdigit():
            section = _section_of(section.model_fields[key].annotation)
    yield from section.model_fields


def _section_of(annotation: Any) -> type[BaseModel]:
    """The section inside an annotation such as `SFTConfig | None` or `list[ProblemsConfig]`."""
    if get_origin(annotation) in (Union, UnionType, list):
        return next(_section_of(inner) for inner in get_args(annotation) if inner is not type(None))
    return annotation  # type: ignore[no-any-return]
