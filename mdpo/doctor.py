"""What this machine can do, found by trying."""

import importlib.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch
from rich.markup import escape

from eval import EvalError, check
from mdpo.display import Display
from sandbox.doctor import diagnose

_LIBRARIES = ("torch", "transformers", "trl", "accelerate", "datasets", "peft", "math-verify", "sympy")
_OPTIONAL = {
    "vllm": "generation on GPUs: pip install 'mdpo[vllm]'",
    "deepspeed": "training on many GPUs: pip install 'mdpo[deepspeed]'",
    "gguf": "policies from GGUF files: pip install 'mdpo[gguf]'",
}


def examine(display: Display) -> bool:
    """Print what works here and what does not; whether everything that mdpo cannot do without works."""
    display.say(f"[bold]Machine[/]  Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores")
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        display.say(f"  {_mark(True)} {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        display.say(f"  {_mark(None)} no GPU: tiny models only; the quickstart runs")
    display.say("[bold]Libraries[/]")
    for name in _LIBRARIES:
        display.say(f"  {_mark(True)} {name} {version(name)}")
    for name, use in _OPTIONAL.items():
        display.say(_optional(name, use))
    display.say("[bold]Checker[/]")
    checks = _check_checker(display)
    display.say("[bold]Sandbox[/] (each protection was tried)")
    for result in diagnose():
        display.say(f"  {_mark(result.holds)} {result.name}: {escape(result.detail)}")
    return checks


def _optional(name: str, use: str) -> str:
    if importlib.util.find_spec(name) is None:
        return f"  {_mark(None)} {name} is not installed; {escape(use)}"
    for distribution in (name, f"{name}-cpu"):
        try:
            return f"  {_mark(True)} {name} {version(distribution)}"
        except PackageNotFoundError:
            continue
    return f"  {_mark(True)} {name}"


def _check_checker(display: Display) -> bool:
    """LaTeX needs a grammar whose runtime must fit: a misfit would mark right answers wrong."""
    try:
        right = check(r"\frac{x^2-1}{x-1}", "x+1") and not check("x-1", "x+1")
    except EvalError as error:
        display.say(f"  {_mark(False)} {escape(str(error))}")
        return False
    display.say(f"  {_mark(right)} LaTeX answers are parsed and compared")
    return right


def _mark(works: bool | None) -> str:
    return {True: "[green]✓[/]", False: "[red]✗[/]", None: "[yellow]–[/]"}[works]
