"""One dataclass per method: its own keys, and which of the shared groups it reads.

`lora` (rank, alpha, ...) and `placement` (roles) are shared by the methods that have them; `resolve` sets to None
what a method does not read, so that it is in no digest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from omegaconf import MISSING

from lora_bench.config.placement import ADDED_LATER
from lora_bench.errors import Fault


class AlphaConvention(Enum):
    """What `lora.alpha` means; statements about rank and learning rate mean nothing without it."""

    constant = "constant"
    """The update is scaled by alpha / r (LoRA, arXiv:2106.09685)."""
    proportional = "proportional"
    """Alpha grows with the rank: the update is scaled by alpha / 8 at every rank."""
    rslora = "rslora"
    """The update is scaled by alpha / sqrt(r) (rsLoRA, arXiv:2312.03732)."""


class LoraInit(Enum):
    """How A and B start."""

    kaiming = "kaiming"
    """A uniform, as PEFT and loralib do (a = sqrt(5)); B zero."""
    gaussian = "gaussian"
    """A normal with standard deviation 1 / r, as the paper says; B zero."""
    by_method = "by_method"
    """The method says how; set by it (pissa, olora, ...), not by users."""


class Bias(Enum):
    """Which biases are trained beside adapters."""

    none = "none"
    lora_only = "lora_only"
    """Those of the adapted matrices."""
    all = "all"
    """Every bias of the network, those of norms too."""


@dataclass(kw_only=True)
class MethodConfig:
    """What is trained."""

    uses_lora: ClassVar[bool] = False
    """Whether it reads the group `lora`."""
    uses_placement: ClassVar[bool] = False
    """Whether it reads the group `placement`."""
    own_roles: ClassVar[tuple[str, ...]] = ()
    """Roles that it is placed on whatever `placement` says."""
    adapts_embeddings: ClassVar[bool] = False
    """Whether it can be placed on the role `embed`."""
    needs_bitsandbytes: ClassVar[bool] = False
    """Whether the base is quantised by that package."""
    sets_lora: ClassVar[Mapping[str, Any]] = {}
    """Keys of `lora` that the method fixes, with its values; another choice than the default is refused."""
    like: ClassVar[str] = "lora"
    """The method whose default rate tells how its own moves with the model: `full` for those that train weights as they
    are, else `lora`."""

    name: str = MISSING
    default_lr: float = MISSING
    """Peak learning rate on MiniLM; its source stands in the YAML. Where `training.lr` is not set, `config.rates` makes
    of it the rate on the model."""

    @property
    def num_added_tokens(self) -> int:
        """Tokens that the method adds to each text."""
        return 0

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        yield from ()


@dataclass(kw_only=True)
class FullMethodConfig(MethodConfig):
    """All weights."""

    like: ClassVar[str] = "full"

    name: str = "full"


@dataclass(kw_only=True)
class BitFitMethodConfig(MethodConfig):
    """The biases alone (BitFit, arXiv:2106.10199)."""

    like: ClassVar[str] = "full"

    name: str = "bitfit"


@dataclass(kw_only=True)
class TopLayersMethodConfig(MethodConfig):
    """The last layers and the task head alone (FT-Top2 of the LoRA paper, after arXiv:2101.00190)."""

    like: ClassVar[str] = "full"

    name: str = "top_layers"
    num_layers: int = 2
    """Layers that are trained, from the last one back."""

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        yield from _at_least_one(self, "num_layers", "the number of layers that are trained, from the last one back")


@dataclass(kw_only=True)
class LowRankMethodConfig(MethodConfig):
    """A product B A beside each placed matrix."""

    uses_lora: ClassVar[bool] = True
    uses_placement: ClassVar[bool] = True


@dataclass(kw_only=True)
class FusableMethodConfig(LowRankMethodConfig):
    """A plain product, which our fused layers can compute."""

    fused: bool = True
    """Our fused forward and backward in place of PEFT's; same numbers to rounding, faster."""


@dataclass(kw_only=True)
class LoraMethodConfig(FusableMethodConfig):
    """Low-rank adapters beside frozen weights (arXiv:2106.09685), through PEFT."""

    adapts_embeddings: ClassVar[bool] = True

    name: str = "lora"


@dataclass(kw_only=True)
class RsLoraMethodConfig(FusableMethodConfig):
    """LoRA scaled by alpha / sqrt(r) (arXiv:2312.03732)."""

    adapts_embeddings: ClassVar[bool] = True
    sets_lora: ClassVar[Mapping[str, Any]] = {"alpha_convention": AlphaConvention.rslora}

    name: str = "rslora"


@dataclass(kw_only=True)
class LoraPlusMethodConfig(FusableMethodConfig):
    """LoRA with a higher learning rate for B than for A (LoRA+, arXiv:2402.12354)."""

    name: str = "lora_plus"
    lr_ratio: float = 16.0
    """Rate of B as a multiple of `training.lr`, which is that of A; the head has `training.lr`. 1 is plain LoRA."""

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        if not 0 < self.lr_ratio < float("inf"):
            yield Fault("method.lr_ratio", f"{self.lr_ratio} is not above 0 and finite; the paper takes 16")


@dataclass(kw_only=True)
class LoraFaMethodConfig(FusableMethodConfig):
    """LoRA with A frozen as it was drawn (LoRA-FA, arXiv:2308.03303, algorithm 1)."""

    name: str = "lora_fa"


@dataclass(kw_only=True)
class DoraMethodConfig(LowRankMethodConfig):
    """Direction by LoRA, length of each row by a vector of its own (DoRA, arXiv:2402.09353)."""

    adapts_embeddings: ClassVar[bool] = True

    name: str = "dora"


@dataclass(kw_only=True)
class PissaMethodConfig(FusableMethodConfig):
    """LoRA that starts with the principal part of each matrix, taken out of the base (PiSSA, arXiv:2404.02948)."""

    sets_lora: ClassVar[Mapping[str, Any]] = {"init": LoraInit.by_method}

    name: str = "pissa"


@dataclass(kw_only=True)
class OloraMethodConfig(FusableMethodConfig):
    """LoRA that starts with the leading part of each matrix's QR, taken out of the base (OLoRA, arXiv:2406.01775)."""

    sets_lora: ClassVar[Mapping[str, Any]] = {"init": LoraInit.by_method}

    name: str = "olora"


@dataclass(kw_only=True)
class EvaMethodConfig(FusableMethodConfig):
    """LoRA that starts with what the matrices read, ranks shared out by it (EVA, arXiv:2410.07170)."""

    sets_lora: ClassVar[Mapping[str, Any]] = {"init": LoraInit.by_method}

    name: str = "eva"
    rho: float = 2.0
    """Most that a matrix gets, as a multiple of `lora.r`, 1 or more; 1 leaves all ranks equal."""
    tau: float = 0.99
    """Cosine between a direction and itself a batch later from which it counts as found, in (0, 1)."""
    num_batches: int = 16
    """Training batches that are looked at, over and over until directions are found."""

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        if not 1 <= self.rho < float("inf"):
            yield Fault("method.rho", f"{self.rho} is below 1 or endless; 1 leaves all ranks equal, the paper takes 2")
        if not 0 < self.tau < 1:
            yield Fault("method.tau", f"{self.tau} is not in (0, 1); the paper takes 0.99")
        yield from _at_least_one(self, "num_batches", "the number of training batches that are looked at")


@dataclass(kw_only=True)
class AdaLoraMethodConfig(LowRankMethodConfig):
    """Ranks that move to where they help (AdaLoRA, arXiv:2303.10512); `lora.r` is their mean at the end."""

    sets_lora: ClassVar[Mapping[str, Any]] = {"init": LoraInit.by_method}

    name: str = "adalora"
    start_factor: float = 1.5
    """Rank at the start as a multiple of `lora.r`, above 1; rounded, and at least one more."""
    start_part: float = 0.1
    """Part of the steps before the first rank is dropped."""
    final_part: float = 0.3
    """Part of the steps after the last one was."""
    every: int = 10
    """Steps between decisions."""
    orthogonality: float = 0.5
    """Weight of the penalty that holds A and B near orthonormal; 0 disables."""

    def init_rank(self, r: int) -> int:
        """The rank of each matrix at the start."""
        return max(r + 1, round(self.start_factor * r))

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        if not 1 < self.start_factor < float("inf"):
            yield Fault("method.start_factor", f"{self.start_factor} is not above 1; the paper takes 1.5")
        if self.start_part < 0 or self.final_part < 0 or self.start_part + self.final_part >= 1:
            given = f"start_part {self.start_part} and final_part {self.final_part}"
            yield Fault("method.final_part", f"{given} leave no steps between them; their sum has to be below 1")
        yield from _at_least_one(self, "every", "the number of steps between decisions about ranks")
        if not 0 <= self.orthogonality < float("inf"):
            yield Fault("method.orthogonality", f"{self.orthogonality} is not 0 or above and finite; 0 disables it")


@dataclass(kw_only=True)
class QloraMethodConfig(LowRankMethodConfig):
    """LoRA beside a base in four bits (QLoRA, arXiv:2305.14314); needs bitsandbytes."""

    adapts_embeddings: ClassVar[bool] = True
    needs_bitsandbytes: ClassVar[bool] = True

    name: str = "qlora"


@dataclass(kw_only=True)
class LoftqMethodConfig(QloraMethodConfig):
    """QLoRA that starts with what rounding lost (LoftQ, arXiv:2310.08659)."""

    adapts_embeddings: ClassVar[bool] = False
    sets_lora: ClassVar[Mapping[str, Any]] = {"init": LoraInit.by_method}

    name: str = "loftq"
    num_iterations: int = 5
    """Turns of rounding and decomposing."""

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        yield from _at_least_one(self, "num_iterations", "the number of turns of rounding and decomposing; 1 to 5")


@dataclass(kw_only=True)
class VeraMethodConfig(MethodConfig):
    """Two trained vectors per matrix around random factors that all share (VeRA, arXiv:2310.11454)."""

    uses_placement: ClassVar[bool] = True

    name: str = "vera"
    r: int = 256
    """Rank of the shared factors: trained numbers per matrix are this and its out features."""
    d_initial: float = 0.1
    """Where the vector over the rank starts; the other starts at 0."""
    dropout: float = 0.0
    """Dropout on the input, in [0, 1); 0 disables."""

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        yield from _at_least_one(self, "r", "the rank of the shared factors")
        if not 0 <= self.dropout < 1:
            yield Fault("method.dropout", f"{self.dropout} is not in [0, 1); 0 disables it")


@dataclass(kw_only=True)
class Ia3MethodConfig(MethodConfig):
    """Vectors that scale keys, values and the input of the down projection ((IA)^3, arXiv:2205.05638)."""

    own_roles: ClassVar[tuple[str, ...]] = ("k", "v", "down")

    name: str = "ia3"


@dataclass(kw_only=True)
class AdapterMethodConfig(MethodConfig):
    """Bottleneck adapters; the LoRA paper's kinds H, L, P and D."""

    bottleneck: int = 64
    """Width of the narrow part."""

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        yield from _at_least_one(self, "bottleneck", "the width of the narrow part; 8 to 64 are usual")


@dataclass(kw_only=True)
class HoulsbyMethodConfig(AdapterMethodConfig):
    """After attention and after the feed-forward part (arXiv:1902.00751)."""

    name: str = "adapter_h"
    norms: bool = field(default=False, metadata=ADDED_LATER)
    """Whether the norms of every layer are trained too, as Houlsby et al. do; the LoRA paper counts none for H."""


@dataclass(kw_only=True)
class LinMethodConfig(AdapterMethodConfig):
    """After the feed-forward part, with a norm (arXiv:2004.03829)."""

    name: str = "adapter_l"


@dataclass(kw_only=True)
class PfeifferMethodConfig(AdapterMethodConfig):
    """At the end of each layer (arXiv:2005.00247)."""

    name: str = "adapter_p"


@dataclass(kw_only=True)
class AdapterDropMethodConfig(AdapterMethodConfig):
    """At the end of each layer but the first ones (arXiv:2010.11918)."""

    name: str = "adapter_d"
    num_dropped: int = 1
    """Layers without an adapter, from the first one on; 0 is adapter_p."""

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        yield from super().faults()
        if self.num_dropped < 0:
            yield Fault("method.num_dropped", f"{self.num_dropped} is below 0; 0 drops none")


@dataclass(kw_only=True)
class PrefixMethodConfig(MethodConfig):
    """Trained tokens before the text (arXiv:2101.00190)."""

    num_tokens: int = 16
    """Tokens of the prefix."""

    @property
    def num_added_tokens(self) -> int:
        """Those of the prefix."""
        return self.num_tokens

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        yield from _at_least_one(self, "num_tokens", "the number of trained tokens; 8 to 64 are usual")


@dataclass(kw_only=True)
class PrefixEmbedMethodConfig(PrefixMethodConfig):
    """Their embeddings."""

    name: str = "prefix_embed"


@dataclass(kw_only=True)
class PrefixLayerMethodConfig(PrefixMethodConfig):
    """Their activations in every layer."""

    name: str = "prefix_layer"


@dataclass(kw_only=True)
class LoraPrefixMethodConfig(PrefixMethodConfig, FusableMethodConfig):
    """Trained tokens, and LoRA."""

    adapts_embeddings: ClassVar[bool] = True


@dataclass(kw_only=True)
class LoraPrefixEmbedMethodConfig(LoraPrefixMethodConfig):
    """Embeddings of trained tokens, and LoRA."""

    name: str = "lora_prefix_embed"


@dataclass(kw_only=True)
class LoraPrefixLayerMethodConfig(LoraPrefixMethodConfig):
    """Activations of trained tokens in every layer, and LoRA."""

    name: str = "lora_prefix_layer"


def _at_least_one(config: MethodConfig, key: str, meaning: str) -> Iterator[Fault]:
    value = getattr(config, key)
    if value < 1:
        yield Fault(f"method.{key}", f"{value} is below 1; it is {meaning}")
