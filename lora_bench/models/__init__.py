"""Pretrained and random networks, their roles and their sizes.

What stands here needs no torch. `load`, `convert`, `split` and `heads` do and are imported by name.
"""

from lora_bench.models.carries import method_faults
from lora_bench.models.catalog import check_weights, read_architecture
from lora_bench.models.counts import trained_parameters
from lora_bench.models.digests import weights_digest
from lora_bench.models.roles import ROLES, roles_of, target_modules
from lora_bench.models.sizes import (
    adapter_parameters,
    decoder_start,
    max_tokens,
    placement_faults,
    reads_segments,
    role_shapes,
)

__all__ = [
    "ROLES",
    "adapter_parameters",
    "check_weights",
    "decoder_start",
    "max_tokens",
    "method_faults",
    "placement_faults",
    "read_architecture",
    "reads_segments",
    "role_shapes",
    "roles_of",
    "target_modules",
    "trained_parameters",
    "weights_digest",
]
