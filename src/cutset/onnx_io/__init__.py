"""ONNX models: preparation, the graph of operators, submodels."""
