"""Saving a model with the data files it names: all of it appears, or what was there stays as it was."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from graphkit.errors import BadInput, BadOutput
from graphkit.model import disk, text
from graphkit.model.atomic import Buffer, check_target, remove, stage, sync_folder, temporary, transaction
from graphkit.model.disk import reason, shown
from graphkit.model.external import inside, open_data

if TYPE_CHECKING:
    from graphkit.model.file import ModelFile

BINARY_SUFFIXES = (".onnx", ".pb")
TEXT_SUFFIXES = (".onnxtxt", ".onnxtext")
_OTHER = "choose another name"
LARGEST_MODEL = (1 << 31) - 1  # bytes in one protobuf message


def check_out(out: Path) -> Path:
    """The file that saving a model as ``out`` would replace; nothing is touched.

    Raises BadOutput for a name that is not a model's (.onnx, .pb, .onnxtxt, .onnxtext) and where
    `check_target` does.
    """
    if Path(out).suffix.lower() not in BINARY_SUFFIXES + TEXT_SUFFIXES:
        raise BadOutput(f"{shown(out)}: not the name of a model; end it in .onnx, or .onnxtxt for text")
    return check_target(out)


def save(
    parts: Sequence[Buffer],
    out: Path,
    source: ModelFile,
    locations: Collection[str],
    *,
    spared: Collection[str] = (),
    unchanged: bool = False,
) -> None:
    """Writes the model whose wire bytes are ``parts``, joined, as ``out``, atomically, with its data files.

    ``locations`` are the data files that the model names, which lie in ``source.folder``. When ``out`` lies
    there too they are shared; elsewhere they are copied beside ``out``, and an identical file already there
    is kept. A text ``out`` is printed, or is the text of ``source`` when nothing was changed (``unchanged``).

    ``spared`` are the data files that ``source`` names, whether or not the model still does: ``out`` may
    replace none of them.

    Raises BadOutput where `check_out` does, when another data file is in the way, when a text cannot hold
    the model, when it is over 2 GiB, and when any write fails; BadInput when a data file cannot be read. Then
    ``out`` and its folder are as they were.
    """
    target = check_out(out)
    if source.folder is not None:
        for location in spared:
            if inside(source.folder, location, shown(out)) == target:
                raise BadOutput(f"{shown(out)}: is a data file of {shown(source.path or 'IN')}; {_OTHER}")
    copies = _copies(out, target, source, locations)
    content = _content(parts, out, source, unchanged)
    with transaction(out) as undo:
        model = stage(undo, target, content)
        staged = [(_stage_copy(undo, origin, place, out), place) for origin, place in copies]
        for copy, place in staged:
            os.replace(copy, place)
            undo.callback(remove, place)
        for folder in {place.parent for _, place in staged}:
            sync_folder(folder)
        os.replace(model, target)
    sync_folder(target.parent)


def _content(parts: Sequence[Buffer], out: Path, source: ModelFile, unchanged: bool) -> Sequence[Buffer]:
    size = sum(memoryview(part).nbytes for part in parts)
    if size > LARGEST_MODEL:
        raise BadOutput(
            f"{shown(out)}: {size} bytes are over the 2 GiB that a model file can hold; "
            "keep its weights as external data"
        )
    if Path(out).suffix.lower() not in TEXT_SUFFIXES:
        return parts
    if unchanged and source.text is not None:
        return [source.text]
    return [text.render(b"".join(parts), shown(out))]


def _copies(
    out: Path, target: Path, source: ModelFile, locations: Collection[str]
) -> list[tuple[Path, Path]]:
    """The data files to copy, as (real source, real place): none that is shared or already there."""
    folder = Path(out).absolute().parent
    places: dict[Path, Path] = {}
    for location in sorted(locations):
        if source.folder is None:
            raise BadInput(
                f"data file '{shown(location)}': the model has no folder to find it in; "
                "load the model from its file"
            )
        origin = inside(source.folder, location, shown(source.path or "model"))
        place = origin if _same_folder(folder, source.folder) else _place(folder, location, out)
        if place == target or origin == target:
            raise BadOutput(f"{shown(out)}: is a data file that the model names; {_OTHER}")
        if places.setdefault(place, origin) != origin:
            raise BadOutput(
                f"{shown(out)}: two data files would both become {shown(place)}; choose another folder"
            )
    return [
        (origin, place)
        for place, origin in places.items()
        if place != origin and not _kept(origin, place, out)
    ]


def _same_folder(folder: Path, other: Path) -> bool:
    return folder == other or os.path.realpath(folder) == os.path.realpath(other)


def _place(folder: Path, location: str, out: Path) -> Path:
    if ".." in PurePosixPath(location).parts:  # would need folders that hold nothing
        raise BadOutput(
            f"{shown(out)}: data file '{shown(location)}' goes through '..'; write beside the original"
        )
    try:
        return inside(folder, location, shown(out))
    except BadInput as error:
        raise BadOutput(str(error)) from error


def _kept(origin: Path, place: Path, out: Path) -> bool:
    """Whether the file at ``place`` is already the one to copy; BadOutput when it is another."""
    with ExitStack() as stack:
        first = open_data(origin, origin.name, shown(out))
        stack.callback(os.close, first)
        if not os.path.lexists(place):
            return False
        try:
            second = disk.open_regular(place, follow=False)
            stack.callback(os.close, second)
            if disk.same_content(first, second):
                return True
        except OSError as error:
            raise BadOutput(
                f"{shown(place)}: is in the way: {reason(error)}; choose another folder"
            ) from error
    raise BadOutput(
        f"{shown(place)}: is another data file than the model's; move it or choose another folder"
    )


def _stage_copy(undo: ExitStack, origin: Path, place: Path, out: Path) -> Path:
    """A new file in ``place``'s folder, which is made when missing, that holds what ``origin`` does."""
    missing = [folder for folder in place.parents if not os.path.lexists(folder)]
    for folder in reversed(missing):
        os.mkdir(folder)
        undo.callback(_remove_folder, folder)
    source = open_data(origin, origin.name, shown(out))
    try:
        with temporary(undo, place.parent) as (fd, new):
            disk.copy(source, fd)
            os.fsync(fd)
    finally:
        os.close(source)
    return new


def _remove_folder(path: Path) -> None:
    with suppress(OSError):
        os.rmdir(path)
