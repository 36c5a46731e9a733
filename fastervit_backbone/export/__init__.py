"""Export of whole models to ONNX, OpenVINO and torch.export, checked against the model itself."""
