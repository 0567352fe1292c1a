"""What a file is that was given for a model and is none, told by its first bytes."""

from __future__ import annotations

# (where, the bytes there, what the file is and what to do)
_SIGNS = (
    (0, b"version https://git-lfs", "a Git LFS pointer; download the file that it stands for"),
    (0, b"PK\3\4", "a zip archive, as PyTorch writes; unpack it, or export the model to ONNX"),
    (0, b"\x1f\x8b", "packed with gzip; unpack it"),
    (0, b"\x89HDF", "HDF5, as Keras writes; convert the model to ONNX"),
    (4, b"ORTM", "onnxruntime's own format (.ort); give the .onnx file that it was made of"),
    (4, b"TFL3", "TensorFlow Lite; convert the model to ONNX"),
    (8, b'{"', "a safetensors file, which has weights and no graph; export the model to ONNX"),
)
_PAGE = "a web page: the server answered with one in the file's place; check the address"


def what_it_is(data: bytes | bytearray | memoryview) -> str:
    """In words, with what to do; "" when the bytes are nothing known."""
    head = bytes(memoryview(data).cast("B")[:64])
    if not head:
        return "empty; fetch it again"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        return _PAGE
    return next((words for at, sign, words in _SIGNS if head.startswith(sign, at)), "")
