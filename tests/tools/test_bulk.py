"""tools/bulk.py on two Ray nodes of this machine."""

import json
import sys
import tarfile
import threading
import time

import numpy as np
import PIL.Image
import pytest

from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.evaluation.write_images import to_uint8
from nvae_tf.files import file_sum

_QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 2}


@pytest.fixture(scope="module")
def cluster():
    """(`ray.cluster_utils.Cluster` of two nodes with a core each, the node that does not hold the head)."""
    pytest.importorskip("ray", reason="ray is in the extra cluster")
    from nvae_tf.runs.bulk.engine import import_ray

    import_ray()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    head = {**node, "_system_config": _QUICK}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made, made.add_node(**node)
    made.shutdown()


def test_a_node_that_dies_changes_nothing(cluster, program, digits_run, model, tmp_path, capfd):
    made, node = cluster
    out, sizes = tmp_path / "out", ("--num=512", "--batch_size=16", "--shard_size=16")

    def kill_in_the_middle():
        while len(list(out.glob("_progress/*.json"))) < 3:
            time.sleep(0.01)
        made.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill_in_the_middle, daemon=True)
    killer.start()
    flags = (f"--run_dir={digits_run}", f"--out={out}", "--temperature=0.7", f"--address={made.address}", *sizes)
    program("bulk", "--job=sample", *flags).main()
    killer.join()
    output, errors = capfd.readouterr()
    assert "workers: 2, machines: 2, shards to write: 32" in output and f"written: {out}, 512 images" in output
    assert "Traceback" not in output + errors
    manifest = json.loads((out / "_manifest.json").read_text())
    names = {shard["file"] for shard in manifest["shards"]}
    assert {path.name for path in out.iterdir()} == names | {"_job.json", "_manifest.json"}
    pictures = []
    for shard in manifest["shards"]:
        assert file_sum(out / shard["file"]) == shard["sha256"]
        with tarfile.open(out / shard["file"]) as file:
            pictures += [np.asarray(PIL.Image.open(file.extractfile(name))) for name in file.getnames()]
    expected = to_uint8(sample_images(model, 512, 0.7, batch_size=16))
    np.testing.assert_array_equal(np.stack(pictures), expected[..., 0])


def test_flags_of_another_job_are_refused(program, digits_run, tmp_path):
    flags = (f"--run_dir={digits_run}", f"--out={tmp_path / 'out'}", "--num=1")
    with pytest.raises(ValueError, match="--num_samples: expected with --job=score. Received: --job=sample"):
        program("bulk", "--job=sample", "--num_samples=2", *flags).main()


def test_without_ray_the_extra_is_named(program, digits_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    flags = (f"--run_dir={digits_run}", f"--out={tmp_path / 'out'}", "--num=1")
    with pytest.raises(ImportError, match=r"bulk.py needs Ray: pip install -e '.\[cluster\]'") as caught:
        program("bulk", "--job=sample", *flags).main()
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
