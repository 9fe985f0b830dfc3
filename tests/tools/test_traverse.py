import numpy as np
import pytest

from nvae_tf.evaluation.latents import draw_rows
from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.runs.starts import Starts


def test_a_row_for_each_image_begins_with_it_unchanged(grid_cells, digits_run, model, program, tmp_path, capsys):
    out = tmp_path / "rows.png"
    flags = ("--seeds=1,2,7", "--scale=1", "--columns=4", "--batch_size=3", "--temperature=0.8", f"--out={out}")
    program("traverse", f"--run_dir={digits_run}", *flags).main()
    rows = grid_cells(out, 4)
    assert rows.shape == (3, 4, 16, 16)
    for seed, row in zip((1, 2, 7), rows, strict=True):
        unchanged = sample_images(model, 1, 0.8, seed=seed)[0, ..., 0]
        np.testing.assert_allclose(row[0], 255 * unchanged, atol=0.6)
        assert min(np.abs(np.int32(picture) - row[0]).max() for picture in row[1:]) > 8
    printed = capsys.readouterr().out
    assert "groups that change: 1, 2 of 3" in printed and f"written: {out}" in printed


@pytest.mark.parametrize("what", [(), ("--channel=1",)])
def test_only_the_noise_of_the_group_changes(digits_run, model, program, what):
    flags = (f"--run_dir={digits_run}", "--images=3,17", "--group=1", "--columns=4", "--seed=5", "--temperature=0.25")
    tool = program("traverse", *flags, *what)
    starts = Starts(model.config, tool.FLAGS)
    noise = starts.noise(model)[1]
    changed = tool.changed_noise(model, noise, starts.keys[1], [1])
    for group in (0, 2):
        np.testing.assert_array_equal(changed[group], np.repeat(noise[group], 4, axis=0))
    np.testing.assert_array_equal(changed[1][:1], noise[1])
    if what:
        np.testing.assert_array_equal(changed[1][1:, ..., 1], np.repeat([-3.0, 0.0, 3.0], 64).reshape(3, 8, 8))
        np.testing.assert_array_equal(changed[1][1:, ..., 0], np.repeat(noise[1], 3, axis=0)[..., 0])
    else:
        np.testing.assert_array_equal(changed[1][1:], draw_rows(model, 5, 17, [1, 2, 3], 0.25)[1])


def test_groups_of_a_scale(digits_run, model, program):
    for flag, groups in (("--scale=0", [0]), ("--scale=1", [1, 2]), ("--group=2", [2])):
        tool = program("traverse", f"--run_dir={digits_run}", "--seeds=1", flag)
        assert tool.chosen_groups(model.model_config) == groups


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--group=3"], "--group: expected 0 to 2. Received: 3"),
        (["--scale=2"], "--scale: expected 0 to 1. Received: 2"),
        (["--group=0", "--channel=2"], "--channel: expected 0 to 1. Received: 2"),
    ],
)
def test_missing_groups_are_named_before_the_model_is_built(digits_run, program, monkeypatch, flags, message):
    monkeypatch.setattr("nvae_tf.runs.load.load_folded", None)
    with pytest.raises(ValueError, match=f"^{message}$"):
        program("traverse", f"--run_dir={digits_run}", "--seeds=1", *flags).main()
