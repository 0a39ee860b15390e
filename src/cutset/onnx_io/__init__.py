"""ONNX models: preparation, the graph of operators, submodels."""

from cutset.onnx_io.attach import attach_preprocessing, parse_preprocessing
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
    "attach_preprocessing",
    "cut_report",
    "load_model",
    "operator_times",
    "parse_preprocessing",
    "submodel",
    "submodels",
    "whole",
]
