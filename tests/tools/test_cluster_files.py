"""The files of tools/cluster: their commands have the flags of the programs, and their fields those of schedulers."""

import pathlib
import re
import shlex

import pytest
import yaml

CLUSTER = pathlib.Path(__file__).resolve().parents[2] / "tools" / "cluster"


def _manifest(name):
    return yaml.safe_load((CLUSTER / name).read_text())


def _parsed(program, words):
    """The flags of a command line, which its program accepts; paths that exist only on the cluster are replaced."""
    name, *arguments = words[words.index("python") + 1 :] if "python" in words else words[1:]
    assert name.startswith("tools/")
    return program(pathlib.Path(name).stem, *arguments).FLAGS


@pytest.fixture(scope="module")
def models():
    """Kubeflow's models, imported before `any_folder`, which misleads the import."""
    return pytest.importorskip("kubeflow.training.models", reason="kubeflow-training is in the extra dev")


@pytest.fixture
def any_folder(monkeypatch):
    """Every path is taken for an existing file or folder."""
    monkeypatch.setattr("os.path.isdir", lambda path: True)
    monkeypatch.setattr("os.path.isfile", lambda path: True)


def test_slurm_trains(program, any_folder):
    text = (CLUSTER / "train.sbatch").read_text()
    (settings,) = re.findall(r"^(CONFIG=.*)$", text, re.MULTILINE)
    values = dict(word.split("=", 1) for word in shlex.split(settings))
    (command,) = re.findall(r"^srun (.*)$", text, re.MULTILINE)
    words = shlex.split(re.sub(r"\$(\w+)", lambda match: values[match[1]], command))
    flags = _parsed(program, words)
    assert flags.config.data.dataset == "celeba64" and flags.data_dir == values["DATA_DIR"]
    assert text.startswith("#!/bin/bash\n") and len(re.findall("^#SBATCH", text, re.MULTILINE)) == 1


def test_kubeflow_trains(models, program, any_folder):
    manifest = _manifest("tfjob.yaml")
    run_policy = models.KubeflowOrgV1RunPolicy(**_snake(models.KubeflowOrgV1RunPolicy, manifest["spec"]["runPolicy"]))
    job = models.KubeflowOrgV1TFJob(
        api_version=manifest["apiVersion"],
        kind=manifest["kind"],
        spec=models.KubeflowOrgV1TFJobSpec(
            run_policy=run_policy,
            tf_replica_specs={
                kind: models.KubeflowOrgV1ReplicaSpec(**_snake(models.KubeflowOrgV1ReplicaSpec, spec))
                for kind, spec in manifest["spec"]["tfReplicaSpecs"].items()
            },
        ),
    )
    worker = job.spec.tf_replica_specs["Worker"]
    assert worker.replicas == 2 and worker.restart_policy == "OnFailure"
    (container,) = worker.template["spec"]["containers"]
    assert container["name"] == "tensorflow" and container["image"] == manifest["metadata"]["annotations"]["image"]
    assert _parsed(program, container["command"]).run_dir == "/shared/runs/celeba64"


def _snake(model, fields):
    """The arguments of a model for the fields of a manifest; a name that it does not have is an error."""
    names = {name: attribute for attribute, name in model.attribute_map.items()}
    return {names[field]: value for field, value in fields.items()}


def test_kuberay_samples(program, any_folder):
    spec = _manifest("rayjob.yaml")["spec"]
    flags = _parsed(program, shlex.split(spec["entrypoint"]))
    assert (flags.job, flags.address, flags.num) == ("sample", "auto", 1_000_000)
    cluster = spec["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    (mount,) = {group["template"]["spec"]["containers"][0]["volumeMounts"][0]["mountPath"] for group in groups}
    assert flags.out.startswith(mount) and flags.run_dir.startswith(mount)
