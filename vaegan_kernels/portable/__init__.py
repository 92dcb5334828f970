"""A trained model outside this package: PyTorch, safetensors and ONNX, and the way back."""
