"""Oracles: scikit-learn, `rouge_score`, transformers' own loss, and the model before and after."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import accuracy_score, f1_score, log_loss
from support.tiny_nets import classifier, decoder
from support.tiny_tokenizer import decoder_tokenizer, encoder_tokenizer

from lora_bench import rundir
from lora_bench.config.schema import ArithmeticConfig, BbcHeadlineConfig, FilesConfig, TweetSentimentConfig
from lora_bench.evaluation import evaluate
from lora_bench.records import Score
from lora_bench.tasks import load_task
from lora_bench.tasks.collate import collate
from lora_bench.tasks.encode import encode

SST2 = Path(__file__).resolve().parents[3] / "shared" / "data" / "sst2"


def run(net, task, tokenizer, *, batch_size=16, max_length=96):
    data = load_task(task)
    split = encode(data.test, tokenizer, kind=data.kind, max_length=max_length, cache=None)
    return data, split, evaluate(
        net, split, items=data.test, data=data, task=task, tokenizer=tokenizer, batch_size=batch_size, device="cpu"
    )  # fmt: skip


@pytest.fixture(scope="module")
def tweets():
    tokenizer = encoder_tokenizer()
    net = classifier(tokenizer, num_labels=3)
    return net, *run(net, TweetSentimentConfig(num_eval=120), tokenizer)


@torch.no_grad()
def probabilities(net, split):
    """One text at a time."""
    net.eval()
    rows = [net(**collate(split, np.array([index]), pad_id=0)).logits[0].softmax(-1) for index in range(len(split))]
    net.train()
    return torch.stack(rows).double().numpy()


def test_tweets_are_scored_as_scikit_learn_scores_them(tweets):
    net, data, split, result = tweets
    chances = probabilities(net, split)
    predictions = chances.argmax(1)
    scores = {score.name: score for score in result.scores}
    assert list(scores) == ["accuracy", "macro_f1", "nll"]
    assert scores["accuracy"].value == accuracy_score(split.labels, predictions)
    assert scores["macro_f1"].value == pytest.approx(f1_score(split.labels, predictions, average="macro"))
    wanted = log_loss(split.labels, chances / chances.sum(1, keepdims=True), labels=[0, 1, 2])
    assert scores["nll"].value == result.loss == pytest.approx(wanted, rel=1e-4)
    assert [score.higher_is_better for score in result.scores] == [True, True, False]
    assert all(score.ci_low < score.value < score.ci_high for score in result.scores)
    assert all(score.num_items == 120 for score in result.scores)
    assert result.headline == data.headline == "accuracy"
    assert result.generate_s == 0


def test_predictions_stand_in_the_order_of_the_split(tweets):
    net, data, split, result = tweets
    chances = probabilities(net, split)
    assert [item["item_id"] for item in result.predictions] == [item.item_id for item in data.test]
    assert [item["label"] for item in result.predictions] == [data.labels[item.label] for item in data.test]
    assert [item["prediction"] for item in result.predictions] == [data.labels[index] for index in chances.argmax(1)]
    assert [item["correct"] for item in result.predictions] == (chances.argmax(1) == split.labels).tolist()
    wanted = -np.log(chances[np.arange(120), split.labels])
    assert [item["nll"] for item in result.predictions] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batches_and_padding_change_no_prediction(tweets, batch_size):
    net, _, _, result = tweets
    other = run(net, TweetSentimentConfig(num_eval=120), encoder_tokenizer(), batch_size=batch_size)[2]
    for name in ("item_id", "prediction", "correct"):
        assert [item[name] for item in other.predictions] == [item[name] for item in result.predictions]
    assert other.loss == pytest.approx(result.loss, rel=1e-5)


@pytest.mark.skipif(not SST2.is_dir(), reason="../shared/data is not beside this checkout")
def test_real_sst2_through_files():
    tokenizer = encoder_tokenizer()
    net = classifier(tokenizer, num_labels=2)
    task = FilesConfig(train=str(SST2 / "train.tsv"), eval=str(SST2 / "dev.tsv"), num_eval=200)
    _, split, result = run(net, task, tokenizer)
    assert result.scores[0].value == accuracy_score(split.labels, probabilities(net, split).argmax(1))
    assert result.predictions[0]["item_id"].startswith("test:")
    assert {item["label"] for item in result.predictions} == {"0", "1"}


@pytest.fixture(scope="module")
def headlines():
    tokenizer = decoder_tokenizer()
    net = decoder(tokenizer)
    return net, *run(net, BbcHeadlineConfig(num_eval=20, num_generate=6, max_new_tokens=9), tokenizer)


def test_headlines_count_every_token_alike(headlines):
    net, _, split, result = headlines
    net.eval()
    sums = []
    for index in range(len(split)):
        batch = collate(split, np.array([index]), pad_id=0)
        with torch.no_grad():
            sums.append(float(net(**batch).loss) * int((batch["labels"] != -100).sum()))
    net.train()
    score = result.scores[0]
    tokens = (split.lengths - split.prompt_lengths).sum()
    assert (score.name, score.num_items, score.higher_is_better) == ("nll_per_token", 20, False)
    assert score.value == result.loss == pytest.approx(sum(sums) / tokens, rel=1e-4)
    assert score.ci_low < score.value < score.ci_high
    assert [item["nll"] for item in result.predictions] == pytest.approx(sums, rel=1e-4)
    assert sum(item["num_tokens"] for item in result.predictions) == tokens
    assert result.headline == "nll_per_token"


def test_headlines_are_generated_for_the_first_items(headlines):
    _, data, _, result = headlines
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    graded = []
    for item, example in zip(result.predictions[:6], data.test, strict=False):
        assert item["reference"] == example.response.strip()
        lines = [line for line in item["generated"].splitlines() if line.strip()]
        graded.append(scorer.score(item["reference"], lines[0] if lines else "")["rougeL"].fmeasure)
        assert item["rouge_l"] == graded[-1]
    assert not any("generated" in item for item in result.predictions[6:])
    score = result.scores[1]
    assert (score.name, score.num_items, score.value) == ("rouge_l", 6, pytest.approx(np.mean(graded)))
    assert 0 <= score.ci_low <= score.value <= score.ci_high <= 1
    assert result.generate_s > 0


def test_no_new_tokens_generates_nothing():
    tokenizer = decoder_tokenizer()
    result = run(decoder(tokenizer), BbcHeadlineConfig(num_eval=5, max_new_tokens=0), tokenizer)[2]
    assert [score.name for score in result.scores] == ["nll_per_token"]
    assert not any("generated" in item for item in result.predictions)


def test_arithmetic_is_graded_by_exact_match(monkeypatch):
    tokenizer = decoder_tokenizer()
    task = ArithmeticConfig(num_eval=10)
    answers = [item.response for item in load_task(task).test]
    given = [*answers[:7], " wrong", "", "7 7"]
    monkeypatch.setattr("lora_bench.evaluation.scoring.generate", lambda *args, **options: given)
    result = run(decoder(tokenizer), task, tokenizer)[2]
    score = result.scores[1]
    assert (score.name, score.value, score.num_items) == ("exact_match", 0.7, 10)
    assert [item["correct"] for item in result.predictions] == [True] * 7 + [False] * 3
    assert result.headline == "exact_match"


def test_training_goes_on_as_if_nothing_had_happened():
    tokenizer = decoder_tokenizer()
    net = decoder(tokenizer, family="gpt2")
    net.transformer.h[0].eval()
    modes = {name: module.training for name, module in net.named_modules()}
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    torch.manual_seed(5)
    np.random.seed(5)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    _, split, _ = run(net, BbcHeadlineConfig(num_eval=6, num_generate=2, max_new_tokens=3), tokenizer)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert {False, True} == set(modes.values())
    assert all(torch.equal(weights[name], tensor) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    # A step after an evaluation can still be differentiated.
    net(**collate(split, np.arange(3), pad_id=0)).loss.backward()


def test_modes_come_back_when_scoring_fails(monkeypatch):
    tokenizer = encoder_tokenizer()
    net = classifier(tokenizer, num_labels=3)
    monkeypatch.setattr("lora_bench.evaluation.scoring.class_log_probabilities", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(net, TweetSentimentConfig(num_eval=5), tokenizer)
    assert net.training
    assert torch.is_grad_enabled()


def test_same_evaluation_twice_is_the_same_to_the_last_bit(tweets):
    net, _, _, result = tweets
    again = run(net, TweetSentimentConfig(num_eval=120), encoder_tokenizer())[2]
    assert again == result


def test_a_model_that_diverged_is_scored_without_an_error():
    tokenizer = encoder_tokenizer()
    net = classifier(tokenizer, num_labels=3)
    with torch.no_grad():
        net.classifier.weight.fill_(math.nan)
    result = run(net, TweetSentimentConfig(num_eval=9), tokenizer)[2]
    assert math.isnan(result.loss)


def test_everything_can_be_written_as_json(tweets, headlines):
    for result in (tweets[-1], headlines[-1]):
        for item in result.predictions:
            assert json.loads(json.dumps(rundir.finite(item), allow_nan=False)) == item
        for score in result.scores:
            assert isinstance(score, Score)
            assert {type(score.value), type(score.ci_low), type(score.ci_high)} == {float}
            assert replace(score) == score
