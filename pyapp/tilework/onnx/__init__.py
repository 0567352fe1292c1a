"""The ONNX front: model files in, graphs and sessions out."""
