"""A SavedModel for TensorFlow Serving: written aside, checked, run, and only then published as the next version.

BASE/
  1/  saved_model.pb, variables/
      assets.extra/  tf_serving_warmup_requests, model.json (the model card), golden.npz (requests and their answers),
                     parity.json (how near the answers come to Keras)
  2/  ...
  batching_parameters.txt, models.config, ...   what the server is started with; see `server_files`
  tmp_...    being written, or refused; the server skips it
"""

import errno
import json
import os
import shutil
import uuid

import numpy as np
import tensorflow as tf

from nvae_tf import files
from nvae_tf.export.parity import write_parity
from nvae_tf.export.saved_model import server_files
from nvae_tf.export.saved_model.check.contents import is_version
from nvae_tf.export.saved_model.check.lint import lint
from nvae_tf.export.saved_model.model_card import CARD, GOLDEN, checksums, model_card
from nvae_tf.export.saved_model.parity import keras_parity
from nvae_tf.export.saved_model.signatures import Signatures
from nvae_tf.export.saved_model.warm_up import WARM_UP, example_request, write_warm_up
from nvae_tf.golden_answers import write_npz
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel

_EXTRA = "assets.extra"
_GOLDEN_ROWS = 2


class ExportError(ValueError):
    """An export that was not published; the message says which checks it failed and where it is."""


def export_saved_model(
    nvae, base_dir, origin, name="nvae", pixels="mean", temperature=1.0, batch_sizes=(1, 2, 4, 8, 16), report=print
):
    """Exports a model as the next version of a folder.

    Args:
        nvae: `NVAE` as `nvae_tf.load_run` gave it.
        base_dir: `pathlib.Path` of the model's folder, made if need be.
        origin: its `provenance`.
        name: of the model for the server. Default `"nvae"`.
        pixels: images are the likelihood's `"mean"` or a `"sample"` of it. Default `"mean"`.
        temperature: that the card recommends. Default 1.
        batch_sizes: that the server may run, ascending. Default (1, 2, 4, 8, 16).
        report: called with a line of text at each step. Default `print`.

    Returns:
        `pathlib.Path` of the version's folder, and its model card.

    Raises:
        ValueError: an argument out of range, or answers that are not those of Keras.
        ExportError: a check failed.
        OSError: it could not be written.
    """
    server_files.check(base_dir, name, batch_sizes)
    if not 0.0 < temperature < float("inf"):
        raise ValueError(f"temperature: expected a positive, finite number. Received: {temperature}")
    base_dir.mkdir(parents=True, exist_ok=True)
    folder = base_dir / f"tmp_{uuid.uuid4().hex[:12]}"
    try:
        card = _write(nvae, folder, origin, name, pixels, temperature, batch_sizes, report)
        report("checking: rules of TensorFlow Serving, then every request in a process with TensorFlow alone")
        results = lint(folder, published=False)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    failed = [f"{result.name}: {result.detail} ({result.reason})" for result in results if not result.passed]
    if failed:
        lines = "".join(f"\n  {text}" for text in failed)
        raise ExportError(f"{folder}: expected an export that passes every check. Not published, for it fails:{lines}")
    # The last is the one that ran it.
    report(f"checks: {sum(result.status == 'passed' for result in results)} passed; {results[-1].detail}")
    # Not before: these files bind all later exports. Another export may have written them meanwhile.
    server_files.check(base_dir, name, batch_sizes)
    for path in server_files.write(base_dir, name, batch_sizes):
        report(f"written: {path}")
    return publish(folder), card


def publish(folder):
    """Gives a folder the number after the newest version beside it; two that do so at once get two numbers.

    Args:
        folder: `pathlib.Path`, written whole.

    Returns:
        The new path.
    """
    for path in (*folder.rglob("*"), folder):
        files.sync(path)
    base_dir = folder.parent
    while True:
        versions = [int(path.name) for path in base_dir.iterdir() if is_version(path.name)]
        final = base_dir / str(max(versions, default=0) + 1)
        try:
            # A folder with something in it is never replaced by this.
            os.rename(folder, final)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            files.sync(base_dir)
            return final


def _write(nvae, folder, origin, name, pixels, temperature, batch_sizes, report):
    """Writes a whole version; returns its card."""
    binarize = nvae.config.data.binarize
    signatures = Signatures(InferenceModel(fold(nvae)), binarize, pixels)
    served = {**signatures.functions, "serving_default": signatures.functions["sample"]}
    report(f"saving {len(served)} signatures: {', '.join(served)}")
    tf.saved_model.save(signatures, str(folder), served)

    answers = golden_answers(signatures, temperature)
    outputs, pixels_that_differ = keras_parity(nvae, answers, binarize, pixels)
    extra = folder / _EXTRA
    extra.mkdir()
    write_npz(extra / GOLDEN, answers)
    write_parity(extra, "SavedModel", [_parity_entry(folder, outputs)])
    specs = {**signatures.specs, "serving_default": signatures.specs["sample"]}
    report(f"writing warm-up requests for batches of {', '.join(map(str, batch_sizes))}")
    images = answers["sample"][1]["image"]
    write_warm_up(extra / WARM_UP, name, specs, batch_sizes, images, temperature)
    card = model_card(
        nvae.model_config,
        specs,
        origin,
        name=name,
        image=signatures.image_rules,
        pixels=pixels,
        temperature=temperature,
        allowed_batch_sizes=list(batch_sizes),
        folded=signatures.model.folded,
        parity={"outputs": outputs, "pixels_that_differ": pixels_that_differ},
        golden={"file": GOLDEN, "sha256": files.file_sum(extra / GOLDEN)},
        checksums=checksums(folder),
    )
    (extra / CARD).write_text(json.dumps(card, indent=2) + "\n")
    return card


def _parity_entry(folder, outputs):
    parts = [folder / "saved_model.pb", *(folder / "variables").iterdir()]
    return {
        "file": "saved_model.pb, variables",
        "bytes": sum(path.stat().st_size for path in parts),
        "precision": "float32",
        "runtime": "TensorFlow",
        "version": tf.__version__,
        "seconds": None,
        "outputs": outputs,
    }


def golden_answers(signatures, temperature):
    """`{signature: ({input: array}, {output: array})}`; the images in the requests are samples of the model."""
    images, answers, specs = None, {}, signatures.specs
    for name, function in sorted(signatures.functions.items(), key=lambda item: item[0] != "sample"):
        request = example_request(specs[name]["inputs"], _GOLDEN_ROWS, images, temperature)
        outputs = function(**{key: tf.constant(value) for key, value in request.items()})
        answers[name] = request, {key: np.asarray(value) for key, value in outputs.items()}
        images = answers["sample"][1]["image"]
    return answers
