"""From a path that a user typed to the bytes of the file, decompressed, and to its text."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import shlex
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from lora_bench.errors import suggest
from lora_bench.tables.table import TableError

COMPRESSED = (".gz", ".bz2", ".xz", ".zip", ".zst", ".lz4")
MAX_BYTES = 8 * 2**30
"""Of a decompressed file; more does not fit a machine's memory as rows."""
_CHUNK = 2**20

Tell = Callable[[int, int], None]
"""Called with the bytes that were done and their total, while a file is read."""

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_CP1252 = {0x80: "a euro sign", 0x85: "an ellipsis", 0x91: "a quote", 0x92: "an apostrophe", 0x93: "a quote"}
_CP1252 |= {0x94: "a quote", 0x96: "a dash", 0x97: "a dash", 0xA0: "a space"}


def find_file(file: str, *, accepted: str) -> Path:
    """Return the path of a file that exists; `~` is expanded.

    Raises:
        TableError: If it is no path, does not exist, is a folder or no regular file, or cannot be reached.
    """
    if not is_text(file) or "\0" in file:
        raise TableError(f"{file!a} holds characters that no portable file name has; rename the file")
    path = Path(file).expanduser()
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as err:
        near = suggest(path.name, _siblings(path))
        raise TableError(f"{path} does not exist{near}; relative paths start at {Path.cwd()}") from err
    except OSError as err:
        raise TableError(_unreadable(path, err)) from err
    if stat.S_ISDIR(mode):
        raise TableError(f"{path} is a folder; give a file ({accepted})")
    if not stat.S_ISREG(mode):
        raise TableError(f"{path} is not a regular file; save its content to one")
    return path


def read_bytes(path: Path, *, tell: Tell | None = None) -> bytes:
    """Return the content of a file, decompressed.

    Raises:
        TableError: If it cannot be read or decompressed, or is larger than `MAX_BYTES`.
    """
    try:
        with open(path, "rb") as file:
            total = os.fstat(file.fileno()).st_size
            method = next((name for magic, name in _MAGIC.items() if file.peek(8).startswith(magic)), None)
            if method is None:
                return _drain(file, path, lambda done: tell(done, total) if tell else None)
            with _decompressed(file, method, path) as content:
                return _drain(content, path, lambda _: tell(file.tell(), total) if tell else None)
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile) as err:
        raise TableError(f"{path}: is damaged or cut short ({err}); fetch or compress it again") from err
    except OSError as err:
        raise TableError(_unreadable(path, err)) from err


def decode(data: bytes, path: Path) -> str:
    """Return the text of a file, without a byte order mark.

    Raises:
        TableError: If it is empty or not UTF-8, with line, byte and the command that converts it.
    """
    if not data.strip():
        raise TableError(f"{path} is empty; give a file with one item per row")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TableError(f"{path} is UTF-16; save it as UTF-8: {_iconv('UTF-16', path)}")
    if (nul := data.find(b"\0")) >= 0:
        raise TableError(f"{path}: {_place(data, nul)} is NUL, so this is not a text file; save it as UTF-8 text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        # The position counts from behind a byte order mark, which the codec takes off first.
        position = err.start + (len(data) - len(err.object))
        value = data[position]
        guess = ""
        if value in _CP1252:
            guess = f" (in Windows-1252 it is {_CP1252[value]}: {_iconv('WINDOWS-1252', path)})"
        problem = f"{path}: {_place(data, position)} is {value:#04x}, not UTF-8; save the file as UTF-8{guess}"
        raise TableError(problem) from err


def is_text(text: str) -> bool:
    """Return whether a string is valid Unicode: no half of a surrogate pair, and so no undecodable byte of a path."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _drain(file: IO[bytes], path: Path, tell: Callable[[int], None]) -> bytes:
    buffer = io.BytesIO()
    while chunk := file.read(_CHUNK):
        buffer.write(chunk)
        tell(buffer.tell())
        if buffer.tell() > MAX_BYTES:
            raise TableError(f"{path}: holds more than {MAX_BYTES // 2**30} GiB; take a part of it")
    return buffer.getvalue()


@contextlib.contextmanager
def _decompressed(file: IO[bytes], method: str, path: Path) -> Iterator[IO[bytes]]:
    if method == "zip":
        with zipfile.ZipFile(file) as archive, archive.open(_only_member(archive, path)) as member:
            yield member
        return
    opened: IO[bytes]
    if method in ("zstd", "lz4"):
        import pyarrow

        opened = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), method)
    else:
        readers: dict[str, Any] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}
        opened = readers[method](file, "rb")
    with opened as content:
        yield content


def _only_member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    members = [info for info in archive.infolist() if not info.is_dir()]
    if any(info.filename == "[Content_Types].xml" for info in members):
        raise TableError(f"{path} is an Excel workbook; save the sheet as CSV")
    if len(members) != 1:
        raise TableError(f"{path} is an archive of {len(members)} files; give one of them, unpacked")
    if members[0].flag_bits & 1:
        raise TableError(f"{path} is encrypted; unpack it")
    return members[0]


def _siblings(path: Path) -> list[str]:
    try:
        return [name for name in os.listdir(path.parent) if is_text(name)]
    except OSError:
        return []


def _unreadable(path: Path, err: OSError) -> str:
    if isinstance(err, PermissionError):
        reached = path.parent
        while reached != reached.parent and not _may_enter(reached.parent):
            reached = reached.parent
        what = path if _may_enter(path.parent) else reached
        way = f"let this user {'read it' if what == path else 'enter that folder'}, or give a copy"
        return f"{path} cannot be read (Permission denied at {what}); {way}"
    return f"{path} cannot be read ({os.strerror(err.errno) if err.errno else err}); check it"


def _may_enter(folder: Path) -> bool:
    return os.access(folder, os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def _iconv(encoding: str, path: Path) -> str:
    source = shlex.quote(str(path))
    target = shlex.quote(str(path.with_name(f"{path.stem}.utf8{path.suffix}")))
    return f"iconv -f {encoding} -t UTF-8 {source} > {target}"


def _place(data: bytes, position: int) -> str:
    before = data[:position].splitlines(keepends=True)
    is_new = not before or before[-1].endswith((b"\n", b"\r"))
    line, start = (len(before) + 1, position) if is_new else (len(before), position - len(before[-1]))
    return f"line {line}, byte {position - start + 1}"
