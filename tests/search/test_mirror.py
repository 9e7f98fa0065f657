"""Oracle: the journal on disk, and what a tracker must say of a store that it cannot reach."""

from __future__ import annotations

import functools

from support.recorded_studies import rank_study

from lora_bench.search.mirror import MirroringTracker
from lora_bench.search.optuna_view import OptunaView
from lora_bench.search.recorded import recorded_question
from lora_bench.search.storage import open_storage
from lora_bench.tracking import NullTracker

NOBODY = "postgresql://nobody@127.0.0.1:9/none"


def test_a_sync_brings_the_journal_up_and_a_storage_that_is_away_is_a_problem_and_no_end(tmp_path):
    directory = rank_study(tmp_path)
    question = recorded_question(directory)
    for url, problems in ((None, 0), (NOBODY, 1)):
        view = OptunaView(question, directory, functools.partial(open_storage, url, directory.journal))
        report = MirroringTracker(NullTracker(), view).sync([], study="ranks", finished=True)
        assert len(report.problems) == problems
    assert "study.storage: cannot be opened" in report.problems[0]
    assert directory.journal.stat().st_size > 0
