import numpy as np
import pytest

from nvae_tf.data.batches import eval_batches
from nvae_tf.evaluation.sampling import reconstruct
from nvae_tf.evaluation.write_images import to_uint8
from nvae_tf.runs.data import load_images


def _expected(model, num, seed):
    images = load_images(model.config, None, "test", num)
    images = next(iter(eval_batches(images, model.config.data, 8, num, seed))).numpy()
    return images[..., 0], reconstruct(model, images, seed)[..., 0]


def test_originals_are_beside_their_reconstructions(grid_cells, digits_run, model, program, tmp_path, capsys):
    out = tmp_path / "pairs.png"
    flags = ("--num=5", "--batch_size=3", "--seed=2", f"--out={out}")
    program("reconstruct", f"--run_dir={digits_run}", *flags).main()
    *_, figures, written = capsys.readouterr().out.splitlines()
    cells = grid_cells(out, 4).reshape(-1, 2, 16, 16)[:5]
    images, pictures = _expected(model, 5, seed=2)
    np.testing.assert_array_equal(cells[:, 0], to_uint8(images))
    np.testing.assert_allclose(cells[:, 1], to_uint8(pictures), atol=1)
    assert float(figures.split()[1]) == pytest.approx(np.mean((images - pictures) ** 2), abs=1e-5)
    assert written == f"written: {out}"


def test_progressive_rows_keep_more_and_do_not_depend_on_the_batch(grid_cells, digits_run, model, tmp_path, program):
    rows = []
    for batch_size in (7, 2):
        out = tmp_path / f"{batch_size}.png"
        flags = (f"--run_dir={digits_run}", "--num=4", "--progressive", "--temperature=0.5")
        program("reconstruct", *flags, f"--batch_size={batch_size}", f"--out={out}").main()
        rows.append(grid_cells(out, 4))
    np.testing.assert_allclose(*map(np.int32, rows), atol=1)
    images, pictures = _expected(model, 4, seed=0)
    np.testing.assert_array_equal(rows[0][:, 0], to_uint8(images))
    np.testing.assert_allclose(rows[0][:, 3], to_uint8(pictures), atol=1)
    for count in (1, 2):
        assert np.abs(np.int32(rows[0][:, count]) - np.int32(rows[0][:, 3])).max() > 8


def test_counts_of_groups_are_spread_from_one_to_all(program, digits_run):
    counts = program("reconstruct", f"--run_dir={digits_run}").kept_counts
    assert counts(1) == [1] and counts(3) == [1, 2, 3] and counts(8) == list(range(1, 9))
    assert counts(15) == [1, 3, 5, 7, 9, 11, 13, 15] and counts(36)[::7] == [1, 36] and len(counts(36)) == 8


def test_the_figures_are_those_of_the_pictures(program, digits_run, model):
    tool = program("reconstruct", f"--run_dir={digits_run}", "--seed=1")
    images, expected = (part[..., np.newaxis] for part in _expected(model, 3, seed=1))
    pictures, errors, log_likelihood = tool._reconstruct(model, [0, 1, 2], images, [1, 3], 3)
    assert pictures.shape == (3, 3, 16, 16, 1) and errors.shape == log_likelihood.shape == (3, 2)
    np.testing.assert_array_equal(pictures[:, 0], images)
    np.testing.assert_allclose(pictures[:, 2], expected, atol=1e-4)
    squares = (pictures[:, 1:] - images[:, np.newaxis]) ** 2
    np.testing.assert_allclose(errors, squares.mean(axis=(2, 3, 4)), rtol=1e-5)
    mean, pixels = pictures[:, 1:].astype(np.float64), images[:, np.newaxis]
    log_prob = np.log(np.where(pixels > 0.5, mean, 1 - mean)).sum(axis=(2, 3, 4))
    np.testing.assert_allclose(log_likelihood, log_prob, rtol=1e-3)
