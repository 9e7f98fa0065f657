"""Oracle: the table of ends. A result stands, a death is tried twice more, then it is on record."""

from __future__ import annotations

import pytest

from lora_bench.execution import Outcome
from lora_bench.execution.base import (
    EXIT_DISK,
    EXIT_FAILED,
    EXIT_HELD,
    EXIT_INTERRUPTED,
    EXIT_UNSTARTED,
    EXIT_UNWATCHED,
)
from lora_bench.execution.pretend import write_pretended
from lora_bench.naming import run_dir_for
from lora_bench.preflight import root_folder
from lora_bench.search.retry import settle
from lora_bench.search.trials import Member

KILLED = Outcome(-9)


@pytest.fixture
def member(tiny):
    """A run that was started and whose process has ended."""
    config = tiny()
    run = Member(run_dir_for(config, root_folder(config)), config, state="running", handle=1)
    run.write_config("some study")
    return run


@pytest.mark.parametrize("status", ["finished", "diverged", "oom", "pruned", "failed"])
@pytest.mark.parametrize("outcome", [Outcome(0), KILLED, Outcome(EXIT_FAILED)])
def test_a_result_stands_however_the_process_ended(member, status, outcome):
    write_pretended(member.run_dir, status)
    assert settle(member, outcome, max_retries=2, reason="hung") == status
    assert (member.state, member.num_deaths, member.handle) == (status, 0, None)


def test_a_death_is_tried_twice_more_and_then_recorded(member):
    for number in (1, 2):
        said = settle(member, KILLED, max_retries=2)
        assert said == f"killed by signal 9 (often the kernel, out of memory); retry {number} of 2"
        assert member.state == "waiting"
        assert member.run_dir.read_result() is None
    assert settle(member, KILLED, max_retries=2).startswith("failed: killed by signal 9")
    assert member.state == "failed"
    result = member.run_dir.read_result()
    assert result.status == "failed"
    assert "no result after 3 tries: killed by signal 9" in result.error
    assert str(member.run_dir.log) in result.error
    assert not member.run_dir.is_held()


def test_the_reason_of_the_controller_is_said_instead_of_the_signal(member):
    assert (
        settle(member, KILLED, max_retries=2, reason="hung: nothing new for 30 min")
        == "hung: nothing new for 30 min; retry 1 of 2"
    )


def test_a_process_that_ends_well_without_a_result_has_died(member):
    assert settle(member, Outcome(0), max_retries=2) == "its process ended without a result; retry 1 of 2"


def test_a_run_that_stopped_on_request_has_not_died(member):
    assert "the same command goes on" in settle(member, Outcome(EXIT_INTERRUPTED), max_retries=2)
    assert (member.state, member.num_deaths, member.has_ended) == ("interrupted", 0, True)


def test_a_run_that_the_controller_ended_is_no_stop_on_request(member):
    settle(member, Outcome(EXIT_INTERRUPTED), max_retries=2, reason="hung")
    assert (member.state, member.num_deaths) == ("waiting", 1)


def test_a_run_that_another_process_has_begun_is_waited_for_without_end(member):
    for _ in range(5):
        assert settle(member, Outcome(EXIT_HELD), max_retries=2) == "another process has just begun it"
        assert (member.state, member.num_deaths) == ("waiting", 0)


def test_a_full_disk_is_no_fault_of_the_run(member):
    said = settle(member, Outcome(EXIT_DISK), max_retries=2)
    assert said == f"the disk took no more; the log may say more: {member.run_dir.log}"
    assert (member.state, member.num_deaths, member.has_ended) == ("interrupted", 0, True)


def test_an_end_that_nobody_saw_is_no_death(member):
    for _ in range(5):
        assert settle(member, Outcome(EXIT_UNWATCHED, "ended while nobody watched it"), max_retries=0)
        assert (member.state, member.num_deaths) == ("waiting", 0)
    settle(member, Outcome(EXIT_UNWATCHED, "ended while nobody watched it"), max_retries=2, reason="hung")
    assert (member.state, member.num_deaths) == ("waiting", 1)


def test_a_run_that_could_not_be_started_has_not_died(member):
    assert (
        settle(member, Outcome(EXIT_UNSTARTED, "it could not be started"), max_retries=0) == "it could not be started"
    )
    assert (member.state, member.num_deaths, member.has_ended) == ("interrupted", 0, True)


def test_no_retries_is_a_failure_at_once(member):
    assert settle(member, KILLED, max_retries=0).startswith("failed: killed by signal 9")
    assert "no result after 1 tries" in member.run_dir.read_result().error
