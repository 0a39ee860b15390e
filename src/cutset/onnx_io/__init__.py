"""ONNX models: preparation, the graph of operators, submodels."""

from cutset.onnx_io.model import Model, load_model
from cutset.onnx_io.report import CutPoint, CutReport, Uncut, cut_report
from cutset.onnx_io.shapes import TensorSpec
from cutset.onnx_io.submodels import submodel, submodels, whole
from cutset.onnx_io.times import OperatorTime, operator_times

__all__ = [
    "CutPoint",
    "CutReport",
    "Model",
    "OperatorTime",
    "TensorSpec",
    "Uncut",
    "cut_report",
    "load_model",
    "operator_times",
    "submodel",
    "submodels",
    "whole",
]
