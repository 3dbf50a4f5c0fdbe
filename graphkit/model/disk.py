"""Opens, reads, maps and copies regular files, and nothing that only looks like one."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from weakref import WeakValueDictionary

try:
    import fcntl
except ImportError:  # Windows has no ioctl, hence no reflink
    fcntl = None  # type: ignore[assignment]

CHUNK = 16 << 20  # bytes a copy or a comparison holds at a time
_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int), share the extents of another file
# A file system that cannot do this kind of copy says one of these; a full or broken disk says another.
_UNSUPPORTED = {
    getattr(errno, name)
    for name in ("EXDEV", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EINVAL", "ENOTTY", "EPERM", "EBADF", "ETXTBSY")
    if hasattr(errno, name)
}
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_maps: WeakValueDictionary[tuple[int, ...], mmap.mmap] = WeakValueDictionary()


def shown(text: object, limit: int = 200) -> str:
    """``text`` as one printable line of at most ``limit`` characters, for an error message."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text)[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"


def reason(error: BaseException) -> str:
    """What the system said, without the errno and the path that ``str(error)`` repeats."""
    return (error.strerror if isinstance(error, OSError) else None) or shown(error) or type(error).__name__


def open_regular(path: str | os.PathLike[str], *, follow: bool = True) -> int:
    """A read-only file descriptor of a regular file.

    A directory raises IsADirectoryError, any other kind of file OSError (ENODEV): a FIFO is never waited for
    and a device never opened. With ``follow=False`` a symlink at the end of ``path`` is an error as well.
    """
    # Looking before opening spares devices that react to being opened; fstat closes the race.
    _check_regular(os.stat(path) if follow else os.lstat(path))
    fd = os.open(path, _READ | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
    try:
        _check_regular(os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.ENODEV, "is not a regular file")


def read_all(fd: int, size: int) -> bytes:
    """Up to ``size`` bytes from where ``fd`` stands; less when the file ends before."""
    parts: list[bytes] = []
    while size > 0 and (part := os.read(fd, size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def forget(view: memoryview, start: int, length: int) -> None:
    """Let go of pages of a mapped file that were read: they come back when they are read again."""
    file = view.obj
    if not isinstance(file, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return
    first = start - start % mmap.PAGESIZE
    file.madvise(mmap.MADV_DONTNEED, first, start + length - first)


def mapped(fd: int) -> memoryview:
    """The whole file behind ``fd``, read-only and paged in on use; never an empty file (ValueError).

    All views of an unchanged file share one mapping, so that thousands of tensors do not hold thousands of
    descriptors; it closes with the last view.
    """
    status = os.fstat(fd)
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    mapping = _maps.get(key)
    if mapping is None:
        mapping = _maps[key] = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
    return memoryview(mapping)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Writes all of ``data`` (a byte view), in as many writes as the system needs."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[: 64 * CHUNK]) :]


def copy(source: int, target: int) -> None:
    """Copies the file behind ``source`` to the empty file behind ``target``, in bounded memory.

    Shares the blocks where the file system can (FICLONE), else lets the kernel copy (copy_file_range), else
    reads and writes chunks. Raises OSError, with EIO when ``source`` shrinks meanwhile.
    """
    if _clone(source, target):
        return
    size = os.fstat(source).st_size
    done = _copy_range(source, target, size)
    os.lseek(source, done, os.SEEK_SET)
    os.lseek(target, done, os.SEEK_SET)
    while done < size:
        chunk = os.read(source, min(CHUNK, size - done))
        if not chunk:
            raise OSError(errno.EIO, "the file shrank while it was copied")
        write_all(target, chunk)
        done += len(chunk)


def _clone(source: int, target: int) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True


def _copy_range(source: int, target: int, size: int) -> int:
    """How many bytes the kernel copied: all, or those before it said that it cannot."""
    copy_file_range = getattr(os, "copy_file_range", None)
    done = 0
    while copy_file_range is not None and done < size:
        try:
            step: int = copy_file_range(source, target, min(size - done, 1 << 30), done, done)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                break
            raise
        if step == 0:  # some file systems answer 0 instead of an error
            break
        done += step
    return done


def same_content(first: int, second: int) -> bool:
    """Whether two files hold the same bytes; reads both, in bounded memory, unless they are one file."""
    left, right = os.fstat(first), os.fstat(second)
    if (left.st_dev, left.st_ino) == (right.st_dev, right.st_ino):
        return True
    if left.st_size != right.st_size:
        return False
    remaining = left.st_size
    while remaining > 0:
        chunk = read_all(first, min(CHUNK, remaining))
        if not chunk or chunk != read_all(second, len(chunk)):
            return False
        remaining -= len(chunk)
    return True
