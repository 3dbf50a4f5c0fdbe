"""Atomic writing, of models, data files and reports: a file appears whole, or what was there stays."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from graphkit.errors import BadOutput
from graphkit.model.disk import reason, shown, write_all

Buffer = bytes | bytearray | memoryview

_BATCH = 1 << 20  # bytes of small parts that are gathered into one write
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def check_target(path: Path) -> Path:
    """The real file that writing to ``path`` would replace or create: symlinks are followed.

    Raises BadOutput when that is a directory, a device or the like, read-only, or in a folder that is
    missing or cannot be written to.
    """
    name = shown(path)
    try:
        target = Path(os.path.realpath(path))
        folder = os.stat(target.parent)
        status = _status(target)
        writable = os.access(target.parent, os.W_OK | os.X_OK) and (
            status is None or os.access(target, os.W_OK)
        )
    except FileNotFoundError as error:
        raise BadOutput(f"{name}: there is no folder {shown(target.parent)}; make it first") from error
    except (OSError, ValueError) as error:
        raise BadOutput(f"{name}: cannot be written: {reason(error)}; choose another path") from error
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise BadOutput(f"{name}: is a directory; name a file in it")
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise BadOutput(f"{name}: is not a regular file; choose another path")
    if not stat.S_ISDIR(folder.st_mode):
        raise BadOutput(f"{name}: {shown(target.parent)} is not a folder; choose another path")
    if not writable:
        raise BadOutput(f"{name}: cannot be written: permission denied; choose another path")
    return target


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def write_atomic(path: Path, parts: Iterable[Buffer]) -> None:
    """Writes ``parts``, joined, as the file ``path``: all of it, or BadOutput and ``path`` as it was.

    A file that exists keeps its mode; a symlink keeps pointing to the file, which is replaced.
    """
    target = check_target(path)
    with transaction(path) as undo:
        os.replace(stage(undo, target, parts), target)
    sync_folder(target.parent)


def write_together(files: Mapping[Path, Iterable[Buffer]]) -> None:
    """Writes several files, each as `write_atomic` does: all of them, or BadOutput and all as they were."""
    targets = [(check_target(path), parts) for path, parts in files.items()]
    with transaction(next(iter(files))) as undo:
        staged = [(stage(undo, target, parts), target) for target, parts in targets]
        kept = []
        for new, target in staged:
            kept.append(_back_up(undo, target))
            os.replace(new, target)
    for backup in kept:
        remove(backup)
    for folder in {target.parent for target, _ in targets}:
        sync_folder(folder)


def _back_up(undo: ExitStack, target: Path) -> Path:
    """Lets ``undo`` put back what is at ``target`` now; returns where it is kept until then."""
    kept = target.parent / f".graphkit-{secrets.token_hex(8)}.tmp"
    if not os.path.lexists(target):
        undo.callback(remove, target)
        return kept
    undo.callback(remove, kept)  # a link that is put back over its own file stays, and is removed by this
    try:
        os.link(target, kept)  # a second name, so that nothing is copied
    except OSError:  # a file system without links: for a moment there is no file
        os.replace(target, kept)
    undo.callback(os.replace, kept, target)
    return kept


@contextmanager
def transaction(out: Path) -> Iterator[ExitStack]:
    """Runs the callbacks registered with it when the block fails, and turns a system error into BadOutput."""
    try:
        with ExitStack() as undo:
            yield undo
            undo.pop_all()
    except OSError as error:
        raise BadOutput(
            f"{shown(out)}: cannot be written: {reason(error)}; nothing was changed, "
            "mend that or write elsewhere"
        ) from error


def stage(undo: ExitStack, target: Path, parts: Iterable[Buffer]) -> Path:
    """A new file beside ``target`` with its mode that holds ``parts``, safe on the disk."""
    with temporary(undo, target.parent) as (fd, new):
        for chunk in _batches(parts):
            write_all(fd, chunk)
        with suppress(FileNotFoundError):
            mode = stat.S_IMODE(os.stat(target).st_mode) & 0o777
            if mode != stat.S_IMODE(os.fstat(fd).st_mode):
                os.chmod(new, mode)
        os.fsync(fd)
    return new


@contextmanager
def temporary(undo: ExitStack, folder: Path) -> Iterator[tuple[int, Path]]:
    """A file in ``folder``, open while the block runs, that ``undo`` removes; its mode follows the umask."""
    path = folder / f".graphkit-{secrets.token_hex(8)}.tmp"
    undo.callback(remove, path)  # before it exists, so that an interrupt cannot come between
    fd = os.open(path, _CREATE, 0o666)
    try:
        yield fd, path
    finally:
        os.close(fd)


def _batches(parts: Iterable[Buffer]) -> Iterator[Buffer]:
    """``parts`` with runs of small ones joined, so that thousands of nodes are not thousands of writes."""
    batch = bytearray()
    for part in parts:
        view = memoryview(part).cast("B")
        if len(batch) + len(view) > _BATCH:
            yield batch
            batch = bytearray()
        if len(view) > _BATCH:
            yield view
        else:
            batch += view
    yield batch


def sync_folder(folder: Path) -> None:
    """Makes the renames in ``folder`` survive a power cut, where the file system can."""
    # The new file is in place by now, and some file systems cannot sync a folder: never a failed save.
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def remove(path: Path) -> None:
    """Removes a file that may be gone already; never fails, since another error is on its way."""
    with suppress(OSError):
        os.unlink(path)
