"""Every file name that a run writes, and the ways of writing that survive a kill at any moment.

A file that is replaced is written beside itself, synced and renamed: a reader sees the old one or the new one.
A file that grows (`metrics.jsonl`) gets whole lines; a torn last line is cut off before the next one is added.
A folder (a checkpoint, an adapter) is filled under a temporary name and renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lora_bench.errors import DiskError, RunDirError, RunHeldError
from lora_bench.records import RunResult, from_json, to_json

TEMPORARY_MARK = ".partial-"
DISK_PROBLEMS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
"""What a disk says when it is full, over a quota, read-only or broken."""
PEFT_CONFIG_FILE = "adapter_config.json"
"""What PEFT looks for in a folder: there where `PeftModel.from_pretrained` on the plain model is the run."""
OWN_CONFIG_FILE = "lora_bench_adapter.json"
"""The same content where it is not (parts of fused matrices, a changed base): PEFT would drop or misread it."""
LOCK_TRIES = 10
LOCK_WAIT_S = 0.03

_YAML_LOADER = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # the C one reads a hundred configurations in 0.1 s, not 1 s


def find_adapter_config(folder: Path) -> Path | None:
    """The configuration of a PEFT adapter in a folder of weights, under either name; None if there is none.

    Runs of versions before both names have PEFT's, whatever it holds.
    """
    names = (OWN_CONFIG_FILE, PEFT_CONFIG_FILE)
    return next((folder / name for name in names if (folder / name).is_file()), None)


@dataclass(frozen=True)
class RunDir:
    """The folder of one run. Making this object touches no disk."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration, plain YAML."""
        return self.path / "config.yaml"

    @property
    def status(self) -> Path:
        """Who runs it and since when: `{"status", "pid", "step", "steps", ...}`."""
        return self.path / "status.json"

    @property
    def metrics(self) -> Path:
        """One JSON line per logged step or evaluation, with `step`, `timestamp_ms` and `metrics`."""
        return self.path / "metrics.jsonl"

    @property
    def items(self) -> Path:
        """One JSON line per evaluation, with `step` and each item's own score: what pairs two runs under way."""
        return self.path / "items.jsonl"

    @property
    def predictions(self) -> Path:
        """One JSON line per test item, in the order of the split."""
        return self.path / "predictions.jsonl"

    @property
    def validation_predictions(self) -> Path:
        """One JSON line per validation item, in the order of the split."""
        return self.path / "predictions_validation.jsonl"

    @property
    def result(self) -> Path:
        """The record; its presence ends the run."""
        return self.path / "result.json"

    @property
    def stop_request(self) -> Path:
        """Asks the run to stop at its next evaluation; says why. Written by the controller that prunes it."""
        return self.path / "stop_request.txt"

    @property
    def log(self) -> Path:
        """What the run's process printed."""
        return self.path / "log.txt"

    @property
    def checkpoints(self) -> Path:
        """`step-00000100/` and so on, newest last."""
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """The trained tensors: a PEFT adapter folder, or a full model folder."""
        return self.path / "weights"

    @property
    def job(self) -> Path:
        """The job of a cluster that it was last given to: `{"job_id", ...}`; absent for runs of this machine."""
        return self.path / "job.json"

    @property
    def job_end(self) -> Path:
        """How its process in that job ended: `{"job_id", "exit_code"}`."""
        return self.path / "job_end.json"

    @property
    def job_stop(self) -> Path:
        """Asks whoever looks after its process, on whatever node, to have it stop (`"stop"`) or to end it (`"end"`)."""
        return self.path / "job_stop.json"

    @property
    def lock(self) -> Path:
        """Held with `flock` by the process that runs; freed by the kernel when that process dies."""
        return self.path / "lock"

    def read_result(self) -> RunResult | None:
        """The recorded result, or None while there is none.

        Raises:
            RunDirError: If the file is there and cannot be read as a result.
        """
        try:
            return from_json(RunResult, json.loads(self.result.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except ValueError as err:
            raise RunDirError(f"{self.result}: not a result of this version ({err}); move the folder away") from err

    def write_result(self, result: RunResult) -> None:
        """Records the result. Never replaces one that is there."""
        if self.result.exists():
            raise RunDirError(f"{self.result}: a result is recorded already and is never overwritten")
        write_json(self.result, to_json(result))

    def archive_failure(self) -> None:
        """Moves a record aside, as `failures/1.json` and so on, so that the run can be tried again."""
        if not self.result.exists():
            return
        self.stop_request.unlink(missing_ok=True)
        folder = self.path / "failures"
        folder.mkdir(exist_ok=True)
        os.rename(self.result, folder / f"{len(list(folder.iterdir())) + 1}.json")
        sync_path(self.path)

    def read_status(self) -> dict[str, Any]:
        """The last written status, or an empty one."""
        try:
            data = json.loads(self.status.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    def read_config(self) -> dict[str, Any]:
        """The resolved configuration as plain data.

        Raises:
            RunDirError: If it cannot be read.
        """
        try:
            data = yaml.load(self.config.read_text(encoding="utf-8"), Loader=_YAML_LOADER)
        except (OSError, ValueError, yaml.YAMLError) as err:
            raise RunDirError(f"{self.config}: cannot be read ({err}); move the folder away") from err
        if not isinstance(data, dict):
            raise RunDirError(f"{self.config}: holds no configuration; move the folder away")
        return data

    def state(self) -> str:
        """The result's status, or else `running`, `interrupted` (its process died) or `waiting` (never started).

        Raises:
            RunDirError: If there is a result that cannot be read.
        """
        result = self.read_result()
        if result is not None:
            return result.status
        if self.is_held():
            return "running"
        return "interrupted" if self.status.exists() or self.metrics.exists() else "waiting"

    def write_status(self, **fields: Any) -> None:
        """Replaces the status; the time of writing is added."""
        write_json(self.status, {**fields, "pid": os.getpid(), "updated_at": time.time()})

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Holds the run for this process; a second holder is refused. Clears away what a killed holder left half done.

        Raises:
            RunHeldError: If another living process runs here.
            RunDirError: If the folder cannot be written.
        """
        try:
            with disk_told(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                handle = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as err:
            raise RunDirError(
                f"{self.path}: cannot be written ({err.strerror}); set paths.root to a folder that can"
            ) from err
        try:
            if not lock_soon(handle):
                pid = self.read_status().get("pid", "unknown")
                raise RunHeldError(f"{self.path}: already being run by process {pid}; wait for it or stop it")
            self._remove_leftovers()
            yield
        finally:
            os.close(handle)

    def _remove_leftovers(self) -> None:
        for folder in (self.path, self.checkpoints):
            for path in folder.glob(f"*{TEMPORARY_MARK}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def is_held(self) -> bool:
        """Whether a living process runs here now."""
        try:
            handle = os.open(self.lock, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False


def find_run_dirs(root: Path) -> list[RunDir]:
    """Every run directory below `root`, by name."""
    runs = root / "runs"
    if not runs.is_dir():
        return []
    return [RunDir(path) for path in sorted(runs.iterdir()) if (path / "config.yaml").is_file()]


def lock_soon(handle: int) -> bool:
    """Takes the lock, waiting out somebody who only looks whether it is held; False if it stays taken."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_WAIT_S)
        else:
            return True
    return False


def sync_path(path: Path) -> None:
    """Makes a file's content, or the renames in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def disk_told(path: Path) -> Iterator[None]:
    """Turns what a full, read-only or broken disk makes fail into our own error.

    Raises:
        DiskError: If that is why the block failed.
    """
    try:
        yield
    except DiskError:
        raise
    except Exception as err:
        # safetensors has an exception of its own, which carries the system's words alone.
        words = [os.strerror(number) for number in DISK_PROBLEMS]
        reason = os.strerror(err.errno or 0) if isinstance(err, OSError) else str(err)
        if found := next((word for word in words if word in reason), None):
            raise DiskError(
                f"{path}: cannot be written ({found}); see to the disk, then the same command goes on"
            ) from err
        raise


def write_text(path: Path, text: str) -> None:
    """Replaces a file at once: a reader sees the old text or the new one.

    Raises:
        DiskError: If the disk takes no more; the old text is still there.
    """
    partial = path.with_name(f"{path.name}{TEMPORARY_MARK}{os.getpid()}")
    with disk_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_path(path.parent)


def write_json(path: Path, data: Any) -> None:
    """`write_text` of one JSON document; NaN and infinities become null, which JSON can hold."""
    write_text(path, json.dumps(finite(data), indent=1, allow_nan=False, sort_keys=False) + "\n")


def finite(data: Any) -> Any:
    """The same data with every number that is not finite replaced by None."""
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data


@contextlib.contextmanager
def filled_folder(path: Path) -> Iterator[Path]:
    """Gives a temporary folder to fill; it takes the name `path` only when the block ends well.

    Raises:
        FileExistsError: If `path` exists and is no empty folder, before anything is written.
        DiskError: If the disk takes no more; nothing is left of the folder.
    """
    if path.exists() and not (path.is_dir() and next(path.iterdir(), None) is None):
        raise FileExistsError(f"{path}: exists already and is never overwritten")
    partial = path.with_name(f"{path.name}{TEMPORARY_MARK}{os.getpid()}")
    with disk_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            for file in filter(Path.is_file, partial.rglob("*")):
                sync_path(file)
            os.rename(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync_path(path.parent)


def repair_tail(path: Path) -> int:
    """Cuts a torn last line off; returns how many bytes went."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return 0
    if size == 0:
        return 0
    with open(path, "rb+") as file:
        data = file.read()
        keep = data.rfind(b"\n") + 1
        if keep == size:
            return 0
        file.truncate(keep)
        os.fsync(file.fileno())
    return size - keep


def append_line(path: Path, data: Any) -> None:
    """Adds one JSON line, synced; a torn line before it must have been cut off.

    Raises:
        DiskError: If the disk takes no more; the line may be there in part, to be cut off.
    """
    with disk_told(path), open(path, "ab") as file:
        file.write(json.dumps(finite(data)).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole JSON lines of a growing file; a torn last line is left out."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    whole = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines() if line.strip()]


def directory_bytes(path: Path) -> int:
    """Bytes of all files below a folder, as their sizes say."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
