"""Data sets as rows: a JSONL file, another file or a folder that `datasets` reads, or a data set of the hub.

What is in them is data and nothing else: no code of a data set is ever run (`datasets` has not done so since
version 4).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from mdpo.errors import DataError

Row = dict[str, Any]
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_BUILDERS = {".json": "json", ".parquet": "parquet"}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with named columns.

    Attributes:
        name: A path or a hub id, for errors.
        columns: The names, after renaming.
        read: The rows from the first one, each time it is called.
        size: How many, where that is known without reading them.
    """

    name: str
    columns: tuple[str, ...]
    read: Callable[[], Iterator[Row]]
    size: int | None = None

    def renamed(self, columns: Mapping[str, str]) -> "Table":
        """The same rows with columns under other names: ours → the table's.

        Raises:
            DataError: There is no such column.
        """
        for ours, theirs in columns.items():
            if theirs not in self.columns:
                raise DataError(
                    f"{self.name} has no column {theirs!r}, which is named for {ours}; it has {', '.join(self.columns)}"
                )

        def read() -> Iterator[Row]:
            for row in self.read():
                yield {**row, **{ours: row.get(theirs) for ours, theirs in columns.items()}}

        return Table(self.name, tuple(dict.fromkeys((*self.columns, *columns))), read, self.size)


def open_table(source: str, split: str = "train", subset: str | None = None) -> Table:
    """Open a data set.

    Args:
        source: A `.jsonl`, `.json` or `.parquet` file; a folder, saved by `save_to_disk` or of such files; or a data
            set of the hub as `org/name`.
        split: Which split of a folder or of a data set of the hub.
        subset: Which configuration of a data set of the hub.

    Raises:
        DataError: It is not there, empty, or cannot be read.
    """
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ".jsonl":
        return _jsonl(path)
    if path.is_file() and path.suffix in _BUILDERS:
        with _loading(source, split):
            return _table(source, datasets.load_dataset(_BUILDERS[path.suffix], data_files=str(path), split="train"))
    if path.is_dir():
        return _table(source, _folder(path, split))
    if path.suffix in (".jsonl", *_BUILDERS):
        raise DataError(
            f"there is no file {source}; make one with `mdpo pairs` or `mdpo rollout`, or check the path of yours"
        )
    if path.is_file() or not _HUB_ID.fullmatch(source):
        raise DataError(
            f"{source} is no data set: give a .jsonl, .json or .parquet file, a folder, or a hub id such as org/name"
        )
    with _loading(source, split):
        return _table(source, datasets.load_dataset(source, subset, split=split))


def _jsonl(path: Path) -> Table:
    def read() -> Iterator[Row]:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n") and number > 1 and not _is_json(line):
                    return  # torn by a kill
                if line.strip():
                    yield _row(line, f"{path}, line {number}")

    first = next(read(), None)
    if first is None:
        raise DataError(f"{path} holds no row; give a file with at least one line")
    return Table(str(path), tuple(first), read)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _row(line: bytes, place: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place} is no JSON ({error}); write one object a line") from error
    if not isinstance(row, dict):
        raise DataError(f"{place} holds a {type(row).__name__}; write one JSON object a line")
    return row


def _folder(path: Path, split: str) -> Any:
    with _loading(str(path), split):
        saved = [name for name in ("dataset_dict.json", "state.json") if (path / name).is_file()]
        if not saved:
            return datasets.load_dataset(str(path), split=split)
        found = datasets.load_from_disk(str(path))
    if saved[0] == "state.json":
        return found
    if split not in found:
        raise DataError(f"{path} has no split {split!r}; it has {', '.join(found)}: name one with --split")
    return found[split]


def _table(name: str, rows: Any) -> Table:
    if not len(rows):
        raise DataError(f"{name} holds no row; give another split or data set")
    return Table(name, tuple(rows.column_names), lambda: iter(rows), len(rows))


@contextmanager
def _loading(source: str, split: str) -> Iterator[None]:
    """Turn what `datasets` raises into one sentence, and keep its bars off the terminal."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    # Network, hub and cache errors are OSError; an unknown split or configuration is ValueError; a data set that is a
    # program is RuntimeError; a broken file is one of the builder's own, a plain Exception.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        cause = " ".join(str(error).split())[:300]
        raise DataError(
            f"the data set {source} ({split}) cannot be read ({type(error).__name__}: {cause}); check the name, the "
            "split and your connection, or give a local file"
        ) from error
    finally:
        if shown:
            datasets.enable_progress_bars()
