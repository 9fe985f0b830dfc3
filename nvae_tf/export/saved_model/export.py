"""A SavedModel for TensorFlow Serving: written under a temporary name, checked, run, then published as a new version.

BASE/
  1/  saved_model.pb, variables/
      assets.extra/  tf_serving_warmup_requests, model.json (the model card), golden.npz (requests and their answers),
                     parity.json (how closely the answers agree with Keras)
  2/  ...
  batching_parameters.txt, models.config, ...   what the server is started with; see `server_files`
  tmp_...    being written, or refused; the server skips it, and the next export removes what is no longer written
"""

import errno
import os
import shutil

import numpy as np
import tensorflow as tf

from nvae_tf import files
from nvae_tf.export.parity import in_float32, write_parity
from nvae_tf.export.saved_model import assets_extra
from nvae_tf.export.saved_model.against_keras import keras_parity
from nvae_tf.export.saved_model.check.contents import is_version
from nvae_tf.export.saved_model.check.lint import lint_saved_model
from nvae_tf.export.saved_model.server_files import check_server_options, write_server_files
from nvae_tf.export.saved_model.signatures import Signatures
from nvae_tf.golden_answers import write_npz
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel

_GOLDEN_ROWS = 2


@in_float32()
def export_saved_model(
    nvae, base_dir, origin, name="nvae", pixels="mean", temperature=1.0, batch_sizes=(1, 2, 4, 8, 16), report=print
):
    """Exports a model as the next version of a folder.

    Args:
        nvae: `NVAE` that `nvae_tf.load_run` returned.
        base_dir: `pathlib.Path` of the model's folder, created if needed.
        origin: the model's `provenance`.
        name: name of the model on the server. Default `"nvae"`.
        pixels: images are the likelihood's `"mean"` or a `"sample"` of it. Default `"mean"`.
        temperature: temperature that the card recommends. Default 1.
        batch_sizes: batch sizes that the server may run, ascending. Default (1, 2, 4, 8, 16).
        report: called with a line of text at each step. Default `print`.

    Returns:
        `pathlib.Path` of the version's folder, and its model card.

    Raises:
        ValueError: an argument out of range, answers that differ from those of Keras, or a check that failed; the
            version is then kept under a temporary name until the next export.
        OSError: the export could not be written.
    """
    check_server_options(base_dir, name, batch_sizes)
    if not 0.0 < temperature < float("inf"):
        raise ValueError(f"temperature: expected a positive, finite number. Received: {temperature}")
    # Not `new_folder`: two exports may run at once, and a version that fails a check is kept for inspection.
    with files.temporary_folder(base_dir / "version") as folder:
        try:
            card = _write(nvae, folder, origin, name, pixels, temperature, batch_sizes, report)
            report("checking: rules of TensorFlow Serving, then every request in a process without Keras")
            results = lint_saved_model(folder, published=False)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        failed = [f"\n  {result.name}: {result.detail} ({result.reason})" for result in results if not result.passed]
        if failed:
            expected = "expected an export that passes every check. Not published, because of"
            raise ValueError(f"{folder}: {expected}{''.join(failed)}")
        # The last check is the one that ran the model.
        report(f"checks: {sum(result.status == 'passed' for result in results)} passed; {results[-1].detail}")
        # Only now, because these files bind all later exports; another export may have written them meanwhile.
        check_server_options(base_dir, name, batch_sizes)
        for path in write_server_files(base_dir, name, batch_sizes):
            report(f"written: {path}")
        return publish(folder), card


def publish(folder):
    """Renames a folder to the number after the newest version beside it, and returns its new path; safe in parallel."""
    for path in (*folder.rglob("*"), folder):
        files.sync(path)
    base_dir = folder.parent
    while True:
        newest = max((int(path.name) for path in base_dir.iterdir() if is_version(path.name)), default=0)
        final = base_dir / str(newest + 1)
        try:
            os.rename(folder, final)  # which never replaces a folder that is not empty
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            files.sync(base_dir)
            return final


def _write(nvae, folder, origin, name, pixels, temperature, batch_sizes, report):
    """Writes a complete version; returns its card."""
    binarize = nvae.config.data.binarize
    signatures = Signatures(InferenceModel(fold(nvae)), binarize, pixels)
    served = {**signatures.functions, "serving_default": signatures.functions["sample"]}
    report(f"saving {len(served)} signatures: {', '.join(served)}")
    tf.saved_model.save(signatures, str(folder), served)

    answers = _golden_answers(signatures, temperature)
    outputs, pixels_that_differ = keras_parity(nvae, answers, binarize, pixels)
    extra = folder / "assets.extra"
    extra.mkdir()
    write_npz(extra / assets_extra.GOLDEN, answers)
    size = sum(path.stat().st_size for path in (folder / "saved_model.pb", *(folder / "variables").iterdir()))
    entry = {"file": "saved_model.pb, variables", "bytes": size, "precision": "float32", "seconds": None}
    entry |= {"runtime": "TensorFlow", "version": tf.__version__, "outputs": outputs}
    write_parity(extra, "SavedModel", [entry])
    specs = {**signatures.specs, "serving_default": signatures.specs["sample"]}
    report(f"writing warm-up requests for batches of {', '.join(map(str, batch_sizes))}")
    images = answers["sample"][1]["image"]
    assets_extra.write_warm_up(extra / assets_extra.WARM_UP, name, specs, batch_sizes, images, temperature)
    card = assets_extra.model_card(
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
        golden={"file": assets_extra.GOLDEN, "sha256": files.file_sum(extra / assets_extra.GOLDEN)},
        checksums=assets_extra.folder_checksums(folder),
    )
    files.write_json(extra / assets_extra.CARD, card)
    return card


def _golden_answers(signatures, temperature):
    """Golden answers of every signature, with samples of the model as images in the requests."""
    images, answers, specs = None, {}, signatures.specs
    for name, function in sorted(signatures.functions.items(), key=lambda item: item[0] != "sample"):
        request = assets_extra.example_request(specs[name]["inputs"], _GOLDEN_ROWS, images, temperature)
        outputs = function(**{key: tf.constant(value) for key, value in request.items()})
        answers[name] = request, {key: np.asarray(value) for key, value in outputs.items()}
        images = answers["sample"][1]["image"]
    return answers
