"""The recipes that come with the package: `configs/` of the repository, `mdpo/configs/` of an installed wheel."""

from collections.abc import Iterator
from pathlib import Path

from mdpo.errors import ConfigError

_PACKAGE = Path(__file__).parent
_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")


def recipes() -> Iterator[tuple[str, Path, str]]:
    """Each recipe's name, file, and the first line of the comment that opens it."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    for path in sorted(folder.glob("*.yaml")) if folder else ():
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        yield path.stem, path, first.removeprefix("#").strip()


def find_accelerate_file(name: str) -> Path:
    """An accelerate file: a path, or the name of one that comes with the package.

    Raises:
        ConfigError: There is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = {file.stem: file for folder in _FOLDERS for file in sorted((folder / "accelerate").glob("*.yaml"))}
    # `configs/accelerate/fsdp2.yaml` also works where the repository is not the working directory.
    stem = path.name.removesuffix(".yaml")
    if stem in known and path.parent.name in ("", "accelerate"):
        return known[stem]
    raise ConfigError(
        f"`train.launch`: there is no accelerate file {name}; give a path, or one of {', '.join(known)}; "
        "`accelerate config --config_file FILE` writes one"
    )


def find_base(name: str, beside: Path) -> Path:
    """The file that a recipe's `base` names: relative to that recipe, or to the recipes that come with the package."""
    files = [beside / name, *(folder / name for folder in _FOLDERS)]
    return next((file for file in files if file.is_file()), files[0])


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, or the name of one that comes with the package.

    Raises:
        ConfigError: There is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = {known: file for known, file, _ in recipes()}
    # `configs/quickstart.yaml` also works where the repository is not the working directory.
    stem = path.name.removesuffix(".yaml")
    if stem in known and path.parent.name in ("", "configs"):
        return known[stem]
    raise ConfigError(
        f"there is no configuration {name}: no such file, and no recipe of that name ({', '.join(known)}); "
        f"`mdpo configs` lists the recipes"
    )
