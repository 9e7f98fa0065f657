"""Command lines that are nearly right: valid ones with one slip of the finger each, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lora_bench.config.aliases import KEYS
from lora_bench.config.bounds import BOUNDS
from lora_bench.config.commandline import read_command_line
from lora_bench.config.dirs import adopt_config_dirs
from lora_bench.config.overrides import compose_config, set_values, understood
from lora_bench.config.resolve import resolve
from lora_bench.errors import ConfigError
from lora_bench.models.budget import settle_rank
from lora_bench.preflight import check_built, check_words
from lora_bench.search.question import build_question

SMALL = ("model=tiny", "task.num_train=64", "task.num_validation=32", "task.num_eval=32", "tracking=none")
VALID: tuple[tuple[str, ...], ...] = (
    (*SMALL, "lora.r=4", "training.lr=1e-3", "training.max_steps=3"),
    (*SMALL, "method=full", "training.batch_size=16", "training.dtype=fp32", "seed=1"),
    (*SMALL, "placement=qv", "lora.alpha=16", "training.schedule=cosine", "task.max_length=32"),
    (*SMALL, "-m", "lora.r=1,4", "seed=0,1", "study.n_jobs=2"),
    (*SMALL, "-m", "training.lr=interval(1e-4,1e-2)", "study.n_trials=4", "study.sampler=random"),
)
WRONG_VALUES = ("eight", "{a:1}", "1e", "1.2.3", "--", "'", "(", "[", "½", "true", "null", "[1", "a b", "1;2")
ODD_WORDS = (
    "=", "=3", "lora..r=3", ".lora.r=3", "lora.r.=3", "~lora.r", "~lora", "+lora.new=3", "++lora.new=3", "lora.r@x=3",
    "@lora=default",
    "hydra.run.dir=x", "hydra/launcher=joblib", "hydra.foo=1", "lora=null", "lora={r:3}",
    "lora.r.x=1",
    "training=[1]", "model=", "method='", "method=[lora]", "placement.roles=q", "placement.roles=[q,[v]]",
    "placement.layers=last:99999999999999999999",
    "placement.rank={q:2}", "model.architecture=3", "model.architecture.x",
    "paths.root=", "paths.root=/proc/1/root/x", "paths.root=\udcff", "study.seeds=[a]", "study.seeds=3", "seed=0.5",
    "training.lr=${oc.env:NOT_THERE}", "training.lr=${training.lr}", "training.lr=???", "lora.r=${nope}", "seed=-1",
    "training.lr=nan", "training.lr=inf", "training.lr=-1e-3", "training.lr=1e400", "training.dtype=fp8", "\x00=1",
    "model.name=" + "x" * 300, "model.name=../x", "study.name=../../x", "model=../tiny", "task=/etc/passwd", "again=1",
    "method.name=full", "task.name=files", "model.folder_digest=x", "processes.count=3", "+sweeps=nope", "sweeps=rank",
    "model.source=folder",
    "model.source=hub", "training.micro_batch_size=5", "--config-dir", "--config-name=x",
    "-x",
    "--config-dir=/nonexistent", "--cfg=jbo", "--hlep", "--multirn", "glob(*)", "lora.r=glob(*)", "method=glob(zz*)",
    "lora.r=range(1,1000000000)",
    "lora.r=interval(1,4)", "lora.r=choice()", "lora.r=choice(1,a)", "lora.r=shuffle(1,2)",
)  # fmt: skip
"""Words that other slips lead to; what each of them means is for the program to say, and it must say it in words."""


@dataclass(frozen=True)
class Mutant:
    """A command line with a slip."""

    kind: str
    words: tuple[str, ...]
    names: str
    """What a message has to hold; empty where the slip may mean something."""


def mutants(number: int, *, seed: int) -> list[Mutant]:
    """Command lines of every kind in turn."""
    draw = random.Random(seed)
    return [KINDS[index % len(KINDS)](draw) for index in range(number)]


def judge(words: Sequence[str]) -> str | None:
    """What `run.py` says of these words before it trains, or None; anything but a ConfigError is raised."""
    try:
        line = read_command_line(words)
        overrides = understood(line.overrides)
        adopt_config_dirs(overrides)
        check_words(overrides, is_sweep=line.is_sweep)
        if line.is_sweep:
            build_question(overrides)
        else:
            check_built(lambda: settle_rank(resolve(compose_config(overrides))), words=set_values(overrides))
    except ConfigError as err:
        return str(err)
    return None


def _misspelt(draw: random.Random, word: str) -> str:
    """The word with a letter left out, doubled, exchanged or replaced."""
    at = draw.randrange(len(word))
    slips = (
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :],
        word[:at] + draw.choice("qxz_7") + word[at + 1 :],
    )
    changed = [slip for slip in slips if slip not in (word, "")]
    return draw.choice(changed or [word + "x"])


def _replaced(draw: random.Random, change: Callable[[str, str], str], choose: Callable[[str], bool]) -> tuple:
    words = list(draw.choice(VALID))
    index = draw.choice([at for at, word in enumerate(words) if "=" in word and choose(word)])
    key, _, value = words[index].partition("=")
    words[index] = change(key, value)
    return tuple(words), key, words[index]


def _is_group(word: str) -> bool:
    return "." not in word.split("=")[0] and not word.startswith("seed")


def _key_typo(draw: random.Random) -> Mutant:
    words, _, word = _replaced(draw, lambda key, value: f"{_misspelt(draw, key)}={value}", lambda word: True)
    return Mutant("typo in a key", words, word.split("=")[0])


def _choice_typo(draw: random.Random) -> Mutant:
    words, key, _ = _replaced(draw, lambda key, value: f"{key}={_misspelt(draw, value)}x", _is_group)
    return Mutant("typo in a choice", words, key)


def _wrong_type(draw: random.Random) -> Mutant:
    def choose(word: str) -> bool:
        return word.split("=")[0] in BOUNDS and "study" not in word

    words, key, _ = _replaced(draw, lambda key, value: f"{key}={draw.choice(WRONG_VALUES)}", choose)
    is_unset = any(word in (f"{key}=null",) for word in words)
    return Mutant("wrong type", words, "" if is_unset else key)


def _huge(draw: random.Random) -> Mutant:
    key = draw.choice(sorted(set(BOUNDS) - {"study.seeds"}))
    huge = draw.choice(("-", "")) + "9" * draw.choice((13, 20, 40, 400, 5000))
    words = [word for word in VALID[0] if not word.startswith(key)]
    return Mutant("huge number", (*words, f"{key}={huge}"), key)


def _empty(draw: random.Random) -> Mutant:
    words, key, _ = _replaced(draw, lambda key, value: f"{key}=", lambda word: True)
    return Mutant("empty value", words, key)


def _twice(draw: random.Random) -> Mutant:
    words = list(draw.choice(VALID))
    word = draw.choice([word for word in words if "=" in word])
    words.insert(draw.randrange(len(words) + 1), word)
    return Mutant("twice", tuple(words), word.split("=")[0])


def _unicode(draw: random.Random) -> Mutant:
    odd = draw.choice(("ü", "\u200b", "\u202e", "😀", "\udc80", "\u00a0", "ı", "−", "\n", "\t", "\x1b[31m"))
    words, key, _ = _replaced(draw, lambda key, value: f"{key}{odd}={value}", lambda word: True)
    return Mutant("unicode", words, key)


def _foreign(draw: random.Random) -> Mutant:
    word = draw.choice(sorted(KEYS))
    return Mutant("another tool's word", (*VALID[0], f"{word}={draw.choice(('3', 'x', '[a,b]'))}"), word)


def _option(draw: random.Random) -> Mutant:
    option = f"--{_misspelt(draw, draw.choice(('help', 'multirun', 'config-dir', 'resolve')))}x"
    return Mutant("unknown option", (*draw.choice(VALID), option), option)


def _odd(draw: random.Random) -> Mutant:
    words = list(draw.choice(VALID))
    words.insert(draw.randrange(len(words) + 1), draw.choice(ODD_WORDS))
    return Mutant("odd word", tuple(words), "")


KINDS = (_key_typo, _choice_typo, _wrong_type, _huge, _empty, _twice, _unicode, _foreign, _option, _odd, _odd)
