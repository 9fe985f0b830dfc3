import hashlib
import json

from nvae_tf.config import model_config_from_dict
from nvae_tf.export.saved_model.model_card import checksums

_SIGNATURES = {
    "sample": ({"seed", "temperature"}, {"image", "png_bytes"}),
    "serving_default": ({"seed", "temperature"}, {"image", "png_bytes"}),
    "decode": ({"noise_00", "noise_01", "temperature"}, {"likelihood_params", "mean_image"}),
    "encode": ({"image_bytes"}, {"latent_00", "latent_01", "noise_00", "noise_01", "kl_per_group"}),
    "encode_pixels": ({"image"}, {"latent_00", "latent_01", "noise_00", "noise_01", "kl_per_group"}),
    "encode_floats": ({"image"}, {"latent_00", "latent_01", "noise_00", "noise_01", "kl_per_group"}),
    "reconstruct": ({"image_bytes", "seed", "temperature"}, {"image", "png_bytes"}),
    "interpolate": ({"image_bytes_a", "image_bytes_b", "alpha"}, {"image", "png_bytes"}),
    "interpolate_seeds": ({"seed_a", "seed_b", "alpha", "temperature"}, {"image", "png_bytes"}),
    "score": ({"image", "seed"}, {"nelbo", "bits_per_dim", "kl_per_group"}),
}


def _strict(text):
    return json.loads(text, parse_constant=lambda name: 1 / 0)  # NaN and infinities are no JSON


def test_card_says_what_a_client_needs(tiny_base, tiny_run_dir):
    extra = tiny_base / "1" / "assets.extra"
    card = _strict((extra / "model.json").read_text())
    config = _strict((tiny_run_dir / "config.json").read_text())
    assert model_config_from_dict(card["model"]) == model_config_from_dict(config["model"])
    assert (card["format"], card["name"], card["likelihood"], card["pixels"]) == (1, "nvae", "bernoulli", "mean")
    assert (card["temperature"], card["allowed_batch_sizes"], card["dataset"]) == (0.8, [1, 2], "digits")
    assert card["run"]["step"] == 7 and card["evaluation"] is None
    sizes = {key: card["image"][key] for key in ("height", "width", "channels", "bit_depth", "padding", "binarized")}
    assert sizes == {"height": 6, "width": 6, "channels": 1, "bit_depth": 8, "padding": 1, "binarized": True}
    assert "PNG or JPEG" in card["image"]["decoding"]
    assert card["groups"] == [
        {"height": 2, "width": 2, "channels": 2, "scale": 0},
        {"height": 4, "width": 4, "channels": 2, "scale": 1},
    ]
    names = {name: (set(sig["inputs"]), set(sig["outputs"])) for name, sig in card["signatures"].items()}
    assert names == _SIGNATURES
    assert card["signatures"]["decode"]["inputs"]["noise_01"] == {"dtype": "float32", "shape": [None, 4, 4, 2]}
    assert card["signatures"]["sample"]["outputs"]["png_bytes"] == {"dtype": "string", "shape": [None]}
    assert card["folded"]["batch norm folded into the convolution before it"] > 0
    assert all(figures["relative"] < 1e-5 for figures in card["parity"]["outputs"].values())


def test_card_holds_the_checksum_of_every_other_file(tiny_base):
    version = tiny_base / "1"
    card = json.loads((version / "assets.extra" / "model.json").read_text())
    files = {path.relative_to(version).as_posix() for path in version.rglob("*") if path.is_file()}
    assert set(card["checksums"]) == files - {"assets.extra/model.json"} == set(checksums(version))
    for name, expected in card["checksums"].items():
        assert hashlib.sha256((version / name).read_bytes()).hexdigest() == expected, name
    assert card["golden"] == {"file": "golden.npz", "sha256": card["checksums"]["assets.extra/golden.npz"]}
