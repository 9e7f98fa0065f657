"""Every file under sweeps/ composes and resolves. Oracles: budgets by hand, and the files themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_bench.config.store import SWEEPS_DIR, group_choices, study_files
from lora_bench.errors import ConfigError
from lora_bench.models import adapter_parameters, read_architecture
from lora_bench.preflight import check_run
from lora_bench.search.compose import compose_run
from lora_bench.search.question import build_question
from lora_bench.search.studyfile import EqualParameters, read_study_file

SHIPPED = {"rank", "placement", "lr_ratio", "alpha", "rank_placement_lr", "batch_size", "data_size"}


def test_the_studies_that_are_shipped_are_there():
    assert set(study_files()) >= SHIPPED


@pytest.mark.parametrize("name", study_files())
def test_every_study_file_asks_a_question_that_can_be_run(name):
    question = build_question([f"+sweeps={name}"])
    assert question.name == name.rsplit("/", 1)[-1]
    assert question.text.endswith("?")
    # Where methods are compared, full fine-tuning is one of them.
    assert [arm.name for arm in question.arms] == (["own"] if name == "methods" else ["own", "baseline"])
    for arm in question.arms:
        for point in arm.space.points() if question.is_grid else arm.space.corners():
            check_run(compose_run(arm.words_at(point)))


def test_a_question_that_the_command_line_changes_says_so():
    """What says where and how a study is carried out changes no question."""
    asked = read_study_file("rank").question
    question = build_question(["+sweeps=rank", "lora.r=1,2", "paths.root=elsewhere"])
    assert question.text == f"{asked} Changed on the command line: lora.r=1,2"
    assert build_question(["+sweeps=rank", "paths.root=elsewhere"]).text == asked


def test_placements_are_compared_at_equal_budgets():
    (own, _) = build_question(["+sweeps=placement"]).arms
    budgets = {}
    for point in own.space.points():
        config = compose_run(own.words_at(point))
        parameters = adapter_parameters(read_architecture(config.model), config.placement.roles, config.lora.r)
        budgets[config.placement.name, config.lora.r] = parameters
    assert set(budgets) == {("qv", 90), ("attention", 45), ("mlp", 36), ("all", 20)}
    assert max(budgets.values()) <= 1.01 * min(budgets.values())


def test_batches_of_every_size_see_as_many_items_on_both_sides():
    for arm in build_question(["+sweeps=batch_size"]).arms:
        seen = [compose_run(arm.words_at(point)).training for point in arm.space.points()]
        assert {(one.batch_size, one.max_steps) for one in seen} == {(8, 1200), (32, 300), (128, 75)}
        # Full fine-tuning gets as many rates.
        assert len(seen) == 15
        assert len({(one.batch_size, one.lr) for one in seen}) == 15
    # Who says how many steps there are has them at every size.
    (own, baseline) = build_question(["+sweeps=batch_size", "training.max_steps=5"]).arms
    assert {compose_run(own.words_at(point)).training.max_steps for point in own.space.points()} == {5}
    assert {compose_run(baseline.words_at(point)).training.max_steps for point in baseline.space.points()} == {5}


def test_items_that_make_no_whole_batches_are_refused():
    (own, _) = build_question(["+sweeps=batch_size"]).arms
    with pytest.raises(ConfigError, match=r"9,601 is not a whole number of batches of 8; give 9,600"):
        replace(own, equal_items=9601).words_at(next(own.space.points()))


@pytest.mark.parametrize("given", ["many", 0, -5, 1.5, True])
def test_a_number_of_items_is_a_whole_number(given, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"question: Why?\nspace: {{lora.r: [1]}}\nequal_items: {given}\n")
    with pytest.raises(ConfigError, match=r"equal_items: .* is not a number of items; 9600 are 300 batches of 32"):
        read_study_file("mine", folder=tmp_path)


@pytest.mark.parametrize("name", ["rank", "data_size", "batch_size", "placement", "lr_ratio", "alpha"])
def test_both_sides_have_as_many_rates(name):
    """Of each candidate: what differs in the rate alone."""
    (own, baseline) = build_question([f"+sweeps={name}"]).arms
    numbers = set()
    for arm in (own, baseline):
        rates = {}
        for point in arm.space.points():
            rest = {key: value for key, value in point.items() if "training.lr" not in key}
            rates.setdefault(str(rest), set()).add(compose_run(arm.words_at(point)).training.lr)
        numbers |= {len(found) for found in rates.values()}
    assert len(numbers) == 1
    assert numbers.pop() >= 3


def test_a_budget_that_no_rank_comes_near_to_is_refused():
    (own, _) = build_question(["+sweeps=placement", "model=minilm"]).arms
    coarse = replace(own, equal_parameters=EqualParameters("all", 1))
    mlp = next(point for point in own.space.points() if point["placement"] == "mlp")
    with pytest.raises(ConfigError, match=r"comes no nearer to 41,472 parameters than .*; give a larger r"):
        coarse.words_at(mlp)


def test_the_command_line_is_over_the_file():
    question = build_question(["+sweeps=rank", "model=tiny", "lora.r=1,2", "training.max_steps=5", "seed=7"])
    (own, baseline) = question.arms
    assert own.space.dimensions[0].values == ("1", "2")
    assert question.seeds == (7,)
    assert question.name.startswith("rank-")
    assert {"model=tiny", "training.max_steps=5"} <= set(baseline.words)
    assert build_question(["+sweeps=rank", "study.n_jobs=2"]).name == "rank"


def test_both_arms_of_the_ratio_have_their_own_rates():
    own, baseline = build_question(["+sweeps=lr_ratio"]).arms
    assert len(own.space.dimensions[0].values) == len(baseline.space.dimensions[0].values)
    assert float(own.space.dimensions[0].values[0]) > float(baseline.space.dimensions[0].values[0])


def test_an_unknown_study_and_unknown_keys_say_what_is_meant(tmp_path):
    with pytest.raises(ConfigError, match=r"no study 'rnak' \(did you mean 'rank'\?\); available: alpha"):
        build_question(["+sweeps=rnak"])
    (tmp_path / "odd.yaml").write_text("quesiton: Why?\nspace: {lora.r: [1]}\nbaseline: {methd: full}\n")
    with pytest.raises(ConfigError) as caught:
        read_study_file("odd", folder=tmp_path)
    assert "quesiton: no such key (did you mean 'question'?)" in str(caught.value)
    assert "baseline.methd: no such key (did you mean 'method'?)" in str(caught.value)


def test_study_files_are_found_beside_the_configuration():
    assert (SWEEPS_DIR / "rank.yaml").is_file()


def test_the_study_of_methods_has_all_of_them_each_around_its_own_rate():
    (own,) = build_question(["+sweeps=methods", "model=minilm"]).arms
    method, scale = own.space.dimensions
    assert sorted(method.values) == group_choices("method")
    assert scale.values == ("0.33", "1", "3")
    words = ["method=bitfit", "training.lr_scale=3"]
    assert compose_run(words).training.lr == pytest.approx(3 * compose_run(words[:1]).method.default_lr)
