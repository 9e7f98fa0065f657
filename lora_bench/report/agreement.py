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
    "model.tokenizer",
    "training.batch_size",
    "training.max_steps",
    "training.dtype",
)
"""Of the configuration, with every key of the task. Seeds are averaged over; all else is what is compared."""

PATH_KEYS = ("task.train", "task.validation", "task.eval")
"""Say where data are, not what they are: never compared."""
CONTENT_KEY = "task.content_digest"
"""Of the files' bytes: compared only where a run ended before the digest of what it read was known."""
DIGESTS = ("data", "weights")
"""Compared whole; shortened where they are shown (`shown_field`)."""
UNKNOWN = ""
"""Of a run that ended before it was known; agrees with anything."""

SHORTEST = 8
"""Hexadecimal digits of a digest that are shown at least."""

Fields = dict[str, str]


def fixed_fields(record: Record) -> Fields:
    """What a run must share with the others of its table, by the name that a reader knows it by."""
    config = flat(record.config)
    keys = [*FIXED_KEYS, *(key for key in config if key.startswith("task.") and key not in PATH_KEYS)]
    fields = {key: _text(config.get(key)) for key in keys}
    result = record.result
    if result is None:
        return fields
    origin, score = result.provenance, result.score(result.headline)
    fields["data"] = origin.data_digest
    fields["weights"] = origin.weights_digest
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
    if all(fields.get("data") for fields in groups):
        keys = [key for key in keys if key != CONTENT_KEY]
    values = {key: [fields.get(key, UNKNOWN) for fields in groups] for key in keys}
    return {key: found for key, found in values.items() if len(set(found)) > 1}


def shown_field(name: str, values: Sequence[str]) -> list[str]:
    """Return a field's values as they are shown: digests cut to the fewest characters that still tell them apart."""
    if name not in (*DIGESTS, CONTENT_KEY):
        return list(values)
    hexes = [value.rsplit(":", 1)[-1] for value in values]
    length = next(length for length in range(SHORTEST, 65) if len({h[:length] for h in hexes}) == len(set(hexes)))
    return [hex_digits[:length] for hex_digits in hexes]


def _agree(one: Fields, other: Fields) -> bool:
    keys = {*one, *other}
    if one.get("data") and other.get("data"):
        keys.discard(CONTENT_KEY)
    return all(UNKNOWN in (one.get(key, UNKNOWN), other.get(key, UNKNOWN)) or one[key] == other[key] for key in keys)


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)
