"""What can be found wrong with a command before torch is imported, and long before a network is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lora_bench.artifacts.trained import (
    TrainedRun,
    check_adapter,
    check_same_base,
    refuse_quantised,
    refuse_quantised_base,
)
from lora_bench.config.schema import Source
from lora_bench.errors import ArtifactError, UsageError
from lora_bench.models import max_tokens, read_architecture


@dataclass(frozen=True)
class Part:
    """One run in a sum."""

    trained: TrainedRun
    weight: float


def check_mergeable(trained: TrainedRun, *, with_dequantised: bool) -> None:
    """Look whether the base takes a sum.

    Raises:
        UsageError: If there are no four bits to be made whole.
        ArtifactError: If the base is quantised.
    """
    if not with_dequantised:
        refuse_quantised(trained)
        return
    if not trained.is_in_four_bits:
        method = trained.config.method.name
        raise UsageError(f"--dequantise: {trained.name} (method={method}) has no base in four bits; leave it out")
    refuse_quantised_base(trained)


def check_parts(parts: Sequence[Part], head: TrainedRun | None) -> None:
    """What can be found wrong before a network is loaded.

    Raises:
        ArtifactError: If the runs cannot be added up.
    """
    runs = [part.trained for part in parts]
    check_same_base(runs)
    for trained in runs:
        refuse_quantised(trained)
    if head is not None or runs[0].num_labels is None:
        return
    if sum(part.weight for part in parts) <= 0 or min(part.weight for part in parts) < 0:
        given = ", ".join(f"{part.weight:g}" for part in parts)
        raise ArtifactError(
            f"the task heads have no mean with the weights {given}; name the run of the head with --head"
        )
    names = {tuple(labels) for labels in (trained.labels for trained in runs) if labels}
    if len(names) > 1:
        listed = " and ".join(f"[{', '.join(labels)}]" for labels in sorted(names))
        raise ArtifactError(f"the task heads have other classes, {listed}; name the run of the head with --head")


def check_summable(parts: Sequence[Part], head: TrainedRun | None, *, with_base: bool) -> None:
    """Look whether runs can be added up as one adapter.

    Raises:
        ArtifactError: If they cannot, or their base could not be loaded by whoever gets the adapter.
    """
    check_parts(parts, head)
    check_base(head or parts[0].trained, with_base=with_base)
    for part in parts:
        check_adapter(part.trained)


def check_exportable(trained: TrainedRun, *, with_base: bool) -> None:
    """Look whether a run is an adapter for a base that can be loaded.

    Raises:
        ArtifactError: If it is not.
    """
    check_adapter(trained)
    check_base(trained, with_base=with_base)


def check_base(trained: TrainedRun, *, with_base: bool) -> None:
    """Looks whether somebody who gets the folder can load the base.

    Raises:
        ArtifactError: If the base is nowhere on disk and is not asked for.
    """
    if trained.config.model.source is Source.random and not with_base:
        raise ArtifactError(
            f"{trained.name}: its base has random weights, which are in no folder that PEFT could load; add --with-base"
        )


def check_switchable(runs: Sequence[TrainedRun]) -> None:
    """What can be found wrong before a network is loaded.

    Raises:
        ArtifactError: If the runs cannot share a base in memory.
    """
    check_same_base(runs)
    for trained in runs:
        check_adapter(trained)
        if trained.peft_type != runs[0].peft_type:
            raise ArtifactError(
                f"{runs[0].name} and {trained.name}: adapters of two types ({runs[0].peft_type}, {trained.peft_type}) "
                f"are not exchanged in one network; use runs of one method"
            )


def check_shapes(runs: Sequence[TrainedRun], shapes: Sequence[tuple[int, int]]) -> None:
    """What can be found wrong before a network is loaded.

    Raises:
        ArtifactError: If the runs have different bases.
        UsageError: If the model has no position for so many tokens.
    """
    check_same_base(runs)
    longest = max_tokens(read_architecture(runs[0].config.model))
    for _, length in shapes:
        if longest is not None and length > longest:
            raise UsageError(
                f"--length: {length} tokens are more than the {longest} that {runs[0].config.model.name} has "
                f"positions for"
            )
