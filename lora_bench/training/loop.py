"""The training loop: one optimiser step after another, measured, checkpointed and resumable.

It is given everything it works on and knows nothing of trackers, studies or terminals.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lora_bench.config.schema import TaskKind, TrainingConfig
from lora_bench.errors import CheckpointError, RunInterrupted
from lora_bench.measure import memory
from lora_bench.methods.base import Method, is_below
from lora_bench.tasks.collate import collate
from lora_bench.tasks.encode import EncodedSplit
from lora_bench.training import checkpoint
from lora_bench.training.backends.base import Backend
from lora_bench.training.batches import BatchPlan, split_micro_batches
from lora_bench.training.loss import count_targets, summed_loss
from lora_bench.training.observer import Observer
from lora_bench.training.optimizer import learning_rate

MEMORY_SEARCH_STEPS = 1000
"""Steps among which the one with the largest padded batch is looked for."""
OF_METHOD, OF_GENERATOR = "method.", "generator."
"""Before the names of what the method itself, and torch's generators, keep in a checkpoint."""


@dataclass
class Progress:
    """What has happened so far; it travels in checkpoints, so that a resumed run measures as one run."""

    status: str = "running"
    steps: int = 0
    last_loss: float | None = None
    error: str | None = None
    phase: str = "training"
    """`training` or `evaluation`: where an exception came from."""
    step_s: list[float] = field(default_factory=list)
    step_tokens: list[int] = field(default_factory=list)
    padded_tokens: int = 0
    untimed_steps: list[int] = field(default_factory=list)
    train_s: float = 0.0
    eval_s: float = 0.0
    generate_s: float = 0.0
    memory: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class EarlierRun:
    """A run that differs in its processes alone."""

    checkpoints: Path
    config_digest: str


@dataclass(frozen=True)
class TrainingJob:
    """What a loop works on."""

    net: nn.Module
    method: Method
    """What made `net` trainable; it may take part in each step."""
    training: TrainingConfig
    kind: TaskKind
    split: EncodedSplit
    pad_id: int
    seed: int
    config_digest: str
    data_digest: str
    """Of the task; a checkpoint of other data is refused."""
    checkpoints: Path
    evaluate: Callable[[], dict[str, float]]
    """Evaluate the network as it is on the validation items; return the metrics with their `eval/` names."""
    observer: Observer
    stop_requested: Callable[[], bool]
    head_modules: Sequence[str] = ()
    """Trained at `training.head_lr`, where that is set."""
    earlier: EarlierRun | None = None
    """Whose newest checkpoint is gone on from where this run has none."""

    def lr_factor(self, name: str) -> float:
        """Return the rate of a trained parameter as a multiple of `training.lr`."""
        head_lr = self.training.head_lr
        if head_lr is not None and is_below(name, self.head_modules):
            return head_lr / self.training.lr
        return self.method.lr_factor(name)


class Loop:
    """Trains a network by a plan of batches; `run` is called once."""

    def __init__(self, job: TrainingJob, backend: Backend) -> None:
        self._job = job
        self._backend = backend
        self._plan = BatchPlan(
            job.split.lengths,
            batch_size=job.training.batch_size,
            seed=job.seed,
            padded_apart=job.split.padded_apart,
        )
        factors = [job.lr_factor(name) for name, p in job.net.named_parameters() if p.requires_grad]
        self._net = backend.prepare(job.net, job.training, factors)
        self._memory_step = self._largest_step()
        self._has_evaluated = False
        self.progress = Progress()

    def run(self) -> Progress:
        """Trains to the end, from the newest checkpoint if there is one.

        Raises:
            RunInterrupted: When `stop_requested` said so; a checkpoint was written.
            CheckpointError: If a checkpoint is of another configuration, or the run to go on from has none.
        """
        first_step = self._resume()
        job, progress = self._job, self.progress
        if progress.status in ("diverged", "pruned"):
            return progress  # killed between this end and its record
        job.observer.on_start(num_steps=job.training.max_steps, first_step=first_step)
        self._net.train()
        self._reset_peaks()
        for step in range(first_step, job.training.max_steps):
            loss, norm = self._timed_step(step)
            progress.steps, progress.last_loss = step + 1, loss
            if not math.isfinite(loss) or not math.isfinite(norm):
                self._diverge(f"loss {loss} and gradient norm {norm} at step {step + 1}")
                job.observer.on_log(step + 1, self._train_metrics(step, loss, norm))
                break
            if self._after_step(step, loss, norm):
                progress.status = "pruned"
                break
            if progress.status == "diverged":
                break
        else:
            progress.status = "finished" if progress.status == "running" else progress.status
        self._note_peak("train")
        if progress.status != "diverged" and not self._has_evaluated:
            # A resume from the very last checkpoint has trained nothing; its predictions are still wanted.
            self._evaluate(progress.steps)
        return progress

    def checkpoint(self) -> Path:
        """Writes the state as it stands; returns the checkpoint's folder. Every process calls it, the first writes."""
        tensors = self._backend.training_state() | self._backend.of_all(OF_GENERATOR, checkpoint.generator_tensors())
        tensors |= {f"{OF_METHOD}{name}": value for name, value in self._job.method.training_state().items()}
        path = checkpoint.folder_of(self._job.checkpoints, self.progress.steps)
        if self._backend.is_first:
            state = checkpoint.TrainingState(self.progress.steps, tensors, vars(self.progress).copy())
            checkpoint.save_checkpoint(
                self._job.checkpoints, state, config_digest=self._job.config_digest, data_digest=self._job.data_digest
            )
            self._job.observer.on_checkpoint(self.progress.steps)
        return path

    def largest_micro_batch(self) -> int | None:
        """After running out of memory in training: the largest micro-batch that fits, or None.

        Tries the divisors of the batch, from half of what failed downwards, on the longest items of the plan, with
        real steps: the run is over, its weights are not kept.
        """
        training = self._job.training
        failed = training.micro_batch_size or training.batch_size
        self._net.train()
        for size in (size for size in range(failed // 2, 0, -1) if training.batch_size % size == 0):
            try:
                self._clear_gradients()
                # Two micro-batches, so that gradients lie beside activations; two steps, so that all state exists.
                parts = split_micro_batches(self._plan.batch(self._memory_step), size)[:2]
                for _ in range(2):
                    self._step(0, [self._collate(part) for part in parts])
            except Exception as err:
                if not memory.is_out_of_memory(err):
                    raise
                continue
            return size
        return None

    def _clear_gradients(self) -> None:
        self._backend.clear_gradients()
        gc.collect()
        if self._backend.device.type == "cuda":
            torch.cuda.empty_cache()

    def _diverge(self, how: str) -> None:
        self.progress.status, self.progress.error = (
            "diverged",
            f"diverged: {how}; a lower training.lr is the usual cure",
        )

    def _after_step(self, step: int, loss: float, norm: float) -> bool:
        """Logs, evaluates, checkpoints; whether to stop here."""
        job, training, done = self._job, self._job.training, step + 1
        is_last = done == training.max_steps
        if done % training.log_every == 0 or is_last:
            job.observer.on_log(done, self._train_metrics(step, loss, norm))
        wants_stop = False
        if is_last or (training.eval_every and done % training.eval_every == 0):
            wants_stop = self._evaluate(done) and not is_last
        interrupted = self._backend.any(job.stop_requested()) and not is_last
        if self.progress.status == "diverged":
            return False
        if interrupted or (training.checkpoint_every and (done % training.checkpoint_every == 0) and not is_last):
            self.checkpoint()
        if interrupted:
            raise RunInterrupted(f"stopped on request after step {done}; the same command goes on from there")
        return wants_stop

    def _timed_step(self, step: int) -> tuple[float, float]:
        micro_batches = self._micro_batches(step)
        counted = self._job.split.lengths[self._plan.batch(step)]
        is_memory_step = step == self._memory_step
        self._backend.synchronise()
        start = time.perf_counter()
        if is_memory_step:
            loss, norm = self._step_with_memory(step, micro_batches)
        else:
            loss, norm = self._step(step, micro_batches)
        self._backend.synchronise()
        seconds = time.perf_counter() - start
        progress = self.progress
        progress.train_s += seconds
        own_padded = sum(
            batch[name].numel()
            for batch in micro_batches
            for name in ("input_ids", "decoder_input_ids")
            if name in batch
        )
        progress.padded_tokens += int(self._backend.total_of(own_padded))
        if is_memory_step:
            progress.untimed_steps.append(step)
        progress.step_s.append(seconds)
        progress.step_tokens.append(int(counted.sum()))
        return loss, norm

    def _step(
        self, step: int, micro_batches: list[dict[str, Tensor]], watch: _Watch | None = None
    ) -> tuple[float, float]:
        """One optimiser step; returns the mean loss over its targets and the gradient norm before clipping (NaN after
        a loss that is not finite)."""
        method, backend = self._job.method, self._backend
        own_targets = sum(count_targets(batch, self._job.kind) for batch in micro_batches)
        # The mean is over the targets of all processes, and gradients become means over processes.
        num_targets = backend.total_of(own_targets) / backend.num_processes
        total = torch.zeros((), device=backend.device)
        for index, batch in enumerate(micro_batches):
            with backend.micro_batch(is_last=index == len(micro_batches) - 1):
                loss = summed_loss(self._net, batch, self._job.kind) / num_targets
                if watch is not None:
                    watch.after_forward()
                backend.backward(loss)
            total += loss.detach()
        if (penalty := method.penalty(self._job.net)) is not None:
            backend.backward(penalty)
        if watch is not None:
            watch.after_backward()
        loss_value = backend.total_of(float(total)) / backend.num_processes
        if not math.isfinite(loss_value):
            return loss_value, math.nan
        norm = backend.update(
            learning_rate(step, self._job.training),
            max_norm=self._job.training.max_grad_norm,
            before_clearing=lambda: method.after_step(self._job.net, step + 1),
        )
        return loss_value, norm

    def _step_with_memory(self, step: int, micro_batches: list[dict[str, Tensor]]) -> tuple[float, float]:
        """The same step under a count of live bytes; the numbers it computes are the same."""
        weights = self._backend.weights(self._job.net)
        if self._backend.device.type == "cuda":
            watch = _Watch(lambda: torch.cuda.memory_allocated(self._backend.device), self._backend)
            outcome = self._step(step, micro_batches, watch)
        else:
            inputs = [tensor for batch in micro_batches for tensor in batch.values()]
            with memory.LiveBytes([*weights, *self._backend.held()[0], *inputs]) as live:
                watch = _Watch(lambda: live.current_bytes, self._backend)
                outcome = self._step(step, micro_batches, watch)
            self.progress.memory["peak_tensor_bytes"] = live.peak_bytes
        self.progress.memory |= {
            "weight_bytes": memory.storage_bytes(weights),
            "gradient_bytes": watch.gradient_bytes,
            "optimizer_bytes": memory.storage_bytes(self._backend.held()[0]),
            "activation_bytes": watch.activation_bytes,
        }
        return outcome

    def _micro_batches(self, step: int) -> list[dict[str, Tensor]]:
        own = self._backend.share(self._plan.batch(step))
        parts = split_micro_batches(own, self._job.training.micro_batch_size)
        return [self._collate(part) for part in parts]

    def _collate(self, items: NDArray[np.int64]) -> dict[str, Tensor]:
        batch = collate(self._job.split, items, pad_id=self._job.pad_id, side="right")
        return {name: tensor.to(self._backend.device) for name, tensor in batch.items()}

    def _train_metrics(self, step: int, loss: float, norm: float) -> dict[str, float]:
        seconds, tokens = self.progress.step_s[-1], self.progress.step_tokens[-1]
        return {
            "train/loss": loss,
            "train/grad_norm": norm,
            "train/lr": learning_rate(step, self._job.training),
            "time/step_ms": 1e3 * seconds,
            "perf/tokens_per_s": tokens / seconds,
        }

    def _evaluate(self, done: int) -> bool:
        metrics = self.measure_evaluation(self._job.evaluate)
        self._has_evaluated = True
        self._net.train()
        return self._backend.any(self._job.observer.on_eval(done, metrics))

    def measure_evaluation(self, evaluate: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Run an evaluation under the clock and the memory peaks of evaluations; scores that are not finite end the run
        as diverged."""
        self._note_peak("train")
        start = time.perf_counter()
        self.progress.phase = "evaluation"
        metrics = evaluate()
        self.progress.phase = "training"
        if not all(math.isfinite(value) for value in metrics.values()):
            self._diverge(f"an evaluation after step {self.progress.steps} gave {metrics}")
        self._backend.synchronise()
        self.progress.eval_s += time.perf_counter() - start
        self._note_peak("eval")
        return metrics

    def _reset_peaks(self) -> None:
        memory.reset_peak_rss()
        if self._backend.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._backend.device)

    def _note_peak(self, phase: str) -> None:
        """Keeps the largest peak of the phase that ends here, and starts the next one."""
        found: dict[str, int | None] = {f"peak_{phase}_rss_bytes": memory.peak_rss_bytes()}
        if self._backend.device.type == "cuda":
            found[f"peak_{phase}_allocated_bytes"] = torch.cuda.max_memory_allocated(self._backend.device)
            found[f"peak_{phase}_reserved_bytes"] = torch.cuda.max_memory_reserved(self._backend.device)
        for name, value in found.items():
            if value is not None:
                self.progress.memory[name] = max(value, self.progress.memory.get(name, 0))
        self._reset_peaks()

    def _largest_step(self) -> int:
        """The step with the most padded tokens, after the first, which makes the optimiser's state."""
        last = min(self._job.training.max_steps, MEMORY_SEARCH_STEPS)
        return max(range(1, last), key=self._plan.padded_tokens, default=0)

    def _resume(self) -> int:
        """Takes the newest whole checkpoint up; returns the step to start with."""
        job = self._job
        state, notes = checkpoint.load_newest(
            job.checkpoints, config_digest=job.config_digest, data_digest=job.data_digest
        )
        is_earlier = state is None and job.earlier is not None
        if is_earlier and job.earlier is not None:
            state, more = checkpoint.load_newest(
                job.earlier.checkpoints, config_digest=job.earlier.config_digest, data_digest=job.data_digest
            )
            notes += more
            if state is None:
                why = "; ".join(more) or "none is left"
                raise CheckpointError(f"{job.earlier.checkpoints}: there is no checkpoint to go on from: {why}")
        for note in notes:
            job.observer.on_note(note)
        if state is None:
            return 0
        self._backend.restore(state.tensors)
        checkpoint.restore_generators(_named_below(self._backend.mark(OF_GENERATOR), state.tensors))
        self._job.method.restore_training_state(self._job.net, _named_below(OF_METHOD, state.tensors))
        self.progress = Progress(**state.scalars)
        whose = ""
        if is_earlier and job.earlier is not None:
            # Its memory and times are not this run's.
            self.progress = Progress(steps=state.step, last_loss=self.progress.last_loss)
            whose = f" of {job.earlier.checkpoints.parent.name}"
        # As at the start, the first steps are slow: memory is allocated and kernels are chosen anew.
        cold = range(state.step, state.step + self._job.training.warmup_timing_steps)
        self.progress.untimed_steps.extend(cold)
        job.observer.on_note(f"resumed from the checkpoint of step {state.step}{whose}")
        return state.step


def _named_below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


class _Watch:
    """Reads the count of live bytes at the two moments of a step that define its parts."""

    def __init__(self, live_bytes: Callable[[], int], backend: Backend) -> None:
        self._live_bytes = live_bytes
        self._backend = backend
        self._before_bytes = live_bytes()
        self.activation_bytes = 0
        self.gradient_bytes = 0

    def after_forward(self) -> None:
        """What the first forward pass keeps for its backward pass."""
        self.activation_bytes = self.activation_bytes or self._live_bytes() - self._before_bytes

    def after_backward(self) -> None:
        """Gradients of the network and of the masters, all of which exist now."""
        self.gradient_bytes = memory.storage_bytes(self._backend.held()[1])
