"""What keeps a folder from being read or written, in words; never an exception, whatever its permissions."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def reading_problem(folder: Path) -> str | None:
    """Return why the files of a folder cannot be looked up, or None."""
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            return f"{folder} is not a folder"
        if not os.access(folder, os.R_OK | os.X_OK, effective_ids=True):
            return f"{folder} cannot be opened by this user, who lacks permission to read or search it"
    except OSError as err:
        return _explain(folder, err)
    return None


def writing_problem(folder: Path) -> str | None:
    """Return why files cannot be made in a folder, or in the nearest one above it that exists; None if they can."""
    existing = folder.absolute()
    while True:
        try:
            os.stat(existing)
            break
        except (FileNotFoundError, NotADirectoryError):
            existing = existing.parent
        except OSError as err:
            return _explain(existing, err)
    if not existing.is_dir():
        return f"{existing} is a file; give a folder"
    if not os.access(existing, os.W_OK | os.X_OK, effective_ids=True):
        whom = "is on a disk that is mounted read-only" if _is_read_only(existing) else "cannot be written by this user"
        return f"{existing} {whom}; give a folder that can be written"
    return None


def _is_read_only(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _explain(path: Path, err: OSError) -> str:
    if isinstance(err, PermissionError):
        closed = _closed_above(path)
        return f"{path} cannot be opened by this user, who lacks permission to search {closed}; give another folder"
    if isinstance(err, FileNotFoundError):
        return f"{path} does not exist"
    return f"{path} cannot be opened ({err.strerror})"


def _closed_above(path: Path) -> Path:
    """The first folder on the way that does not let this user through."""
    for parent in reversed(path.absolute().parents):
        if not os.access(parent, os.X_OK, effective_ids=True):
            return parent
    return path.parent
