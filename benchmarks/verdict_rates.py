"""How often each rule of the program is wrong, counted over simulated studies whose truth is known.

    python benchmarks/verdict_rates.py --out results/2026-11-26-verdict-rates

A study is rows x seeds x items. The margin of an item is a sum of independent normal parts: of the item, of the row on
the item, of the seed on the item, and of the seed alone; the answer is right where it is above 0, and its log loss is
the softplus of minus the margin times a slope. So accuracy and log loss come from the same answers, and rows are
equal in both unless a shift is added. Constants are set to what is on record (`results/2026-11-22-methods`): accuracy
0.775, log loss 0.58 with a spread over items of 0.7, spread over seeds 0.0094 of the accuracy.

Every judgement is made by the program's own functions: `compare_pairs`, `judge_pair`, `rank_rows`, `choose`,
`omega_squared`. Where 5 % is stated, 3 to 6 % is aimed at; beside each rate stands its Monte Carlo error.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from surroundings import describe_machine

from lora_bench.report.candidates import INSIDE, choose
from lora_bench.report.load import Record
from lora_bench.report.pairs import ALPHA, Pairs, compare_pairs
from lora_bench.report.ranking import rank_rows
from lora_bench.report.rows import Row
from lora_bench.report.statistics import Estimate
from lora_bench.report.verdicts import BETTER, EQUAL, NOT_DECIDED, WORSE, Rule, judge_pair
from lora_bench.rundir import RunDir, write_json, write_text
from lora_bench.search.importance import omega_squared

Floats = NDArray[np.float64]

ACCURACY = 0.775
SEED_SD = 0.0094
"""Of the accuracy, over seeds, as recorded."""
CUT = 0.7554
"""Standard normal quantile of ACCURACY: the mean margin, whose whole spread is 1."""
DENSITY = math.exp(-(CUT**2) / 2) / math.sqrt(2 * math.pi)
"""Accuracy gained for a shift of the margin of 1."""
ROW_ON_ITEM, SEED_ON_ITEM = 0.2, 0.35
"""assumption: two seeds of a row then give another answer to 12 of 100 items, two rows to 14."""
SLOPE = 2.0
SEED_RATIOS = (0.0, 1.0, 3.0)
"""Spread over seeds, in parts of the recorded one; that over items stays."""
MARGINS = (0.02, 0.05)
SCORES = ("accuracy", "log loss")
AIM = (0.03, 0.06)


@dataclass(frozen=True)
class Condition:
    """What studies are drawn from."""

    num_seeds: int
    seed_ratio: float
    num_items: int = 1000


@dataclass(frozen=True)
class Rate:
    """How often a rule said something."""

    rule: str
    what: str
    score: str
    num_seeds: int
    seed_ratio: float
    num_items: int
    rate: float
    error: float
    """Monte Carlo standard error."""
    is_stated: bool
    """Whether ALPHA is what the rule states."""


def main() -> int:
    """Simulates, prints the table and writes the record."""
    options = read_options()
    start_s = time.monotonic()
    rates: list[Rate] = []
    for rule in RULES:
        found = list(rule(options.studies))
        rates += found
        print(markdown_rows(found), flush=True)
    record = {
        "command": " ".join(["python", *sys.argv]),
        "machine": describe_machine(),
        "wall_s": time.monotonic() - start_s,
        "num_studies": options.studies,
        "aim": AIM,
        "rates": [asdict(rate) for rate in rates],
    }
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write_json(options.out / "verdict_rates.json", record)
        write_text(options.out / "verdict_rates.md", markdown(rates, record))
    return 0


def read_options() -> argparse.Namespace:
    """What the user typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies of each condition (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder of verdict_rates.json and verdict_rates.md")
    return parser.parse_args()


def conditions(num_items: int = 1000) -> Iterator[Condition]:
    """Three and five seeds over the ratios of the two spreads."""
    for num_seeds in (3, 5):
        for seed_ratio in SEED_RATIOS:
            yield Condition(num_seeds, seed_ratio, num_items)


def draw(
    condition: Condition,
    num_rows: int,
    rng: np.random.Generator,
    *,
    shifts: Sequence[float] = (),
    row_ratios: Sequence[float] = (),
) -> dict[str, Floats]:
    """Return the items of a study by score, each of shape (rows, seeds, items).

    Args:
        condition: Seeds, items and the spread over seeds.
        num_rows: Rows, equal unless `gains` are given.
        rng: Where numbers come from.
        shifts: Of each row, shift of its margins; none is 0.
        row_ratios: Of each row, its spread over seeds as a multiple of the condition's; none is 1.
    """
    shape = (num_rows, condition.num_seeds, condition.num_items)
    spread_M = np.array(row_ratios or [1.0] * num_rows) * condition.seed_ratio * SEED_SD / DENSITY
    margins = rng.standard_normal((1, 1, shape[2]), dtype=np.float32) * math.sqrt(1 - ROW_ON_ITEM**2 - SEED_ON_ITEM**2)
    margins = margins + ROW_ON_ITEM * rng.standard_normal((num_rows, 1, shape[2]), dtype=np.float32)
    margins = margins + SEED_ON_ITEM * rng.standard_normal(shape, dtype=np.float32)
    shifts_MS = CUT + np.array(shifts or [0.0] * num_rows)[:, None] + spread_M[:, None] * rng.normal(size=shape[:2])
    margins += shifts_MS[:, :, None].astype(np.float32)
    right = (margins > 0).astype(np.float64)
    return {"accuracy": right, "log loss": np.logaddexp(0, -SLOPE * margins).astype(np.float64)}


def count(
    rule: str,
    condition: Condition,
    num_studies: int,
    say: Callable[[np.random.Generator], dict[tuple[str, str], float]],
    *,
    is_stated: bool = True,
) -> Iterator[Rate]:
    """Average what `say` returns for a study: (what, score) -> how often it was said, a part in [0, 1] or a number."""
    rng = np.random.default_rng(abs(hash_of(rule)) + 100 * condition.num_seeds + int(10 * condition.seed_ratio))
    studies = [say(rng) for _ in range(num_studies)]
    for key in studies[0]:
        values = np.array([study[key] for study in studies])
        error = float(values.std(ddof=1) / math.sqrt(num_studies))
        what, score = key
        numbers = (condition.num_seeds, condition.seed_ratio, condition.num_items)
        yield Rate(rule, what, score, *numbers, float(values.mean()), error, is_stated)


def hash_of(text: str) -> int:
    """A number for a text that is the same in every process."""
    return int.from_bytes(text.encode()[-6:], "big") % 10**8


def told_apart(pairs: Pairs, first: int, second: int, rule: Rule) -> bool:
    """Whether the table calls a row better or worse."""
    return judge_pair(pairs, first, second, rule).word in (BETTER, WORSE)


def compared(sums: Floats) -> Pairs:
    """Rows of a study as the program compares them."""
    return compare_pairs(list(sums), np.ones(sums.shape[2]))


def table_rates(num_studies: int) -> Iterator[Rate]:
    """Equal rows called better or worse than the baseline, one by one; and rows of one seed."""
    for num_rows, num_items in ((2, 1000), (5, 1000), (5, 2000)):
        for condition in conditions(num_items):

            def say(
                rng: np.random.Generator, condition: Condition = condition, num_rows: int = num_rows
            ) -> dict[tuple[str, str], float]:
                study = draw(condition, num_rows, rng)
                found = {}
                for score, sums in study.items():
                    pairs, rule = compared(sums), Rule(score == "accuracy")
                    found["better or worse", score] = float(
                        np.mean([told_apart(pairs, row, num_rows - 1, rule) for row in range(num_rows - 1)])
                    )
                return found

            yield from count(f"table of {num_rows} equal rows", condition, num_studies, say)
    for seed_ratio in SEED_RATIOS:
        condition = Condition(1, seed_ratio)

        def say_single(rng: np.random.Generator, condition: Condition = condition) -> dict[tuple[str, str], float]:
            study = draw(condition, 2, rng)
            words = {score: judge_pair(compared(sums), 0, 1, Rule(True)).word for score, sums in study.items()}
            return {("anything but not decided", score): float(word != NOT_DECIDED) for score, word in words.items()}

        yield from count("table, one seed", condition, num_studies // 4, say_single, is_stated=False)


def spread_rates(num_studies: int) -> Iterator[Rate]:
    """The assumption that all rows spread alike, broken: one row of five spreads three times as much."""
    for condition in conditions():
        if not condition.seed_ratio:
            continue

        def say(rng: np.random.Generator, condition: Condition = condition) -> dict[tuple[str, str], float]:
            found = {}
            for score, sums in draw(condition, 5, rng, row_ratios=(3, 1, 1, 1, 1)).items():
                pairs, rule = compared(sums), Rule(True)
                found["the wide row better or worse", score] = float(told_apart(pairs, 0, 4, rule))
                found["another row better or worse", score] = float(told_apart(pairs, 1, 4, rule))
            return found

        yield from count(
            "table, one of five rows spreads 3 times as much", condition, num_studies, say, is_stated=False
        )


def ranking_rates(num_studies: int) -> Iterator[Rate]:
    """24 equal rows of which some are not on the first rank."""
    for condition in conditions():

        def say(rng: np.random.Generator, condition: Condition = condition) -> dict[tuple[str, str], float]:
            found = {}
            for score, sums in draw(condition, 24, rng).items():
                pairs = compared(sums)
                order = [int(row) for row in np.argsort(-pairs.scores)]
                ranks = rank_rows(pairs, order)
                found["more than one rank", score] = float(max(ranks) > 1)
            return found

        yield from count("ranking of 24 equal rows", condition, num_studies, say)


def margin_rates(num_studies: int) -> Iterator[Rate]:
    """Rows that differ by the margin itself called equal; and how often equal rows are, which is no error."""
    for margin in MARGINS:
        for condition in conditions():

            def say(
                rng: np.random.Generator, condition: Condition = condition, margin: float = margin
            ) -> dict[tuple[str, str], float]:
                study = draw(condition, 3, rng, shifts=(-shift_of(margin), 0.0, 0.0))
                found = {}
                for score, sums in study.items():
                    # Of the log loss, what the same shift of the margin is worth there.
                    own = margin if score == "accuracy" else true_gap(margin)
                    pairs, rule = compared(sums), Rule(score == "accuracy", margin=own)
                    apart = judge_pair(pairs, 0, 2, rule).word == EQUAL
                    found[f"equal within {margin:g}, at a difference of {margin:g}", score] = float(apart)
                    alike = judge_pair(pairs, 1, 2, rule).word == EQUAL
                    found[f"equal within {margin:g}, at none (power)", score] = float(alike)
                return found

            # A margin below the noise can hardly be shown, so that no rate of 5 % is to be expected of the first.
            yield from count("margin", condition, num_studies, say, is_stated=margin > MARGINS[0])


def shift_of(margin: float) -> float:
    """How far margins must fall for an accuracy that is lower by `margin`."""
    return CUT - float(ndtri(ACCURACY - margin))


def true_gap(margin: float) -> float:
    """How much log loss a row then loses; by integration over the margins, which are standard normal around CUT."""
    grid = np.linspace(-9, 9, 20001)
    weights = np.exp(-(grid**2) / 2)
    losses = [np.logaddexp(0, -SLOPE * (grid + CUT - moved)) for moved in (shift_of(margin), 0.0)]
    return float(((losses[0] - losses[1]) * weights).sum() / weights.sum())


def choice_rates(num_studies: int) -> Iterator[Rate]:
    """The best of equal rates, chosen on validation items or, as it was, on the test items that judge it."""
    for num_settings in (3, 10):
        for condition in conditions():

            def say(
                rng: np.random.Generator, condition: Condition = condition, num_settings: int = num_settings
            ) -> dict[tuple[str, str], float]:
                return say_chosen(rng, condition, num_settings)

            yield from count(f"best of {num_settings} equal rates", condition, num_studies // 2, say)


def say_chosen(rng: np.random.Generator, condition: Condition, num_settings: int) -> dict[tuple[str, str], float]:
    """Both sides have equal settings; half of the items are validation items."""
    both = Condition(condition.num_seeds, condition.seed_ratio, 2 * condition.num_items)
    found: dict[tuple[str, str], float] = {}
    for score, sums in draw(both, 2 * num_settings, rng).items():
        is_higher_better = score == "accuracy"
        validation, test = sums[:, :, : condition.num_items], sums[:, :, condition.num_items :]
        settings = [
            setting(number, validation[number].mean(), test[number].mean()) for number in range(2 * num_settings)
        ]
        own, theirs = (
            choose(side, {name_of(row): INSIDE for row in side}, higher_is_better=is_higher_better).chosen
            for side in (settings[:num_settings], settings[num_settings:])
        )
        assert own is not None
        assert theirs is not None
        pairs = compared(test[[number_of(own), number_of(theirs)]])
        rule = Rule(is_higher_better)
        found["both sides chosen on validation items: better or worse", score] = float(told_apart(pairs, 0, 1, rule))
        single = compared(test[[0, number_of(theirs)]])
        found["one side chosen on validation items, one not chosen: better or worse", score] = float(
            told_apart(single, 0, 1, rule)
        )
        sign = 1 if is_higher_better else -1
        # As it was: the best full row by its own test score, against a row that was not chosen.
        best = num_settings + int(np.argmax(sign * test[num_settings:].mean(axis=(1, 2))))
        old = compared(test[[0, best]])
        found["(as it was) one side chosen on test items: better or worse", score] = float(told_apart(old, 0, 1, rule))
        middle = sign * float(test.mean())
        found["lift of the baseline, chosen on validation items", score] = (
            sign * float(test[number_of(theirs)].mean()) - middle
        )
        found["(as it was) lift of the baseline, chosen on test items", score] = (
            sign * float(test[best].mean()) - middle
        )
    return found


def setting(number: int, validation: float, test: float) -> Row:
    """A row as `choose` takes it."""
    config = {"method": {"name": "lora"}, "training": {"lr": 1e-4 * (number + 1)}, "seed": 0}
    record = Record(RunDir(Path(f"setting-{number}")), "finished", config, None)
    return Row((record,), "LoRA", (), False, Estimate(test, test, test), {}, float(validation))


def name_of(row: Row) -> str:
    """Name of the run of a setting."""
    return row.records[0].run.path.name


def number_of(row: Row) -> int:
    """Number of a setting."""
    return int(name_of(row).rsplit("-", 1)[1])


def importance_rates(num_studies: int) -> Iterator[Rate]:
    """Mean part of parameters that explain nothing, in grids of normal noise; alone, and beside one that matters."""
    for name, num_methods, num_rates, effect in (
        ("24 methods x 3 rates", 24, 3, 0.0),
        ("24 methods x 3 rates, which matter", 24, 3, 3.0),
        ("4 ranks x 3 rates", 4, 3, 0.0),
    ):
        points = [{"method": str(m), "rate": str(r)} for m in range(num_methods) for r in range(num_rates)]
        effects = np.array([effect * float(point["rate"]) for point in points])

        def say(
            rng: np.random.Generator,
            points: list[dict[str, str]] = points,
            effects: Floats = effects,
            num_methods: int = num_methods,
        ) -> dict[tuple[str, str], float]:
            values = effects + rng.normal(size=len(points))
            parts = omega_squared(points, list(values))
            groups = values.reshape(num_methods, -1).mean(axis=1)
            whole = ((values - values.mean()) ** 2).sum()
            eta = len(points) / num_methods * ((groups - groups.mean()) ** 2).sum() / whole
            return {
                ("mean omega squared of the method, which does nothing", "-"): parts["method"],
                ("(as it was) mean eta squared of the method", "-"): float(eta),
            }

        yield from count(f"importance, {name}", Condition(1, 0), num_studies, say, is_stated=False)


RULES = (table_rates, spread_rates, ranking_rates, margin_rates, choice_rates, importance_rates)


def markdown(rates: Sequence[Rate], record: dict[str, Any]) -> str:
    """The whole record as a page."""
    stated = [rate for rate in rates if is_aimed(rate)]
    inside = sum(AIM[0] <= rate.rate <= AIM[1] for rate in stated)
    head = [
        "# How often each rule is wrong",
        "",
        f"`{record['command']}`: {record['num_studies']} simulated studies of each condition (half of that for "
        f"choices, a quarter for one seed), {record['wall_s'] / 60:.1f} min. The model stands in the file. "
        f'"x recorded" is the spread over seeds in parts of the recorded one ({SEED_SD} of the accuracy).',
        "",
        f"Of {len(stated)} rates for which 5 % is stated, {inside} lie in {AIM[0]} to {AIM[1]}; the smallest is "
        f"{min(rate.rate for rate in stated):.3f}, the largest {max(rate.rate for rate in stated):.3f}.",
        "",
    ]
    return "\n".join(head) + markdown_rows(rates) + "\n"


def is_aimed(rate: Rate) -> bool:
    """Whether ALPHA is stated: not for power, lifts, and what was done before."""
    return rate.is_stated and not any(word in rate.what for word in ("power", "lift", "as it was", "one not chosen"))


def markdown_rows(rates: Sequence[Rate]) -> str:
    """One row for each rule and condition, both scores beside each other."""
    lines = [
        "| rule | what is said | items | seeds | x recorded | accuracy | log loss |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    shown: dict[tuple[Any, ...], dict[str, Rate]] = {}
    for rate in rates:
        key = (rate.rule, rate.what, rate.num_items, rate.num_seeds, rate.seed_ratio)
        shown.setdefault(key, {})[rate.score] = rate
    for (rule, what, num_items, num_seeds, seed_ratio), by_score in shown.items():
        cells = [_cell(by_score.get(score)) for score in SCORES] if "-" not in by_score else [_cell(by_score["-"]), ""]
        lines.append(f"| {rule} | {what} | {num_items:,} | {num_seeds} | {seed_ratio:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(rate: Rate | None) -> str:
    if rate is None:
        return ""
    digits = 4 if "lift" in rate.what else 3
    text = f"{rate.rate:.{digits}f} ± {rate.error:.{digits}f}"
    return f"**{text}**" if is_aimed(rate) and not AIM[0] <= rate.rate <= AIM[1] else text


if __name__ == "__main__":
    assert ALPHA == 0.05, "the aim is for 5 %"
    raise SystemExit(main())
