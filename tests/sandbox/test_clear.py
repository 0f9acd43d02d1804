"""A folder goes away whatever the code made of it."""

import os
import sys

from sandbox.clear import remove_tree


def test_a_tree_deeper_than_a_path_or_a_recursion(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    below = os.open(folder, os.O_RDONLY)
    for _ in range(2 * sys.getrecursionlimit()):
        os.mkdir("d" * 10, dir_fd=below)
        inner = os.open("d" * 10, os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = inner
    os.close(below)
    remove_tree(folder)
    assert not folder.exists()


def test_closed_folders_links_and_odd_names(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    folder = tmp_path / "session"
    (folder / "closed" / "inner").mkdir(parents=True)
    (folder / "closed" / "inner" / "file").write_text("x")
    (folder / "link").symlink_to(outside)
    (folder / os.fsdecode(b"\xff\n ")).write_text("x")
    os.mkfifo(folder / "fifo")
    (folder / "closed" / "inner").chmod(0)
    (folder / "closed").chmod(0)
    remove_tree(folder)
    assert not folder.exists()
    assert (outside / "kept").read_text() == "x"
