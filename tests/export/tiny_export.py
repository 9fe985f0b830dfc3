"""A tiny model exported for TensorFlow Serving, for the tests of exports and of servers."""

import numpy as np

from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.config import Config, DataConfig, ModelConfig
from nvae_tf.export.saved_model.export import export_saved_model
from nvae_tf.models.nvae import NVAE
from nvae_tf.runs.load import load_run
from nvae_tf.runs.provenance import provenance

BATCH_SIZES = (1, 2)
TEMPERATURE = 0.8
# Two groups in one scale, no flow, images in colour.
MIXTURE = ModelConfig(
    image_height=8,
    image_width=8,
    image_channels=3,
    likelihood="logistic_mixture",
    num_mixtures=2,
    num_scales=1,
    groups_per_scale=2,
    latent_channels=2,
    encoder_channels=8,
    decoder_channels=8,
    preprocess_blocks=1,
    preprocess_cells=1,
    postprocess_blocks=1,
    postprocess_cells=1,
)


def write_run(folder):
    """Run folder, at step 7, of a Bernoulli model of 6 x 6 digits with padding, a flow, two groups in two scales."""
    model = ModelConfig(
        image_height=8,
        image_width=8,
        padding=1,
        num_scales=2,
        groups_per_scale=1,
        latent_channels=2,
        encoder_channels=4,
        decoder_channels=4,
        preprocess_blocks=1,
        preprocess_cells=1,
        postprocess_blocks=1,
        postprocess_cells=1,
        encoder_cells_per_group=1,
        decoder_cells_per_group=1,
        num_flows=1,
    )
    nvae, rng = NVAE(model), np.random.default_rng(0)
    for variable in nvae.variables:
        if "kernel" not in variable.name:
            variable.assign(variable + 0.3 * rng.random(variable.shape, np.float32))
    run = RunFolder(folder).create(Config(model=model, data=DataConfig(dataset="digits", binarize=True)))
    run.save(7, {"model": model_variables(nvae)})
    return run.path


def export_tiny(run_dir, base_dir, **options):
    """Exports what `write_run` wrote; version's folder and model card, as of `export_saved_model`."""
    nvae = load_run(run_dir)
    options = {"temperature": TEMPERATURE, "batch_sizes": BATCH_SIZES, "report": lambda text: None, **options}
    return export_saved_model(nvae, base_dir, provenance(run_dir, nvae), **options)
