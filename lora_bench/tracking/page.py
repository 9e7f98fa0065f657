"""What the MLflow page shows first: the columns that answer our question, the best run on top.

MLflow's page shows no metric until one is picked. A view that is shared by link is kept as a tag of its experiment
(mlflow 3.17, server/js, `mlflow.sharedViewState.`); a page that no longer knows it shows its own default instead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import urlencode

VIEW_NAME = "lora_bench"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_NAME}"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Else MLflow takes the experiment for one about prompts and traces."""

COST_COLUMNS = (
    "metrics.`parameters/trainable_count`",
    "metrics.`memory/peak_tensor_gib`",
    "metrics.`checkpoint/weights_mib`",
    "metrics.`time/step_median_ms`",
    "params.`method.name`",
    "params.`lora.r`",
    "tags.`seed`",
    "tags.`status`",
)
COLUMN_PIXELS = 150


def shared_view(headlines: Sequence[str]) -> str:
    """The value of `VIEW_TAG`, for runs that are judged by these scores; sorted by the first of them."""
    scores = [f"metrics.`test/{name}{bound}`" for name in headlines for bound in ("", "_ci_low", "_ci_high")]
    columns = [*scores, *COST_COLUMNS]
    # Sorted by a metric, MLflow lists the members of a study themselves and not the folded study.
    order = {"orderByKey": scores[0], "orderByAsc": False} if scores else {}
    widths = dict.fromkeys(columns, COLUMN_PIXELS)
    return json.dumps({"selectedColumns": columns, "columnOrder": columns, "columnWidths": widths, **order})


def page_path(experiment_id: str) -> str:
    """Where the view is, after the address of the server."""
    query = urlencode({"viewStateShareKey": VIEW_NAME, "workflowType": "machine_learning"})
    return f"/#/experiments/{experiment_id}/runs?{query}"
