"""Keeps out of a user's terminal what PEFT and transformers tell each other."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_peft() -> Iterator[None]:
    """Hides warnings that say nothing to a user while a network is wrapped or loaded; errors still raise."""
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5.23 by an old name; can go with the PEFT that uses the new one.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        # Conv1D stores its weight the other way round; PEFT sets fan_in_fan_out itself, and says so per layer.
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out is set to", category=UserWarning)
        # The network is in memory before it is adapted, so there is nothing to gain.
        warnings.filterwarnings("ignore", message="lora with eva initialization", category=UserWarning)
        # VeRA's shared factors come from their seed again.
        warnings.filterwarnings("ignore", message="Specified to not (save|load) vera_A", category=UserWarning)
        # What we merge ourselves is untied first; the card of an exported folder says so to whoever uses PEFT for it.
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True` and a", category=UserWarning)
        yield
