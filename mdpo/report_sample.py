"""The trajectories that a report shows: which ones, and what of them.

Token ids and log-probabilities are many times larger than the texts; only their counts and means are kept.
"""

import json
import re
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from pathlib import PurePath
from statistics import fmean
from typing import Any

from mdpo.trajectory import Trajectory, Turn
from mdpo.visible import visible

# Nobody reads further, and one runaway text would make the page heavy.
_TEXT_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page keeps of a trajectory.

    Attributes:
        problem_id, question, answer, source, sample: As in `Trajectory`, with what cannot be seen made visible.
        right: Whether the checker accepted the answer.
        stop_reason: Why it stopped.
        calls: Programs that were run.
        failed: Those of them that did not end well.
        body: Everything that only the view of this one trajectory needs, as JSON.
    """

    problem_id: str
    question: str
    answer: str
    source: str
    sample: int
    right: bool
    stop_reason: str
    calls: int
    failed: int
    body: str

    @classmethod
    def of(cls, trajectory: Trajectory) -> "Shown":
        """The part of a trajectory that is shown."""
        statuses = [turn.status for turn in trajectory.turns if turn.status is not None]
        return cls(
            problem_id=_text(trajectory.problem_id),
            question=_text(trajectory.question),
            answer=_text(trajectory.answer),
            source=_text(trajectory.source),
            sample=trajectory.sample,
            right=trajectory.reward > 0.5,
            stop_reason=_text(trajectory.stop_reason),
            calls=len(statuses),
            failed=sum(status != "ok" for status in statuses),
            body=json.dumps(_body(trajectory), ensure_ascii=False, separators=(",", ":")),
        )


def _body(trajectory: Trajectory) -> dict[str, Any]:
    return {
        # Two parts say which policy it is; the rest of the path says only whose machine it was.
        "policy": _text("/".join(PurePath(trajectory.policy).parts[-2:])),
        "temperature": trajectory.sampling.get("temperature"),
        "prompt": len(trajectory.prompt_ids),
        "prediction": None if trajectory.prediction is None else _text(trajectory.prediction),
        "turns": [_turn(turn) for turn in trajectory.turns],
    }


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "action": _text(turn.action),
        "sampled": len(turn.action_ids),
        "logprob": round(fmean(turn.action_logprobs), 3) if turn.action_logprobs else None,
        "observation": None if turn.observation is None else _text(turn.observation),
        "observed": len(turn.observation_ids),
        "status": turn.status and _text(turn.status),
        "seconds": round(turn.seconds, 3),
    }


def _text(text: str) -> str:
    """A text with its controls made visible, cut where it is too long for anybody."""
    shown = visible(text[:_TEXT_CHARS])
    left = len(text) - _TEXT_CHARS
    return f"{shown}\n… {left:,} more characters are not in this page" if left > 0 else shown


@dataclass(slots=True)
class Sample:
    """A bounded part of a file's trajectories: whole problems, those whose digests are smallest.

    The digest depends on the problem alone, so several files of one run, or of several runs, keep the same problems.
    Where one problem alone has more attempts than the limit, the first ones of the file are kept.
    """

    limit: int
    size: int = 0
    problems: dict[bytes, list[Shown]] = field(default_factory=dict)
    _border: bytes | None = None

    def add(self, trajectory: Trajectory) -> None:
        """Take a trajectory in, and let the problem with the largest digest go if that is too many."""
        key = _digest(trajectory)
        if (self._border is not None and key >= self._border) or (
            self.size == self.limit and self.problems.keys() <= {key}
        ):
            return
        self.problems.setdefault(key, []).append(Shown.of(trajectory))
        self.size += 1
        while self.size > self.limit:
            self._border = max(self.problems)
            self.size -= len(self.problems.pop(self._border))

    def shown(self) -> list[Shown]:
        """What was kept, by problem and sample."""
        kept = chain.from_iterable(self.problems.values())
        return sorted(kept, key=lambda t: (natural(t.problem_id), t.question, t.sample))


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sorting key by which `p10` comes after `p9`."""
    # Digits of other scripts are no digits here: some of them are no numbers to `int`.
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+", text)
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts]


def _digest(trajectory: Trajectory) -> bytes:
    text = f"{trajectory.problem_id}\0{trajectory.question}"
    return blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
