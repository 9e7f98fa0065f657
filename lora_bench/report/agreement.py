"""Which runs may stand in one table: those that agree in all that a comparison holds fixed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lora_bench.report.load import Record, flat

FIXED_KEYS = (
    "model.name",
    "model.source",
    "model.revision",
    "model.attention",
    "training.batch_size",
    "training.max_steps",
    "training.dtype",
)
"""Of the configuration, with every key of the task. Seeds are averaged over; all else is what is compared."""

UNKNOWN = ""
"""Of a run that ended before it was known; agrees with anything."""

Fields = dict[str, str]


def fixed_fields(record: Record) -> Fields:
    """What a run must share with the others of its table, by the name that a reader knows it by."""
    config = flat(record.config)
    keys = [*FIXED_KEYS, *(key for key in config if key.startswith("task."))]
    fields = {key: _text(config.get(key)) for key in keys}
    result = record.result
    if result is None:
        return fields
    origin, score = result.provenance, result.score(result.headline)
    fields["data"] = origin.data_digest[:8]
    fields["weights"] = origin.weights_digest[:8]
    fields["hardware"] = origin.hardware
    fields["threads"] = str(origin.num_threads) if origin.num_threads else UNKNOWN
    fields["evaluation"] = f"{score.name} over {score.num_items:,} items" if score else UNKNOWN
    return fields


def split_by_agreement(records: Sequence[Record]) -> list[tuple[Fields, list[Record]]]:
    """Groups of runs that agree, in the order of their first run; a run of which less is known joins the first."""
    groups: list[tuple[Fields, list[Record]]] = []
    for record in sorted(records, key=lambda record: UNKNOWN in fixed_fields(record).values()):
        fields = fixed_fields(record)
        for shared, members in groups:
            if _agree(shared, fields):
                members.append(record)
                break
        else:
            groups.append((fields, [record]))
    return groups


def differing(groups: Sequence[Fields]) -> dict[str, list[str]]:
    """The fields that keep groups apart, with each group's value."""
    keys = list(dict.fromkeys(key for fields in groups for key in fields))
    values = {key: [fields.get(key, UNKNOWN) for fields in groups] for key in keys}
    return {key: found for key, found in values.items() if len(set(found)) > 1}


def _agree(one: Fields, other: Fields) -> bool:
    return all(
        UNKNOWN in (one.get(key, UNKNOWN), other.get(key, UNKNOWN)) or one[key] == other[key] for key in {*one, *other}
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)
