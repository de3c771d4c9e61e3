"""ONNX files of classifiers: export, description inside the file, int8 weights, predictions."""
