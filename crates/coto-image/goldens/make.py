"""Writes images/, sets/ and expected.safetensors: small images, and what transformers' Pillow-based processors make of them.

    python make.py     (needs pillow, numpy, transformers, safetensors and pyarrow)

Each tensor of expected.safetensors is the result of one processor for one image, named `processor/image`, [channels, height,
width]; the processors' settings are in processors.json. `decoded/image` is what Pillow decodes of a JPEG, [height, width, channels]. Where transformers takes only RGB (no `do_convert_rgb`), the image is first
converted by Pillow, as its training examples do: `convert("RGB")`, and for one channel `convert("L")` after it.
"""

import gzip
import io
import json
import pathlib
import shutil
import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import transformers
from PIL import Image
from safetensors.numpy import save_file
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

HERE = pathlib.Path(__file__).parent
RANDOM = np.random.default_rng(5)

PROCESSORS = {
    "vit": {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}},
    "clip": {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 12}, "crop_size": {"height": 12, "width": 12}},
    "old_clip": {"feature_extractor_type": "CLIPFeatureExtractor", "size": 9, "crop_size": 13, "resample": 2},
    "grey": {"image_processor_type": "ViTImageProcessorFast", "size": 14, "image_mean": [0.2860], "image_std": [0.3530]},
    "raw": {
        "image_processor_type": "ViTFeatureExtractor",
        "size": {"height": 11, "width": 23},
        "resample": 3,
        "do_rescale": False,
        "do_normalize": False,
    },
    "crop": {
        "image_processor_type": "CLIPImageProcessorFast",
        "do_resize": False,
        "crop_size": {"height": 9, "width": 26},
        "rescale_factor": 0.01,
        "image_mean": 0.25,
        "image_std": 0.5,
    },
}
for number, name in enumerate(["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]):
    PROCESSORS[name] = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 19, "width": 16},
        "resample": number,
        "do_rescale": False,
        "do_normalize": False,
    }
# As transformers writes them.
for name, processor in [
    ("saved_vit", ViTImageProcessorPil(size={"height": 10, "width": 12}, resample=5)),
    ("saved_clip", CLIPImageProcessorPil(size={"shortest_edge": 11}, crop_size={"height": 10, "width": 9})),
]:
    PROCESSORS[name] = json.loads(processor.to_json_string())


def scene(height, width, channels):
    """Waves, an edge and noise: smooth enough to be an image, rough enough that every weight shows."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [
        127 + 90 * np.sin(x / (2 + c) + y / (5 - c)) + 60 * (x * 2 > y + c * 3) + RANDOM.normal(0, 12, (height, width))
        for c in range(channels)
    ]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def images():
    rgb = Image.fromarray(scene(37, 53, 3))
    grey = Image.fromarray(scene(28, 28, 1)[..., 0])
    rgba = scene(21, 30, 4)
    rgba[:8, :, 3], rgba[-4:, :, 3] = 0, 255
    palette = Image.fromarray(scene(25, 18, 3)).quantize(16)
    yield "rgb.png", rgb, {}
    yield "small.png", Image.fromarray(scene(7, 5, 3)), {}
    yield "tall.png", Image.fromarray(scene(64, 9, 3)), {}
    yield "one.png", Image.fromarray(scene(1, 1, 3)), {}
    yield "grey.png", grey, {}
    yield "bits.png", grey.point(lambda value: 255 * (value > 127), "1"), {}
    yield "rgba.png", Image.fromarray(rgba), {}
    yield "grey_alpha.png", Image.fromarray(rgba[..., [0, 3]], "LA"), {}
    yield "palette.png", palette, {}
    yield "palette_alpha.png", palette, {"transparency": bytes([0, 90, 255] * 5)}
    yield "colour_key.png", rgb.resize((20, 16)).quantize(8).convert("RGB"), {"transparency": None}
    yield "grey16.png", Image.fromarray((scene(16, 17, 1)[..., 0] * np.uint16(3)).astype(np.uint16)), {}
    yield "rgb.bmp", Image.fromarray(scene(13, 15, 3)), {}
    yield "palette.gif", palette, {}
    yield "lossless.webp", Image.fromarray(scene(14, 12, 3)), {"lossless": True}
    yield "whole.jpg", rgb, {"quality": 90, "subsampling": 0}
    yield "half.jpg", rgb, {"quality": 90, "subsampling": 2}
    yield "grey.jpg", grey, {"quality": 90}
    yield "progressive.jpg", rgb, {"quality": 85, "progressive": True}


def rgb16():
    """A PNG of 16 bits a channel, which Pillow reads but does not write."""
    values = RANDOM.integers(0, 65536, (9, 12, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 12, 9, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def processed(settings, image):
    kind = settings.get("image_processor_type", settings.get("feature_extractor_type"))
    processor = (CLIPImageProcessorPil if kind.startswith("CLIP") else ViTImageProcessorPil).from_dict(dict(settings))
    assert processor.backend == "pil"
    if settings is PROCESSORS["grey"]:
        image = image.convert("RGB").convert("L")
    elif not processor.do_convert_rgb:
        image = image.convert("RGB")
    # What is neither rescaled nor normalised is still in 8 bits.
    return np.ascontiguousarray(processor(image, return_tensors="np")["pixel_values"][0])


def write_images():
    folder = HERE / "images"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, image, options in images():
        if "transparency" in options and options["transparency"] is None:
            options = {"transparency": image.getpixel((3, 3))}
        image.save(folder / name, **options)
    (folder / "rgb16.png").write_bytes(rgb16())
    Image.fromarray(scene(8, 8, 4), "CMYK").save(folder / "cmyk.jpg")

    # All processors on a few images, and a few on all.
    everywhere = ["rgb.png", "small.png", "tall.png", "one.png", "rgba.png", "grey.png"]
    expected = {}
    for path in sorted(folder.iterdir()):
        if path.name == "cmyk.jpg":
            continue
        for name, settings in PROCESSORS.items():
            if path.name in everywhere or name in ["clip", "grey"]:
                expected[f"{name}/{path.name}"] = processed(settings, Image.open(path))
        if path.suffix == ".jpg":
            expected[f"decoded/{path.name}"] = np.asarray(Image.open(path))
    facts = {"made_with": f"transformers {transformers.__version__}, Pillow {Image.__version__}"}
    save_file(expected, HERE / "expected.safetensors", metadata=facts)
    (HERE / "processors.json").write_text(json.dumps(PROCESSORS, indent=1) + "\n")


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (6, 5), colour).save(file, "png")
    return file.getvalue()


def write_sets():
    sets = HERE / "sets"
    shutil.rmtree(sets, ignore_errors=True)
    for name, colour in [("red/1.png", "red"), ("red/2.PNG", "tomato"), ("blue/a.png", "blue")]:
        path = sets / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(colour))
    (sets / "list.jsonl").write_text(
        '{"image": "folder/red/1.png", "label": "warm"}\n{"image": "folder/blue/a.png", "label": "cold"}\n'
    )

    colours = ["red", "green", "blue", "white", "black"]
    pictures = [{"bytes": png(colour), "path": f"{colour}.png"} for colour in colours]
    labels = [0, 1, 2, 1, 0]
    features = {"image": {"_type": "Image"}, "label": {"names": ["stop", "go", "wait"], "_type": "ClassLabel"}}
    table = pa.table(
        {
            "image": pa.array(pictures, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
            "label": pa.array(labels, pa.int64()),
            "word": pa.array([f"class {label}" for label in labels]),
            "plain": pa.array([picture["bytes"] for picture in pictures], pa.binary()),
            "score": pa.array([0.5] * 5),
            "gap": pa.array([None if label == 2 else picture for label, picture in zip(labels, pictures)]),
        },
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    pq.write_table(table, sets / "hub.parquet", row_group_size=2)
    pq.write_table(table.replace_schema_metadata(None), sets / "plain.parquet", compression="zstd")

    digits = RANDOM.integers(0, 256, (6, 4, 3), dtype=np.uint8)
    images = struct.pack(">4BIII", 0, 0, 8, 3, 6, 4, 3) + digits.tobytes()
    labels = struct.pack(">4BI", 0, 0, 8, 1, 6) + bytes([2, 0, 1, 2, 2, 0])
    (sets / "test-images-idx3-ubyte").write_bytes(images)
    (sets / "test-labels-idx1-ubyte").write_bytes(labels)
    (sets / "test-images-idx3-ubyte.gz").write_bytes(gzip.compress(images, mtime=0))
    (sets / "test-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels, mtime=0))


if __name__ == "__main__":
    write_images()
    write_sets()
