"""What a built engine is made of: its kernels, and what each of its tensors is in the ONNX model."""
