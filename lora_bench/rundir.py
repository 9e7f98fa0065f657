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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_bench import reading
from lora_bench.errors import DiskError, NewerRecordError, RecordError, RunDirError, RunHeldError
from lora_bench.reading import damaged
from lora_bench.records import RunResult, UnknownFieldError, from_json, to_json
from lora_bench.redact import redact
from lora_bench.shapes import config_problem, items_problem, metrics_problem, prediction_problem, status_problem

TEMPORARY_MARK = ".partial-"
DISK_PROBLEMS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
"""What a disk says when it is full, over a quota, read-only or broken."""
PEFT_CONFIG_FILE = "adapter_config.json"
"""What PEFT looks for in a folder: there where `PeftModel.from_pretrained` on the plain model is the run."""
OWN_CONFIG_FILE = "lora_bench_adapter.json"
"""The same content where it is not (parts of fused matrices, a changed base): PEFT would drop or misread it."""
LOCK_TRIES = 10
LOCK_WAIT_S = 0.03

RESULT_REMEDY = "the same run.py command moves it aside and trains again; or bring it back from a copy"
CONFIG_REMEDY = "bring it back from a copy, or move the folder away"
LINES_REMEDY = "take the line out, or move the file away"


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
            RecordError: If the file is there and cannot be read as a result.
        """
        try:
            return from_json(RunResult, reading.read_json(self.result, remedy=RESULT_REMEDY))
        except FileNotFoundError:
            return None
        except UnknownFieldError as err:
            problem = f"written by a newer version ({err}); read it with that one, or move the folder away"
            raise NewerRecordError(f"{self.result}: {problem}") from err
        except ValueError as err:
            raise damaged(self.result, f"is no result ({err})", RESULT_REMEDY) from err

    def set_damage_aside(self) -> list[str]:
        """In a directory that is held: moves every file aside that a run reads and that is damaged; returns why.

        What was moved is in `damaged/`. A result of a newer version is not damaged.

        Raises:
            NewerRecordError: If there is one.
        """
        found = []
        checks: list[tuple[Path, Callable[[], object]]] = [
            (self.result, self.read_result),
            (self.config, self.read_config),
            (self.status, self.check_status),
            (self.metrics, self.read_metrics),
            (self.items, self.read_items),
            (self.predictions, self.read_predictions),
            (self.validation_predictions, lambda: self.read_predictions(self.validation_predictions)),
            (self.stop_request, lambda: reading.read_text(self.stop_request)),
        ]
        for path, check in checks:
            if not os.path.lexists(path):
                continue
            try:
                check()
            except NewerRecordError:
                raise
            except RecordError as err:
                set_aside(path)
                found.append(str(err).rpartition("; ")[0])
        return found

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
        if folder.exists() and not folder.is_dir():
            set_aside(folder)
        folder.mkdir(exist_ok=True)
        os.rename(self.result, folder / f"{len(list(folder.iterdir())) + 1}.json")
        sync_path(self.path)

    def read_status(self) -> dict[str, Any]:
        """The last written status, or an empty one; what of it is not of its type is left out.

        It only says how far a run is, so that a damaged one is no error here; `check_status` says what is wrong.
        """
        try:
            data = reading.read_json(self.status)
        except (FileNotFoundError, RecordError):
            return {}
        return {key: value for key, value in data.items() if not status_problem(key, value)}

    def check_status(self) -> None:
        """Raises a RecordError if the status is damaged."""
        with contextlib.suppress(FileNotFoundError):
            for key, value in reading.read_json(self.status).items():
                if problem := status_problem(key, value):
                    raise damaged(self.status, problem)

    def read_config(self) -> dict[str, Any]:
        """The resolved configuration as plain data.

        The keys that every run has are there, and those of `CONFIG_TYPES` are of their type.

        Raises:
            RecordError: If it cannot be read, or is no configuration.
        """
        try:
            data = reading.read_yaml(self.config, remedy=CONFIG_REMEDY)
        except FileNotFoundError as err:
            raise damaged(self.config, "is not there", CONFIG_REMEDY) from err
        if problem := config_problem(data):
            raise damaged(self.config, f"holds no configuration ({problem})", CONFIG_REMEDY)
        return data

    def read_metrics(self) -> list[dict[str, Any]]:
        """The whole lines of `metrics.jsonl`: `step`, `timestamp_ms`, and `metrics` with numbers or None.

        Raises:
            RecordError: If a line is something else.
        """
        return self._read_checked(self.metrics, metrics_problem)

    def read_items(self) -> list[dict[str, Any]]:
        """The whole lines of `items.jsonl`: `step`, and `values` with a number for each item.

        Raises:
            RecordError: If a line is something else.
        """
        return self._read_checked(self.items, items_problem)

    def read_predictions(self, path: Path | None = None) -> list[dict[str, Any]]:
        """The predictions over the test items, or those in `path`; none if the run stored none.

        Raises:
            RecordError: If a line is something else.
        """
        return self._read_checked(path or self.predictions, prediction_problem)

    def _read_checked(self, path: Path, find_problem: Callable[[dict[str, Any]], str | None]) -> list[dict[str, Any]]:
        lines = reading.read_objects(path, remedy=LINES_REMEDY)
        for number, line in enumerate(lines, start=1):
            if problem := find_problem(line):
                raise damaged(path, f"line {number} {problem}", LINES_REMEDY)
        return lines

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
                f"{self.path}: cannot be written ({err.strerror}); make it writable, or set another paths.root"
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
            # Only read, so that it can be asked in a folder of somebody else.
            handle = os.open(self.lock, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False


def find_run_dirs(root: Path) -> list[RunDir]:
    """Every run directory below `root`, by name; also those whose files are damaged.

    Raises:
        RecordError: If the folder of the runs cannot be listed.
    """
    runs = list_folder(root / "runs")
    return [run for run in map(RunDir, runs) if os.path.lexists(run.config) or os.path.lexists(run.result)]


def list_folder(path: Path) -> list[Path]:
    """What is in a folder, by name; nothing if it is not there.

    Raises:
        RecordError: If it cannot be listed, or is no folder.
    """
    try:
        return sorted(path.iterdir())
    except FileNotFoundError:
        return []
    except OSError as err:
        raise damaged(path, f"cannot be listed ({err.strerror})", "make it a folder that this user can read") from err


def set_aside(path: Path) -> None:
    """Moves a file, or whatever is in its place, into `damaged/` beside it."""
    folder = path.parent / "damaged"
    with disk_told(path):
        folder.mkdir(exist_ok=True)
        number = sum(1 for entry in folder.iterdir() if entry.name.startswith(f"{path.name}.")) + 1
        os.rename(path, folder / f"{path.name}.{number}")
        sync_path(path.parent)


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


def write_text(path: Path, text: str, *, is_data: bool = False) -> None:
    """Replaces a file at once: a reader sees the old text or the new one.

    Passwords are taken out of it, unless `is_data` says that it holds a user's texts, which stay as they are.

    Raises:
        DiskError: If the disk takes no more; the old text is still there.
    """
    partial = path.with_name(f"{path.name}{TEMPORARY_MARK}{os.getpid()}")
    with disk_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "w", encoding="utf-8") as file:
                file.write(text if is_data else redact(text))
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
    if not path.is_file() or not path.stat().st_size:
        return 0
    with open(path, "rb+") as file:
        data = file.read()
        keep = data.rfind(b"\n") + 1
        if keep < len(data):
            file.truncate(keep)
            os.fsync(file.fileno())
    return len(data) - keep


def append_line(path: Path, data: Any) -> None:
    """Adds one JSON line, synced; a torn line before it must have been cut off.

    Raises:
        DiskError: If the disk takes no more; the line may be there in part, to be cut off.
    """
    with disk_told(path), open(path, "ab") as file:
        file.write(redact(json.dumps(finite(data))).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole JSON lines of a growing file; a torn last line is left out.

    Raises:
        RecordError: If a line is no JSON object.
    """
    return reading.read_objects(path, remedy=LINES_REMEDY)


def directory_bytes(path: Path) -> int:
    """Bytes of all files below a folder, as their sizes say."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
