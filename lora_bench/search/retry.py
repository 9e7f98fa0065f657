"""What becomes of a run whose process ended without a result."""

from __future__ import annotations

from lora_bench.execution import Outcome
from lora_bench.execution.base import EXIT_DISK, EXIT_HELD, EXIT_INTERRUPTED, EXIT_TIME, EXIT_UNSTARTED, EXIT_UNWATCHED
from lora_bench.recorder import record_failure
from lora_bench.search.trials import Member


def settle(member: Member, outcome: Outcome, *, max_retries: int, reason: str | None = None) -> str:
    """Sets the member's state after its process has ended; returns what happened, in words.

    A diverged run and one that ran out of memory have a result, which stands. A run that died is tried again up to
    `max_retries`, then recorded as failed. `reason` is why the controller itself ended it.

    Raises:
        DiskError: If the failure cannot be recorded; the state is then as it was.
    """
    member.handle = None
    result = member.read_result()
    if result is not None:
        member.state = result.status
        return result.status
    if reason is None and outcome.exit_code == EXIT_INTERRUPTED:
        member.state = "interrupted"
        return f"{outcome.detail or 'stopped after a checkpoint'}; the same command goes on"
    if outcome.exit_code == EXIT_TIME:
        member.state = "waiting"
        return "the time of its job is over; another one goes on from its checkpoint"
    if outcome.exit_code == EXIT_DISK:
        member.state = "interrupted"
        return f"{outcome.reason}; the log may say more: {member.run_dir.log}"
    if outcome.exit_code == EXIT_UNSTARTED:
        member.state = "interrupted"
        return outcome.reason
    if outcome.exit_code == EXIT_UNWATCHED and reason is None:
        member.state = "waiting"
        return outcome.reason
    if outcome.exit_code == EXIT_HELD:
        # Another command began the same run in the moment between looking and starting; it is waited for.
        member.state = "waiting"
        return "another process has just begun it"
    said = reason or (outcome.reason if outcome.exit_code else "its process ended without a result")
    member.num_deaths += 1
    if member.num_deaths <= max_retries:
        member.state = "waiting"
        return f"{said}; retry {member.num_deaths} of {max_retries}"
    with member.run_dir.hold():
        record_failure(member.load_config(), member.run_dir, f"no result after {member.num_deaths} tries: {said}")
    member.state = "failed"
    return f"failed: {said}"
