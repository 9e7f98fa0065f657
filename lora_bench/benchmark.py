"""One run: load, adapt, train, measure, record."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from lora_bench import rundir
from lora_bench.config.resolve import config_digest, to_yaml
from lora_bench.config.schema import Dtype, RunConfig, TaskKind
from lora_bench.errors import RunDirError, RunInterrupted
from lora_bench.evaluation import Evaluation, evaluate
from lora_bench.measure import flops, machine, memory
from lora_bench.measure.timing import summarise_steps
from lora_bench.methods import Method, Placed, build_method
from lora_bench.models import max_tokens, read_architecture, target_modules, weights_digest
from lora_bench.models.load import head_modules, load_model, load_tokenizer
from lora_bench.models.split import split_fused
from lora_bench.preflight import cache_folder
from lora_bench.recorder import Recorder, record_failure
from lora_bench.records import MemoryProfile, Provenance, RunResult, Sizes, Timing
from lora_bench.rundir import RunDir
from lora_bench.tasks import TaskData, load_task
from lora_bench.tasks.encode import EncodedSplit, encode
from lora_bench.training.backends import SingleBackend
from lora_bench.training.loop import Loop, Progress, TrainingJob
from lora_bench.training.observer import NullObserver, Observer, Observers

TORCH_DTYPES = {Dtype.fp32: torch.float32, Dtype.bf16: torch.bfloat16}


def run_benchmark(
    config: RunConfig,
    run_dir: RunDir,
    *,
    observer: Observer | None = None,
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
        recorded = run_dir.read_result()
        if recorded is not None and recorded.status != "failed":
            return recorded
        run_dir.archive_failure()
        if not run_dir.config.exists():
            rundir.write_text(run_dir.config, to_yaml(config))
        run = _Run(
            config, run_dir, Observers(recorder := Recorder(run_dir), observer or NullObserver()), stop_requested
        )
        try:
            result = run.train_and_measure()
        except (RunInterrupted, RunDirError):
            raise
        except Exception as err:
            if not memory.is_out_of_memory(err):
                record_failure(config, run_dir, f"{type(err).__name__}: {err}")
                raise
            result = run.out_of_memory(err)
        result = replace(result, notes=[*result.notes, *recorder.notes])
        run_dir.write_result(result)
        shutil.rmtree(run_dir.checkpoints, ignore_errors=True)
        run_dir.write_status(status=result.status, step=result.steps, steps=config.training.max_steps, metrics={})
        run.observer.on_end(result.status)
        return result


@dataclass(frozen=True)
class _Prepared:
    """What loading gives."""

    net: nn.Module
    method: Method
    placed: Placed
    data: TaskData
    train: EncodedSplit
    eval: EncodedSplit
    tokenizer: Any
    load_s: float
    rss_bytes: int | None
    notes: list[str]


class _Run:
    """The state of one call of `run_benchmark`."""

    def __init__(
        self, config: RunConfig, run_dir: RunDir, observer: Observer, stop_requested: Callable[[], bool]
    ) -> None:
        self.config = config
        self.run_dir = run_dir
        self.observer = observer
        self._stop_requested = stop_requested
        self._loop: Loop | None = None
        self._prepared: _Prepared | None = None
        self._evaluation: Evaluation | None = None

    def train_and_measure(self) -> RunResult:
        """The whole way of a run that does not run out of memory."""
        backend = SingleBackend()
        prepared = self._prepared = self._prepare(backend.device)
        # One stream for dropout, the same whatever the method drew for its initialisation.
        torch.manual_seed(self.config.seed)
        loop = self._loop = Loop(self._job(prepared, backend), backend)
        progress = loop.run()
        sizes = self._write_weights(prepared, loop)
        if self._evaluation is not None:
            _write_predictions(self.run_dir, self._evaluation)
        peak_flops = flops.peak_flops_per_s(TORCH_DTYPES[self.config.training.dtype], backend.device)
        return self._result(progress, sizes=sizes, timing=_timing(self.config, prepared, progress, peak_flops))

    def out_of_memory(self, err: BaseException) -> RunResult:
        """The record of a run whose memory did not suffice, with the micro-batch that would."""
        err.__traceback__ = None  # its frames hold the tensors that filled the memory
        largest = self._loop.largest_micro_batch() if self._loop is not None else None
        progress = self._loop.progress if self._loop is not None else Progress()
        advice = f"training.micro_batch_size={largest} fits" if largest else "no micro-batch fits"
        return replace(
            self._result(replace(progress, status="oom"), sizes=None, timing=None),
            error=f"out of memory after {progress.steps} steps ({str(err).splitlines()[0]}); {advice}",
            details={"largest_micro_batch": largest},
        )

    def _prepare(self, device: torch.device) -> _Prepared:
        start = time.perf_counter()
        config, cache = self.config, cache_folder(self.config)
        data = load_task(config.task)
        tokenizer = load_tokenizer(config.model, cache=cache)
        max_length = min(config.task.max_length, max_tokens(read_architecture(config.model)) or config.task.max_length)
        train, held_out = (
            encode(examples, tokenizer, kind=data.kind, max_length=max_length, cache=cache)
            for examples in (data.train, data.eval)
        )
        net = load_model(
            config.model,
            kind=data.kind,
            num_labels=len(data.labels) if data.kind is TaskKind.classification else None,
            cache=cache,
            dtype=TORCH_DTYPES[config.training.dtype],
            seed=config.seed,
            dropout=config.training.dropout,
            pad_token_id=tokenizer.pad_token_id,
        )
        method = build_method(config)
        placed = _place(config, net)
        torch.manual_seed(config.seed)
        net = method.apply(net, placed).to(device)
        return _Prepared(
            net=net,
            method=method,
            placed=placed,
            data=data,
            train=train,
            eval=held_out,
            tokenizer=tokenizer,
            load_s=time.perf_counter() - start,
            rss_bytes=memory.current_rss_bytes(),
            notes=[*data.notes, *filter(None, (train.cut_note("training"), held_out.cut_note("evaluation")))],
        )

    def _job(self, prepared: _Prepared, backend: SingleBackend) -> TrainingJob:
        def evaluate_now() -> dict[str, float]:
            self._evaluation = evaluate(
                prepared.net,
                prepared.eval,
                data=prepared.data,
                task=self.config.task,
                tokenizer=prepared.tokenizer,
                batch_size=self.config.training.eval_batch_size,
                device=backend.device,
            )
            assert self._loop is not None, "it is the loop that evaluates"
            _note_items(self.run_dir, self._loop.progress.steps, self._evaluation)
            return {f"eval/{score.name}": score.value for score in self._evaluation.scores}

        return TrainingJob(
            net=prepared.net,
            training=self.config.training,
            kind=prepared.data.kind,
            split=prepared.train,
            pad_id=prepared.tokenizer.pad_token_id,
            seed=self.config.seed,
            config_digest=config_digest(self.config),
            checkpoints=self.run_dir.checkpoints,
            evaluate=evaluate_now,
            observer=self.observer,
            stop_requested=self._stop_requested,
        )

    def _write_weights(self, prepared: _Prepared, loop: Loop) -> Sizes:
        """Writes what was trained, and a last checkpoint whose size is measured; counts both."""
        shutil.rmtree(self.run_dir.weights, ignore_errors=True)  # of an attempt that was killed before its result
        with rundir.filled_folder(self.run_dir.weights) as folder:
            prepared.method.save(prepared.net, folder)
        resume_bytes = rundir.directory_bytes(loop.checkpoint())
        trained = prepared.method.trained(prepared.net)
        num_trained = sum(parameter.numel() for parameter in trained.values())
        num_head = prepared.method.num_head(prepared.net, prepared.placed)
        return Sizes(
            total_parameters=sum(parameter.numel() for parameter in prepared.net.parameters()),
            trainable_parameters=num_trained,
            adapter_parameters=num_trained - num_head,
            head_parameters=num_head,
            weights_bytes=sum(file.stat().st_size for file in self.run_dir.weights.rglob("*.safetensors")),
            resume_bytes=resume_bytes,
        )

    def _result(self, progress: Progress, *, sizes: Sizes | None, timing: Timing | None) -> RunResult:
        config, prepared, evaluation = self.config, self._prepared, self._evaluation
        return RunResult(
            status=progress.status,
            config_digest=config_digest(config),
            run_name=self.run_dir.path.name,
            model=config.model.name,
            task=config.task.name,
            method=config.method.name,
            headline=prepared.data.headline if prepared else "",
            scores=list(evaluation.scores) if evaluation else [],
            steps=progress.steps,
            epochs=progress.steps * config.training.batch_size / len(prepared.data.train) if prepared else 0.0,
            final_train_loss=progress.last_loss,
            memory=_memory(progress, prepared),
            timing=timing,
            sizes=sizes,
            provenance=_provenance(config, prepared),
            notes=list(prepared.notes) if prepared else [],
        )


def _place(config: RunConfig, net: nn.Module) -> Placed:
    """Finds the placed matrices, with fused ones split where a role asks for a part of one."""
    if config.placement is None:
        return Placed((), tuple(head_modules(net)))
    split_fused(net, config.placement.roles)
    return Placed(tuple(target_modules(net, config.placement.roles)), tuple(head_modules(net)))


def _note_items(run_dir: RunDir, step: int, evaluation: Evaluation) -> None:
    """Each item's own score, more is better: right or wrong where the task says so, else its log-likelihood."""
    is_graded = all("correct" in item for item in evaluation.predictions)
    values = [int(item["correct"]) if is_graded else round(-item["nll"], 5) for item in evaluation.predictions]
    rundir.append_line(run_dir.items, {"step": step, "values": values})


def _write_predictions(run_dir: RunDir, evaluation: Evaluation) -> None:
    lines = (json.dumps(rundir.finite(item), ensure_ascii=False) for item in evaluation.predictions)
    rundir.write_text(run_dir.predictions, "".join(f"{line}\n" for line in lines))


def _memory(progress: Progress, prepared: _Prepared | None) -> MemoryProfile | None:
    """What training has found; None when it ended before the measured step."""
    found: dict[str, Any] = {
        name: value for name, value in progress.memory.items() if name in MemoryProfile.__dataclass_fields__
    }
    if "peak_train_allocated_bytes" in progress.memory:
        found["peak_tensor_bytes"] = progress.memory["peak_train_allocated_bytes"]
    if "peak_tensor_bytes" not in found:
        return None
    parts = ("weight_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes")
    return MemoryProfile(
        **(dict.fromkeys(parts, 0) | found), rss_after_load_bytes=prepared.rss_bytes if prepared else None
    )


def _timing(config: RunConfig, prepared: _Prepared, progress: Progress, peak_flops: float) -> Timing:
    # The step that counts live bytes runs slower; it is no step time.
    kept = [index for index in range(len(progress.step_s)) if index not in set(progress.untimed_steps)]
    times = summarise_steps(
        [progress.step_s[index] for index in kept],
        [progress.step_tokens[index] for index in kept],
        num_warmup=config.training.warmup_timing_steps,
    )
    per_token = flops.flops_per_token(*flops.matrix_parameters(prepared.net))
    achieved = per_token * times.tokens_per_s if times.tokens_per_s else None
    return Timing(
        load_s=prepared.load_s,
        train_s=progress.train_s,
        eval_s=progress.eval_s,
        step_median_ms=times.median_ms,
        step_p10_ms=times.p10_ms,
        step_p90_ms=times.p90_ms,
        num_timed_steps=times.num_timed,
        tokens_per_s=times.tokens_per_s,
        padding_fraction=1 - sum(progress.step_tokens) / progress.padded_tokens if progress.padded_tokens else 0.0,
        flops_per_token=per_token,
        achieved_flops_per_s=achieved,
        peak_flops_per_s=peak_flops,
        utilisation=achieved / peak_flops if achieved else None,
    )


def _provenance(config: RunConfig, prepared: _Prepared | None) -> Provenance:
    return machine.provenance(
        seed=config.seed,
        num_threads=torch.get_num_threads(),
        weights_digest=weights_digest(config.model, cache=cache_folder(config)) if prepared else "",
        data_digest=prepared.data.digest if prepared else "",
    )
