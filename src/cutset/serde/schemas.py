"""JSON Schemas of all file formats; `cutset/schemas/*.json` are written from here.

`python -m cutset.serde.schemas FOLDER` writes them again after a format has changed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from cutset.serde.cluster_file import ClusterDocument
from cutset.serde.common import to_json, write_text
from cutset.serde.plan_file import PlanDocument
from cutset.serde.profile_file import ProfileDocument
from cutset.serde.workload_file import WorkloadDocument

_DOCUMENTS = {
    "cluster": ClusterDocument,
    "plan": PlanDocument,
    "profile": ProfileDocument,
    "workload": WorkloadDocument,
}


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schemas (draft 2020-12) of all files, by file kind."""
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {name: draft | msgspec.json.schema(kind) for name, kind in _DOCUMENTS.items()}


def write_schemas(folder: str | Path) -> None:
    """Write KIND.json for every file kind. Raises InvalidFileError where it cannot."""
    for name, schema in json_schemas().items():
        write_text(Path(folder) / f"{name}.json", to_json(schema, indent=2))


if __name__ == "__main__":
    write_schemas(sys.argv[1])
