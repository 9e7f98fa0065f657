"""Trained tokens in front of a text: their embeddings (PreEmbed), or their activations in every layer (PreLayer).

The LoRA paper's two prefix baselines (arXiv:2106.09685, 5.1, after arXiv:2101.00190): d numbers per token, or L d.

The tokens enter as ids beyond the vocabulary, so that everything that looks at ids and masks (positions, padding, the
token that a classifier reads, caches while generating) works as it does for words. PEFT's prompt tuning passes
embeddings instead, and then a decoder's classifier reads the padding: padded and unpadded texts get other classes.
An encoder's first token stays the first one, since its class is read there; the prefix comes after it.

Axes: `B` texts, `T` tokens of a text, `P` tokens of the prefix, `L` layers, `D` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

EMBEDDINGS = "prefix_embeddings"
ACTIVATIONS = "prefix_activations"


class PrefixNet(nn.Module):
    """A network with a prefix; called and asked to generate as the network itself.

    Attributes:
        net: The network, or PEFT's wrapper around it.
        prefix_embeddings: What stands for the tokens at the input, shape (P, D).
        prefix_activations: What replaces their activations after each layer but the last, shape (L - 1, P, D); None
            where only embeddings are trained.
    """

    def __init__(self, net: Any, *, num_tokens: int, is_after_first: bool, layers: Sequence[str] = ()) -> None:
        """Starts as the prefix of some words of the vocabulary, drawn at random."""
        super().__init__()
        self.net = net
        self.num_tokens = num_tokens
        self._position = 1 if is_after_first else 0
        base = self.get_base_model()
        modules = [base.get_submodule(name) for name in layers[:-1]]
        words = torch.randint(int(base.config.vocab_size), (1, num_tokens))
        embedded_PD, *after_LPD = _activations(base, words, modules)
        self.prefix_embeddings = nn.Parameter(embedded_PD)
        self.prefix_activations = nn.Parameter(torch.stack(after_LPD)) if after_LPD else None
        self._vocab_size = int(base.config.vocab_size)
        self._is_prefix_BT: Tensor | None = None
        embedding = base.get_input_embeddings()
        embedding.register_forward_pre_hook(self._hide)
        embedding.register_forward_hook(self._embed)
        for index, module in enumerate(modules):
            module.register_forward_hook(lambda _, inputs, output, index=index: self._replace(output, index))

    @property
    def config(self) -> Any:
        """The network's own."""
        return self.net.config

    def get_base_model(self) -> Any:
        """The network of transformers below all wrappers."""
        return self.net.get_base_model() if hasattr(self.net, "get_base_model") else self.net

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **options: Any) -> Any:
        """The network's output for the text alone: logits of prefix tokens are left out."""
        mask = self._insert(attention_mask, torch.ones(self.num_tokens))
        if "position_ids" in options:
            options["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        if "token_type_ids" in options:
            options["token_type_ids"] = self._insert(options["token_type_ids"], torch.zeros(self.num_tokens))
        output = self.net(input_ids=self._insert_ids(input_ids), attention_mask=mask, **options)
        if output.logits.dim() == 3 and output.logits.shape[1] == mask.shape[1]:
            output.logits = output.logits[:, self.num_tokens :]
        return output

    def generate(self, input_ids: Tensor, attention_mask: Tensor, **options: Any) -> Tensor:
        """Texts and their continuations, without the prefix."""
        mask = self._insert(attention_mask, torch.ones(self.num_tokens))
        output_BT: Tensor = self.net.generate(input_ids=self._insert_ids(input_ids), attention_mask=mask, **options)
        return torch.cat([output_BT[:, : self._position], output_BT[:, self._position + self.num_tokens :]], dim=1)

    def _insert_ids(self, ids_BT: Tensor) -> Tensor:
        return self._insert(ids_BT, torch.arange(self._vocab_size, self._vocab_size + self.num_tokens))

    def _insert(self, rows_BT: Tensor, prefix_P: Tensor) -> Tensor:
        before, after = rows_BT[:, : self._position], rows_BT[:, self._position :]
        middle = prefix_P.to(rows_BT).expand(len(rows_BT), -1)
        return torch.cat([before, middle, after], dim=1)

    def _hide(self, embedding: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The table of embeddings has no row for prefix tokens."""
        ids_BT, *others = inputs
        self._is_prefix_BT = ids_BT >= self._vocab_size
        return (ids_BT.masked_fill(self._is_prefix_BT, 0), *others)

    def _embed(self, embedding: nn.Module, inputs: tuple[Tensor, ...], output_BTD: Tensor) -> Tensor:
        return self._put(output_BTD, self.prefix_embeddings)

    def _replace(self, output: Any, index: int) -> Any:
        assert self.prefix_activations is not None, "hooks were set for them"
        if isinstance(output, tuple):
            return (self._put(output[0], self.prefix_activations[index]), *output[1:])
        return self._put(output, self.prefix_activations[index])

    def _put(self, x_BTD: Tensor, prefix_PD: Tensor) -> Tensor:
        """Tokens of the prefix get these values; while generating from a cache there are none."""
        is_prefix_BT = self._is_prefix_BT
        if is_prefix_BT is None or not is_prefix_BT.any():
            return x_BTD
        assert is_prefix_BT.shape == x_BTD.shape[:2], "the embeddings of this pass were looked up just before"
        values_BPD = prefix_PD.to(x_BTD.dtype).expand(len(x_BTD), -1, -1)
        return x_BTD.masked_scatter(is_prefix_BT[..., None], values_BPD)


@torch.no_grad()
def _activations(base: Any, words: Tensor, modules: Sequence[nn.Module]) -> list[Tensor]:
    """What the table of embeddings and these layers give for some words, each of shape (P, D)."""
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        x_BTD = output[0] if isinstance(output, tuple) else output
        found.append(x_BTD[0].detach().clone())

    watched = [base.get_input_embeddings(), *modules]
    handles = [module.register_forward_hook(keep) for module in watched]
    modes = [(module, module.training) for module in base.modules()]
    base.eval()
    base.base_model(input_ids=words.to(next(base.parameters()).device))
    for module, mode in modes:
        module.training = mode
    for handle in handles:
        handle.remove()
    return found
