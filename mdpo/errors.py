"""Every error that mdpo raises on purpose. Each message names the thing, the cause and the next step.

    MdpoError
    ├── ConfigError          a key, a value or a combination in the configuration
    ├── CheckpointError      a policy that cannot be loaded
    ├── ChatTemplateError    a chat template that cannot be continued turn by turn
    ├── DataError            a file of trajectories, preferences or demonstrations
    ├── EngineError          the engine that samples actions stopped working
    ├── TrainingError        a training that cannot be started or went wrong
    └── MissingExtraError    an optional package that is not installed (also an ImportError)

A bad trajectory is data, not an error; a broken sandbox is `sandbox.SandboxError` and stops the run.
"""


class MdpoError(Exception):
    """The base of all errors above; its text is written for the person at the command line."""


class ConfigError(MdpoError):
    """The configuration names an unknown key, has a wrong value, or combines two that exclude each other."""


class CheckpointError(MdpoError):
    """A checkpoint is missing, incomplete or of a kind that cannot be used."""


class ChatTemplateError(MdpoError):
    """The tokenizer's chat template cannot be cut into prompt, action and observation."""


class DataError(MdpoError):
    """A data file is missing, malformed or does not fit the run."""


class EngineError(MdpoError):
    """The engine failed; no trajectory is written for the requests that were in flight."""


class TrainingError(MdpoError):
    """Training has nothing to train on, or its result is not usable."""


class MissingExtraError(MdpoError, ImportError):
    """An optional dependency is needed here and is not installed."""
