"""One run: load, adapt, train, measure, record."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open

from lora_bench import rundir
from lora_bench.config.processes import GroupConfig
from lora_bench.config.resolve import config_digest, plain_digest, to_yaml
from lora_bench.config.schema import RunConfig
from lora_bench.errors import ExecutionError, RunDirError, RunInterrupted
from lora_bench.evaluation import Evaluation, Sharing, evaluate
from lora_bench.manifest import write_manifest
from lora_bench.measure import machine, memory
from lora_bench.models import weights_digest
from lora_bench.preflight import cache_folder
from lora_bench.prepared import Prepared, prepare
from lora_bench.recorder import Recorder, record_failure
from lora_bench.records import GroupUse, RunResult
from lora_bench.rundir import RunDir
from lora_bench.summary import (
    largest,
    summarise_group,
    summarise_memory,
    summarise_timing,
)
from lora_bench.tasks import Example
from lora_bench.tasks.encode import EncodedSplit
from lora_bench.training.backends import Backend, SingleBackend
from lora_bench.training.backends.group import is_from_elsewhere
from lora_bench.training.loop import EarlierRun, Loop, Progress, TrainingJob
from lora_bench.training.observer import NullObserver, Observer, Observers

RANK_SEED = 1_000_003
"""Between the seeds of processes, so that no usual seed of one run is that of another's process."""


def run_benchmark(
    config: RunConfig,
    run_dir: RunDir,
    *,
    observer: Observer | None = None,
    command: str = "",
    stop_requested: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Trains a resolved configuration once and records everything in its directory; a recorded run is returned.

    A run that diverges or runs out of memory ends in a result that says so. A run that was killed goes on from
    its last checkpoint; one that failed is tried again, and the record of the failure is kept.

    Raises:
        RunInterrupted: When `stop_requested` said so; the same call goes on.
        RunDirError: If another process runs this configuration, or the directory cannot be written.
        Exception: Whatever made the run fail, after it was recorded as `failed`.
    """
    with run_dir.hold():
        recorded = begin(config, run_dir)
        if recorded is not None:
            return recorded
        with failure_recorded(config, run_dir):
            result = carry_out(
                config,
                run_dir,
                SingleBackend(),
                observer=observer,
                command=command,
                stop_requested=stop_requested,
            )
        assert result is not None, "the only process records"
        return result


def begin(config: RunConfig, run_dir: RunDir) -> RunResult | None:
    """In a directory that is held: its record if there is one that stands, else a directory that is ready."""
    for problem in run_dir.set_damage_aside():
        print(f"{problem}; moved to {run_dir.path / 'damaged'}", flush=True)
    recorded = run_dir.read_result()
    if recorded is not None and recorded.status != "failed":
        shutil.rmtree(run_dir.checkpoints, ignore_errors=True)  # of a holder that was killed after its record
        return recorded
    run_dir.archive_failure()
    rundir.write_text(run_dir.config, to_yaml(config))
    return None


@contextlib.contextmanager
def failure_recorded(config: RunConfig, run_dir: RunDir) -> Iterator[None]:
    """Around a process's part of a run: what makes it fail is recorded, by the first process that meets it.

    A stop on request is no failure, a directory that cannot be written cannot record one, and what ended another
    process is recorded by that one.
    """
    try:
        yield
    except (RunInterrupted, RunDirError):
        raise
    except Exception as err:
        if not is_from_elsewhere(err) and run_dir.read_result() is None:
            record_failure(config, run_dir, f"{type(err).__name__}: {err}")
        raise


def carry_out(
    config: RunConfig,
    run_dir: RunDir,
    backend: Backend,
    *,
    observer: Observer | None = None,
    command: str = "",
    stop_requested: Callable[[], bool] = lambda: False,
    notes: Sequence[str] = (),
) -> RunResult | None:
    """One process's part of a run whose directory is held and ready; the first process records, and has the result.

    The process whose memory does not suffice records that itself, whichever it is: the others wait for it in a sum
    that it will not join, and have to be ended.

    Raises:
        As `run_benchmark`.
    """
    recorder = Recorder(run_dir) if backend.is_first else None
    observers = Observers(recorder, observer or NullObserver()) if recorder is not None else Observers()
    for note in notes:
        observers.on_note(note)
    run = _Run(config, run_dir, backend, observers, command, stop_requested)
    try:
        result = run.train_and_measure()
    except Exception as err:
        if not memory.is_out_of_memory(err):
            raise
        result = run.out_of_memory(err)
    if result is None:
        return None
    if recorder is not None:
        recorder.check_folder()
        result = replace(result, notes=[*result.notes, *recorder.notes])
    run_dir.write_result(result)
    shutil.rmtree(run_dir.checkpoints, ignore_errors=True)
    run_dir.write_status(status=result.status, step=result.steps, steps=config.training.max_steps, metrics={})
    run.observer.on_end(result.status)
    return result


class _Run:
    """The state of one call of `carry_out`."""

    def __init__(
        self,
        config: RunConfig,
        run_dir: RunDir,
        backend: Backend,
        observer: Observer,
        command: str,
        stop_requested: Callable[[], bool],
    ) -> None:
        self.config = config
        self.run_dir = run_dir
        self.observer = observer
        self._backend = backend
        self._command = command
        self._stop_requested = stop_requested
        self._loop: Loop | None = None
        self._prepared: Prepared | None = None
        self._validation: Evaluation | None = None
        self._validated_step = -1
        self._test: Evaluation | None = None

    def train_and_measure(self) -> RunResult | None:
        """The whole way of a run that does not run out of memory; the record is made by the first process."""
        backend = self._backend
        prepared = self._prepared = prepare(self.config, device=backend.device, tell=self.observer.on_note)
        # One stream for dropout, the same whatever the method drew for its initialisation; another for each process.
        torch.manual_seed(self.config.seed + RANK_SEED * backend.rank)
        loop = self._loop = Loop(self._job(prepared, backend), backend)
        progress = loop.run()
        if progress.status == "finished":
            loop.measure_evaluation(self._evaluate_test)
        weights_bytes, resume_bytes = self._write_weights(prepared, loop)
        use = self._group_use(prepared, progress)
        if not backend.is_first:
            return None
        result = self._result(progress)
        if use is not None:
            result = replace(result, memory=largest(use.memory), processes=use)
        sizes = replace(prepared.sizes, weights_bytes=weights_bytes, resume_bytes=resume_bytes)
        return replace(result, sizes=sizes)

    def out_of_memory(self, err: BaseException) -> RunResult:
        """The record of a run whose memory did not suffice, with the micro-batch that would."""
        cause = (str(err) or type(err).__name__).splitlines()[0]
        err.__traceback__ = None  # its frames hold the tensors that filled the memory
        progress = replace(self._loop.progress if self._loop is not None else Progress(), status="oom")
        fitting = None
        if self._loop is None:
            where, advice = "while loading", "a smaller model, or training.dtype=bf16, needs less"
        elif progress.phase == "evaluation":
            where, advice = "in an evaluation", f"lower training.eval_batch_size={self.config.training.eval_batch_size}"
        else:
            where, fitting = "in training", self._fitting_micro_batch()
            advice = f"training.micro_batch_size={fitting} fits" if fitting else "no micro-batch fits"
        if self._backend.num_processes > 1:
            where += f" of process {self._backend.rank}"
            advice = "a smaller training.micro_batch_size, or more processes, need less"
        progress.error = f"out of memory {where} after {progress.steps} steps ({cause}); {advice}"
        result = self._result(progress)
        return replace(result, details={**result.details, "largest_micro_batch": fitting})

    def _fitting_micro_batch(self) -> int | None:
        """Not looked for among several processes: the others are not there to take steps with."""
        assert self._loop is not None, "memory ran out in its steps"
        return self._loop.largest_micro_batch() if self._backend.num_processes == 1 else None

    def _job(self, prepared: Prepared, backend: Backend) -> TrainingJob:
        return TrainingJob(
            net=prepared.net,
            method=prepared.method,
            training=self.config.training,
            kind=prepared.data.kind,
            split=prepared.train,
            pad_id=prepared.tokenizer.pad_token_id,
            seed=self.config.seed,
            config_digest=config_digest(self.config),
            data_digest=prepared.data.digest,
            checkpoints=self.run_dir.checkpoints,
            head_modules=prepared.placed.head_modules,
            earlier=_earlier_run(self.config),
            evaluate=self._evaluate_validation,
            observer=self.observer,
            stop_requested=self._stop_requested,
        )

    def _evaluate_validation(self) -> dict[str, float]:
        assert self._prepared is not None, "the loop asks"
        assert self._loop is not None, "the loop asks"
        evaluation = self._evaluate(self._prepared.validation, self._prepared.data.validation)
        self._validation, self._validated_step = evaluation, self._loop.progress.steps
        if self._backend.is_first:
            _note_items(self.run_dir, self._validated_step, evaluation)
        return {f"eval/{score.name}": score.value for score in evaluation.scores}

    def _evaluate_test(self) -> dict[str, float]:
        assert self._prepared is not None, "called after training"
        self._test = self._evaluate(self._prepared.test, self._prepared.data.test)
        return {f"test/{score.name}": score.value for score in self._test.scores}

    def _evaluate(self, split: EncodedSplit, items: Sequence[Example]) -> Evaluation:
        prepared, backend = self._prepared, self._backend
        assert prepared is not None, "there is something to evaluate"
        assert self._loop is not None, "it has been built by now"
        evaluation = evaluate(
            prepared.net,
            split,
            items=items,
            data=prepared.data,
            task=self.config.task,
            tokenizer=prepared.tokenizer,
            batch_size=self.config.training.eval_batch_size,
            device=backend.device,
            sharing=Sharing(backend.rank, backend.num_processes, total=backend.total, in_step=backend.splits_weights),
        )
        self._loop.progress.generate_s += evaluation.generate_s
        return evaluation

    def _write_weights(self, prepared: Prepared, loop: Loop) -> tuple[int, int]:
        """Writes what was trained, and a last checkpoint; the bytes of the weights, and of what a resume needs."""
        checkpoint = loop.checkpoint()
        with self._backend.whole_weights(set(prepared.method.saved(prepared.net))):
            if not self._backend.is_first:
                return 0, 0
            shutil.rmtree(self.run_dir.weights, ignore_errors=True)  # of an attempt that was killed before its result
            with rundir.filled_folder(self.run_dir.weights) as folder:
                prepared.method.save(prepared.net, folder)
                if self._backend.splits_weights:
                    _check_whole(folder)
                write_manifest(folder)
        weights_bytes = sum(file.stat().st_size for file in self.run_dir.weights.rglob("*.safetensors"))
        return weights_bytes, rundir.directory_bytes(checkpoint)

    def _group_use(self, prepared: Prepared, progress: Progress) -> GroupUse | None:
        if not isinstance(self.config.processes, GroupConfig):
            return None
        own = summarise_memory(progress, rss_after_load_bytes=prepared.rss_bytes)
        return summarise_group(self.config.processes, self._backend, own, progress.train_s)

    def _result(self, progress: Progress) -> RunResult:
        config, prepared = self.config, self._prepared
        # Scores belong to the weights that the run ended with, not to those of an evaluation on the way.
        validation = self._validation if self._validated_step == progress.steps else None
        if self._backend.is_first:
            _write_predictions(self.run_dir.predictions, self._test)
            _write_predictions(self.run_dir.validation_predictions, validation)
        return RunResult(
            status=progress.status,
            config_digest=config_digest(config),
            run_name=self.run_dir.path.name,
            model=config.model.name,
            task=config.task.name,
            method=config.method.name,
            headline=prepared.data.headline if prepared else "",
            scores=list(self._test.scores) if self._test else [],
            validation=list(validation.scores) if validation else [],
            steps=progress.steps,
            epochs=progress.steps * config.training.batch_size / len(prepared.data.train) if prepared else 0.0,
            final_train_loss=progress.last_loss,
            memory=summarise_memory(progress, rss_after_load_bytes=prepared.rss_bytes) if prepared else None,
            timing=summarise_timing(config, prepared, progress) if prepared else None,
            sizes=prepared.sizes if prepared else None,
            provenance=machine.provenance(
                seed=config.seed,
                num_threads=torch.get_num_threads() * self._backend.num_processes,
                weights_digest=weights_digest(config.model, cache=cache_folder(config)) if prepared else "",
                data_digest=prepared.data.digest if prepared else "",
                command=self._command,
            ),
            notes=[*(prepared.notes if prepared else []), *self._backend.notes],
            error=progress.error,
            details={"max_tokens": prepared.train.max_length} if prepared else {},
        )


def _check_whole(folder: Path) -> None:
    """Raises an ExecutionError if a tensor without numbers was saved, as one that was split among processes is."""
    for file in folder.rglob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            empty = [name for name in tensors.keys() if 0 in tensors.get_slice(name).get_shape()]  # noqa: SIM118  # no dict
        if empty:
            raise ExecutionError(f"{file}: {empty[0]} was saved without its numbers; nothing was recorded")


def _earlier_run(config: RunConfig) -> EarlierRun | None:
    if not isinstance(config.processes, GroupConfig) or config.processes.resume_from is None:
        return None
    directory = RunDir(Path(config.processes.resume_from).expanduser())
    return EarlierRun(directory.checkpoints, plain_digest(directory.read_config()))


def _note_items(run_dir: RunDir, step: int, evaluation: Evaluation) -> None:
    """Each item's own score, more is better: right or wrong where the task says so, else its log-likelihood."""
    is_graded = all("correct" in item for item in evaluation.predictions)
    values = [int(item["correct"]) if is_graded else round(-item["nll"], 5) for item in evaluation.predictions]
    rundir.append_line(run_dir.items, {"step": step, "values": values})


def _write_predictions(path: Path, evaluation: Evaluation | None) -> None:
    if evaluation is None:
        return
    lines = (json.dumps(rundir.finite(item), ensure_ascii=False) for item in evaluation.predictions)
    rundir.write_text(path, "".join(f"{line}\n" for line in lines), is_data=True)
