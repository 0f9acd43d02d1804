"""The JSON of `/v1/completions`: how an action is asked for, and what an answer must hold to be one."""

from typing import Any

from mdpo.engines.base import Completion, SamplingParams
from mdpo.errors import EngineError

# What vLLM reports for a token that temperature, top-p or top-k left without probability.
_EXCLUDED = -9000.0

LACKS = (
    "{url} cannot be used: {what}. Start a server that can: `vllm serve MODEL --logprobs-mode raw_logprobs` "
    "(vLLM 0.10.2 or later; docs/server.md has the command for a CPU)"
)


class Unavailable(Exception):  # noqa: N818 - a state of the server, which the caller waits out
    """This attempt failed and the next one may not: no connection, a time-out, a 5xx, a broken answer."""


def completion_body(model: str, prompt_ids: list[int], params: SamplingParams) -> dict[str, Any]:
    """The request of one action. What is neutral is said too: the checkpoint's generation_config.json is no default."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": prompt_ids,
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "stop_token_ids": list(params.stop_token_ids),
        "ignore_eos": True,
        "logprobs": 0,
        "return_token_ids": True,
        # Also where the server has no tokenizer, and shorter than the text of a token with its escapes.
        "return_tokens_as_token_ids": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
    if params.stop_strings:
        body |= {"stop": list(params.stop_strings), "include_stop_str_in_output": True}
    if params.seed is not None:
        body["seed"] = params.seed
    return body


def read_completion(url: str, answer: Any, params: SamplingParams) -> Completion:
    """Read a completion, and refuse one that breaks what an engine promises."""
    choice = get(url, answer, "choices", 0)
    reason = get(url, choice, "finish_reason")
    if reason not in ("stop", "length"):
        # A server that shuts down ends its requests like this.
        raise Unavailable(f"it ended a request with {reason!r}")
    ids = choice.get("token_ids")
    if not ids:
        raise EngineError(LACKS.format(url=url, what="its answers have no token ids (`return_token_ids`)"))
    logprobs = (choice.get("logprobs") or {}).get("token_logprobs")
    if logprobs is None or len(logprobs) != len(ids) or None in logprobs:
        count = "no" if logprobs is None else f"{len(logprobs) - logprobs.count(None)}"
        raise EngineError(LACKS.format(url=url, what=f"it gave {count} log-probabilities for {len(ids)} tokens"))
    if max(logprobs) > 1e-3:
        raise EngineError(LACKS.format(url=url, what=f"{max(logprobs):.3f} is no log-probability of a token"))
    _require_own_end(url, ids, reason, params)
    return Completion(ids, logprobs, reason)


def _require_own_end(url: str, ids: list[int], reason: str, params: SamplingParams) -> None:
    """The completion ends where the request says, and nowhere else."""
    if not set(params.stop_token_ids).isdisjoint(ids[:-1]):
        raise EngineError(LACKS.format(url=url, what="it samples on after a stop id (`stop_token_ids`)"))
    if reason == "stop" and ids[-1] not in params.stop_token_ids and not params.stop_strings:
        what = f"it stopped at the token {ids[-1]}, which the request does not name (`ignore_eos`)"
        raise EngineError(LACKS.format(url=url, what=what))
    if reason == "length" and len(ids) != params.max_tokens:
        raise EngineError(
            f"{url} ended an action after {len(ids)} of {params.max_tokens} tokens; start it without a limit of its "
            "own (max_new_tokens in its generation settings) by `--generation-config vllm`"
        )


def get(url: str, answer: Any, *path: str | int) -> Any:
    """A part of an answer that every server gives."""
    for key in path:
        try:
            answer = answer[key]
        except (KeyError, IndexError, TypeError) as error:
            raise EngineError(LACKS.format(url=url, what=f"its answer has no {key!r}")) from error
    return answer


def require_raw(url: str, answer: Any) -> None:
    """Refuse log-probabilities after top-p: the second likeliest token of a top-p near zero has none there."""
    first = (answer["choices"][0]["logprobs"].get("top_logprobs") or [{}])[0]
    if any(logprob <= _EXCLUDED for logprob in first.values()):
        raise EngineError(LACKS.format(url=url, what="its log-probabilities are those after top-p"))
