"""decoder.json and golden.bin of files that need not be real."""

import json

import numpy as np
import tensorflow as tf

from nvae_tf.config import ModelConfig
from nvae_tf.export.device_graph import DeviceGraph
from nvae_tf.export.tflite.sidecar import _write_golden, write_sidecar
from nvae_tf.files import file_sum

_CONFIG = ModelConfig(image_height=32, image_width=32, padding=2, num_scales=2, groups_per_scale=1, bit_depth=8)
_PROVENANCE = {"run": {"step": 5, "checkpoint_sha256": "ab"}, "dataset": "mnist"}


def _write(folder):
    folder.joinpath("decoder_float32.tflite").write_bytes(b"32")
    folder.joinpath("decoder_float16.tflite").write_bytes(b"16")
    specs = {"noise_00": tf.TensorSpec([1, 4, 4, 20]), "temperature": tf.TensorSpec([1])}
    rng = np.random.default_rng(0)
    inputs = {name: rng.random(spec.shape, np.float32) for name, spec in specs.items()}
    outputs = {name: rng.random([1, 32, 32, 1], np.float32) for name in ("likelihood_params", "probabilities")}
    graphs = {"decoder": DeviceGraph("sample", specs, None)}
    write_sidecar(
        folder,
        _CONFIG,
        {"decoder": (inputs, outputs)},
        graphs,
        temperature=0.6,
        provenance=_PROVENANCE,
        cost={"parameters": 3, "macs": 7},
    )
    return json.loads((folder / "decoder.json").read_text()), inputs | outputs


def test_an_app_finds_what_it_needs(tmp_path):
    sidecar, _ = _write(tmp_path)
    assert sidecar["format"] == 1
    assert sidecar["signature"] == "sample"
    assert sidecar["files"] == {"float32": "decoder_float32.tflite", "float16": "decoder_float16.tflite"}
    assert [(value["name"], value["shape"], value["dtype"]) for value in sidecar["inputs"]] == [
        ("noise_00", [1, 4, 4, 20], "float32"),
        ("temperature", [1], "float32"),
    ]
    assert sidecar["inputs"][0]["distribution"] == "standard normal"
    assert [value["name"] for value in sidecar["outputs"]] == ["likelihood_params", "probabilities"]
    # Without the padding.
    assert sidecar["image"] == {
        "height": 28,
        "width": 28,
        "channels": 1,
        "padding": 2,
        "bit_depth": 8,
        "value_range": [0, 1],
    }
    assert sidecar["likelihood"]["kind"] == "bernoulli"
    assert (sidecar["num_groups"], sidecar["num_sampled_groups"]) == (2, 1)
    assert sidecar["temperature"] == 0.6
    assert (sidecar["parameters"], sidecar["macs"]) == (3, 7)
    assert sidecar["checkpoint"] == {"step": 5, "sha256": "ab"}
    assert sidecar["encoder"] is None


def test_golden_arrays_lie_where_the_sidecar_says(tmp_path):
    sidecar, arrays = _write(tmp_path)
    values = np.fromfile(tmp_path / "golden.bin", "<f4")
    assert [array["role"] for array in sidecar["golden"]["arrays"]] == ["input", "input", "output", "output"]
    for array in sidecar["golden"]["arrays"]:
        found = values[array["offset"] : array["offset"] + array["count"]].reshape(array["shape"])
        np.testing.assert_array_equal(found, arrays[array["name"]])
    assert len(values) == sum(array["count"] for array in sidecar["golden"]["arrays"])


def test_golden_arrays_of_the_encoder_come_after(tmp_path):
    one, two = ({"x": np.full([2], value, np.float32)} for value in (1, 2))
    golden = _write_golden(tmp_path / "golden.bin", {"decoder": (one, two), "encoder": (two, one)})
    assert [array["offset"] for array in golden["encoder"]["arrays"]] == [4, 6]
    assert {part["file"] for part in golden.values()} == {"golden.bin"}
    assert np.fromfile(tmp_path / "golden.bin", "<f4").tolist() == [1, 1, 2, 2, 2, 2, 1, 1]


def test_checksums_are_of_the_files(tmp_path):
    sidecar, _ = _write(tmp_path)
    names = ["decoder_float16.tflite", "decoder_float32.tflite", "golden.bin"]
    assert sidecar["sha256"] == {name: file_sum(tmp_path / name) for name in names}
