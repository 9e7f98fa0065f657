"""Oracle: what the two sentences of the command line mean, written out."""

from __future__ import annotations

import pytest

from lora_bench.errors import ConfigError, StudyError
from lora_bench.search.question import build_question
from lora_bench.search.studydir import StudyDir, settle_question

TINY = ["model=tiny", "task.num_train=64"]
RATE = "training.lr=tag(log,interval(1e-4,1e-2))"


def test_listed_values_and_no_sampler_are_a_grid():
    assert build_question([*TINY, "lora.r=1,4"]).is_grid
    assert not build_question([*TINY, "lora.r=1,4", "study.sampler=random"]).is_grid
    searched = build_question([*TINY, "lora.r=1,4", RATE])
    assert not searched.is_grid
    assert searched.sampler == "tpe"


def test_the_baseline_is_searched_over_its_own_space():
    own, baseline = build_question([*TINY, "lora.r=1,4", RATE]).arms
    assert [one.key for one in own.space.dimensions] == ["lora.r", "training.lr"]
    (rate,) = baseline.space.dimensions
    assert (rate.key, rate.is_log) == ("training.lr", True)
    assert (rate.low, rate.high) == pytest.approx((2e-5, 2e-3))
    assert "method=full" in baseline.words


def test_a_baseline_without_anything_to_search_gets_its_learning_rate():
    _, baseline = build_question([*TINY, "lora.r=range(1,9)", "study.sampler=tpe"]).arms
    (rate,) = baseline.space.dimensions
    assert (rate.low, rate.high) == pytest.approx((1e-5, 1e-3))


def test_the_name_is_stable_differs_by_question_and_can_be_given():
    words = [*TINY, "lora.r=1,4", "seed=0,1"]
    name = build_question(words).name
    assert name.startswith("tiny-tweet_sentiment-lora.r-seed-")
    assert build_question([*words, "study.n_jobs=2", "tracking=none", "paths.root=elsewhere"]).name == name
    assert build_question([*TINY, "lora.r=1,8", "seed=0,1"]).name != name
    assert build_question([*words, "study.name=mine"]).name == "mine"


def test_values_written_in_another_way_ask_the_same():
    one, other = (build_question([*TINY, f"lora.r={text}"]) for text in ("1,4", "choice(1,4)"))
    assert one.as_data() == other.as_data()


def test_directions_are_known_and_can_be_given():
    known = build_question([*TINY, RATE, "study.objectives=[headline,memory/peak_tensor_gib,perf/tokens_per_s]"])
    assert [str(one.direction) for one in known.objectives] == ["maximize", "minimize", "maximize"]
    assert known.objectives[0].metric == "eval/accuracy"
    given = build_question([*TINY, RATE, "study.direction=[minimize]"])
    assert given.objectives[0].direction == "minimize"
    likelihood = build_question(["model=tiny-llama", "task=bbc_headline", "lora.r=1,2"])
    assert (likelihood.objectives[0].metric, likelihood.objectives[0].direction) == ("eval/nll_per_token", "minimize")


def test_faults_of_a_study_come_at_once():
    words = ["study.sampler=tpee", "study.pruner=ashaa", "study.objectives=[memory/peak_tensor_mib]"]
    with pytest.raises(ConfigError) as caught:
        build_question([*TINY, RATE, *words, "study.constraints=['memory/peak_tensor_gib less']", "study.margin=-0.1"])
    text = str(caught.value)
    assert "no sampler 'tpee' (did you mean 'tpe'?)" in text
    assert "no pruner 'ashaa' (did you mean 'asha'?)" in text
    assert "no metric 'memory/peak_tensor_mib' (did you mean 'memory/peak_tensor_gib'?)" in text
    assert "is not a bound on a metric; write 'memory/peak_tensor_gib <= 2'" in text
    assert "study.margin: -0.1 is not above 0 and finite" in text


def test_a_margin_is_part_of_the_question_since_it_is_set_beforehand(tmp_path):
    """A study that has begun refuses another margin, or one where there was none."""
    words = [*TINY, "lora.r=1,2", "study.name=mine"]
    directory = StudyDir(tmp_path / "mine")
    with_margin, without = build_question([*words, "study.margin=0.01"]), build_question(words)
    assert "margin" not in without.as_data()
    with directory.hold():
        settle_question(directory, with_margin, words)
        settle_question(directory, with_margin, words)
        with pytest.raises(StudyError, match=r"margin: was 0\.01, now none"):
            settle_question(directory, without, words)


def test_a_grid_by_name_needs_listed_values():
    with pytest.raises(ConfigError, match=r"grid needs listed values, and training\.lr is tag"):
        build_question([*TINY, RATE, "study.sampler=grid"])
