"""Files <-> nouns: one module for each file format, errors that name file, field and value."""

from cutset.serde.cluster_file import cluster_document, parse_cluster, read_cluster, write_cluster
from cutset.serde.common import to_json
from cutset.serde.plan_file import plan_document, read_plan, write_plan
from cutset.serde.profile_file import parse_profile, profile_document, read_profile, write_profile
from cutset.serde.schemas import json_schemas
from cutset.serde.workload_file import (
    WorkloadDocument,
    parse_workload,
    read_workload,
    workload_document,
    write_workload,
)

__all__ = [
    "WorkloadDocument",
    "cluster_document",
    "json_schemas",
    "parse_cluster",
    "parse_profile",
    "parse_workload",
    "plan_document",
    "profile_document",
    "read_cluster",
    "read_plan",
    "read_profile",
    "read_workload",
    "to_json",
    "workload_document",
    "write_cluster",
    "write_plan",
    "write_profile",
    "write_workload",
]
