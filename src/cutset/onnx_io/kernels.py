"""Which tensors survive in the graph that ONNX Runtime runs, so that cutting there is cheap."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime as ort

from cutset.engine import Submodel, session_options, write_submodel
from cutset.errors import InvalidModelError
from cutset.onnx_io.reading import engine_message
from cutset.onnx_io.shapes import TensorSpec, known_specs


@dataclass(frozen=True)
class FusedGraph:
    """What is left of the portable graph's tensors after fusion, and what the engine knows of them.

    `surviving` are names of tensors that the optimised graph still makes; `specs` their shapes.
    """

    surviving: frozenset[str]
    specs: dict[str, TensorSpec]


def fused_graph(model: Submodel, file: str) -> FusedGraph:
    """Load the whole model with fusions and look at what remains.

    Fusions up to "extended" do not depend on the machine; layouts (NCHWc) do, and are left out.
    Raises InvalidModelError where ONNX Runtime cannot load the model.
    """
    with tempfile.TemporaryDirectory(prefix="cutset-") as folder:
        source = write_submodel(model, Path(folder))
        optimised = Path(folder) / "fused.onnx"
        options = session_options(threads=1)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(optimised)
        # Weights apart: what is read back is then small, and no model meets protobuf's 2 GiB.
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", "fused.bin"
        )
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", "4096"
        )
        try:
            ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a type of its own for each status
            raise InvalidModelError(
                f"ONNX Runtime cannot load the model: {engine_message(error)}",
                file=file,
                remedy="check that it runs unsplit with this version of onnxruntime",
            ) from None
        fused = onnx.load(str(optimised), load_external_data=False).graph
    made = frozenset(name for node in fused.node for name in node.output if name)
    return FusedGraph(made, {n: s for n, s in known_specs(fused).items() if n in made})
