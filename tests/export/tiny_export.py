"""A tiny model exported for TensorFlow Serving, for the tests of exports and of servers."""

from nvae_tf.export.saved_model.export import export_saved_model
from nvae_tf.runs.load import load_run
from nvae_tf.runs.provenance import provenance
from tests import tiny

BATCH_SIZES = (1, 2)
TEMPERATURE = 0.8


def write_run(folder):
    """Run folder, at step 7, of a model of 6 x 6 digits with padding and a flow, one group in each of two scales."""
    fields = {"padding": 1, "groups_per_scale": 1, "adaptive_groups": False, "num_flows": 1}
    return tiny.write_run(folder, step=7, size=8, **fields)


def export_tiny(run_dir, base_dir):
    """Exports what `write_run` wrote; the version's folder and model card of `export_saved_model`."""
    nvae = load_run(run_dir)
    options = {"temperature": TEMPERATURE, "batch_sizes": BATCH_SIZES, "report": lambda text: None}
    return export_saved_model(nvae, base_dir, provenance(run_dir, nvae), **options)
