"""Writes types.gguf and expected.safetensors with the Python package gguf (0.19.0) and numpy, from a fixed seed.

    python goldens/make.py

`matrix.*` are random bytes with finite scales, `rounded.*` are normal values that the package quantised.
"""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFValueType as V
from safetensors.numpy import save_file

HERE = Path(__file__).parent
# Where a block has its f16 numbers, in bytes.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q6_K: [208]}
rng = np.random.default_rng(7)


def finite_halves(count):
    """Random f16 bit patterns without NaN and infinity: subnormals, zeros and both signs among them."""
    bits = rng.integers(0, 1 << 16, count, dtype=np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] ^= 0x4000
    return bits


def random_bytes(kind, rows, columns):
    if kind == T.F32:
        return rng.standard_normal((rows, columns)).astype(np.float32).view(np.uint8)
    if kind == T.F16:
        return finite_halves(rows * columns).reshape(rows, columns).view(np.uint8)
    if kind == T.BF16:
        bits = rng.integers(0, 1 << 16, (rows, columns), dtype=np.uint16)
        bits[(bits & 0x7F80) == 0x7F80] ^= 0x4000
        return bits.view(np.uint8)
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows * columns // elements, size), dtype=np.uint8)
    blocks[0], blocks[1] = 0x00, 0xFF
    for at in HALVES[kind]:
        blocks[:, at : at + 2] = finite_halves(len(blocks)).view(np.uint8).reshape(-1, 2)
    blocks[2, HALVES[kind][0] : HALVES[kind][0] + 2] = [0x00, 0x80]  # A scale of -0.
    return blocks.reshape(rows, -1)


def metadata(writer):
    writer.add_custom_alignment(64)
    writer.add_name("Größe 字 🦙")
    for key, value in {"u8": 200, "u16": 60_000, "u32": 4_000_000_000, "u64": 1 << 63}.items():
        writer.add_key_value(f"scalar.{key}", value, getattr(V, f"UINT{key[1:]}"))
    for key, value in {"i8": -100, "i16": -30_000, "i32": -2_000_000_000, "i64": -(1 << 63)}.items():
        writer.add_key_value(f"scalar.{key}", value, getattr(V, f"INT{key[1:]}"))
    writer.add_float32("scalar.f32", 0.1)
    writer.add_float64("scalar.f64", 0.1)
    writer.add_bool("scalar.yes", True)
    writer.add_bool("scalar.no", False)
    writer.add_array("array.string", ["a", "", "字"])
    writer.add_array("array.f32", [0.5, -1.25])
    writer.add_array("array.i32", [3, -1, 2])
    writer.add_array("array.bool", [True, False])
    writer.add_array("array.nested", [[1, 2], [3]])
    writer.add_array("array.nested_strings", [["a"], ["b", "c"]])
    writer.add_key_value("array.u8", b"\x00\xff", V.ARRAY)
    writer.add_key_value("array.u32", [0, 4_000_000_000], V.ARRAY, V.UINT32)
    writer.add_key_value("array.i64", [-(1 << 63)], V.ARRAY, V.INT64)


def main():
    writer = gguf.GGUFWriter(HERE / "types.gguf", "golden")
    metadata(writer)
    expected = {}

    def add(name, data, kind):
        writer.add_tensor(name, np.ascontiguousarray(data), raw_dtype=kind)
        expected[name] = np.ascontiguousarray(gguf.dequantize(data, kind)).astype(np.float32, copy=False)

    for kind in [T.F32, T.F16, T.BF16, *HALVES]:
        rows = 10 if kind.name.endswith("_K") else 4
        add(f"matrix.{kind.name}", random_bytes(kind, rows, 256), kind)
    normal = rng.standard_normal((2, 128)).astype(np.float32)
    for kind in [T.BF16, T.Q4_0, T.Q4_1, T.Q8_0]:
        add(f"rounded.{kind.name}", gguf.quantize(normal, kind), kind)
    add("vector", np.array([1.5, -2.0, 3.25], np.float32).view(np.uint8), T.F32)
    add("cube", random_bytes(T.Q8_0, 6, 32).reshape(2, 3, -1), T.Q8_0)

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, HERE / "expected.safetensors")


if __name__ == "__main__":
    main()
