import json

import pytest

from nvae_tf.serving.card import read_card
from tests.serving.toy_model import EXAMPLES, write_card


def test_cards_that_are_damaged(model, tmp_path):
    path = write_card(tmp_path, model, {"sample": EXAMPLES["sample"]})
    assert set(read_card(path).answers) == {"sample"} and read_card(path).max_levels == 1
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"pixels": "sample"}))
    assert read_card(path).max_levels == 255
    path.write_text(json.dumps(content | {"golden": None}))
    with pytest.raises(ValueError, match="model.json: expected a model card"):
        read_card(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="model.json: expected a model card"):
        read_card(path)
    path.write_text(json.dumps(content))
    with (tmp_path / "golden.npz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match="golden.npz: expected the SHA-256 .* of model.json. Received: "):
        read_card(path)
