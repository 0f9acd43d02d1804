"""Removes a folder that hostile code has filled."""

import os
import secrets
import stat
from itertools import count
from pathlib import Path


def remove_tree(folder: Path) -> None:
    """Remove `folder` and all below it, however deep it goes and whatever its modes are; follows no link.

    A tree may be deeper than a path can be long, or a recursion deep: the contents of each folder are moved to the top
    before it is removed. Nothing may write to it meanwhile.

    Raises:
        OSError: Something is not ours to remove.
    """
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    names = (f"{secrets.token_hex(8)}-{number}" for number in count())
    try:
        while entries := os.listdir(top):  # noqa: PTH208 - a descriptor has no path
            for entry in entries:
                if not stat.S_ISDIR(os.stat(entry, dir_fd=top, follow_symlinks=False).st_mode):
                    os.unlink(entry, dir_fd=top)
                    continue
                os.chmod(entry, stat.S_IRWXU, dir_fd=top)
                inner = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                for below in os.listdir(inner):  # noqa: PTH208
                    _open_up(below, inner)
                    os.rename(below, next(names), src_dir_fd=inner, dst_dir_fd=top)
                os.close(inner)
                os.rmdir(entry, dir_fd=top)
    finally:
        os.close(top)
    folder.rmdir()


def _open_up(name: str, folder: int) -> None:
    # To be moved, a folder must be writable: its entry for the one above changes.
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        os.chmod(name, stat.S_IRWXU, dir_fd=folder)
