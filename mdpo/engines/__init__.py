"""Engines: who samples the next action."""

from mdpo.engines.base import Completion, Engine, SamplingParams

__all__ = ["Completion", "Engine", "SamplingParams"]
