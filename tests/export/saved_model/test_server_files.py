import csv
import os
import pathlib
import re
import subprocess
import sys

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from nvae_tf.export.saved_model.server_files import check_server_options, write_server_files

_SIZES = (1, 4, 6)
_PINS = (pathlib.Path(__file__).parents[3] / "constraints.txt").read_text()
_VERSION = re.search(r"^tensorflow-serving-api==(.*)$", _PINS, re.MULTILINE)[1]
_IMAGES = {"cpu": f"tensorflow/serving:{_VERSION}", "gpu": f"tensorflow/serving:{_VERSION}-gpu"}
_FLAGS = [
    "--model_config_file=/models/digits/models.config",
    "--model_config_file_poll_wait_seconds=10",
    "--allow_version_labels_for_unavailable_models=true",
    "--enable_batching=true",
    "--batching_parameters_file=/models/digits/batching_parameters.txt",
    "--monitoring_config_file=/models/digits/monitoring.config",
    "--rest_api_timeout_in_ms=60000",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of a model named digits. Shared: no test may write to it."""
    folder = tmp_path_factory.mktemp("server_files")
    write_server_files(folder, "digits", _SIZES)
    return folder


def test_nothing_is_left_to_fill_in(folder):
    names = {"batching_parameters.txt", "compose.yaml", "kubernetes.yaml", "models.config", "monitoring.config"}
    assert {path.name for path in folder.iterdir()} == names | {"serve.sh"}
    assert not [path.name for path in folder.iterdir() if "@" in path.read_text().replace("[@]", "")]
    lines = (folder / "batching_parameters.txt").read_text().splitlines()
    assert "max_batch_size { value: 6 }" in lines
    assert [line for line in lines if line.startswith("allowed")] == [f"allowed_batch_sizes: {size}" for size in _SIZES]


def test_models_config_serves_the_newest_and_shows_how_to_label(folder):
    text = (folder / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config[0]
    assert (config.name, config.base_path, config.model_platform) == ("digits", "/models/digits", "tensorflow")
    assert config.model_version_policy.latest.num_versions == 1
    lines = [line for line in text.splitlines() if "latest" not in line]
    labelled = "\n".join(line.replace("# ", "", 1) if "version" in line and "{" in line else line for line in lines)
    config = text_format.Parse(labelled, model_server_config_pb2.ModelServerConfig()).model_config_list.config[0]
    assert config.model_version_policy.specific.versions == [1, 2]
    assert config.version_labels == {"stable": 1, "canary": 2}


def test_compose(folder):
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    assert services["cpu"]["command"] == services["gpu"]["command"] == _FLAGS
    assert services["cpu"]["volumes"] == [
        {"type": "bind", "source": ".", "target": "/models/digits", "read_only": True}
    ]
    for device, image in _IMAGES.items():
        assert services[device]["init"] and services[device]["image"] == f"${{TF_SERVING_IMAGE:-{image}}}"
    assert services["gpu"]["environment"] == {"MODEL_NAME": "digits", "NVIDIA_TF32_OVERRIDE": "0"}
    assert services["cpu"]["ports"] == ["8500:8500", "8501:8501"]


def test_kubernetes(folder):
    deployment, service, scaler = yaml.safe_load_all((folder / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]
    [container] = pod["spec"]["containers"]
    assert container["image"] == _IMAGES["cpu"]
    assert container["args"][: len(_FLAGS)] == _FLAGS
    assert container["readinessProbe"]["httpGet"] == {"path": "/v1/models/digits", "port": "rest"}
    [volume], [mount] = pod["spec"]["volumes"], container["volumeMounts"]
    assert mount == {"name": volume["name"], "mountPath": "/models/digits", "readOnly": True}
    assert deployment["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"] == service["spec"]["selector"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"] == service["metadata"]["name"]
    threads = container["resources"]["requests"]["cpu"]  # of which the scaler takes a part
    assert f"num_batch_threads {{ value: {threads} }}" in (folder / "batching_parameters.txt").read_text()
    assert {"name": "NVIDIA_TF32_OVERRIDE", "value": "0"} in container["env"]


@pytest.fixture
def docker_arguments(tmp_path):
    """Function that runs a command with a stand-in for docker and returns the arguments that this received."""
    docker, received = tmp_path / "bin" / "docker", tmp_path / "arguments"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{received}\n')
    docker.chmod(0o755)

    def run(*command, **options):
        environment = {**os.environ, "PATH": f"{docker.parent}:{os.environ['PATH']}", "CDPATH": "/:/tmp"}
        subprocess.run(command, env=environment, check=True, timeout=60, **options)
        return received.read_text().splitlines()

    return run


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_serve_script_on_a_terminal(folder, docker_arguments, device):
    command = f"import pty; assert pty.spawn(['{folder}/serve.sh', '{device}']) == 0"
    arguments = docker_arguments(sys.executable, "-c", command, stdin=subprocess.DEVNULL)
    assert arguments[arguments.index(_IMAGES[device]) + 1 :] == _FLAGS
    assert f"type=bind,source={folder},target=/models/digits,readonly" in arguments
    assert ("--gpus" in arguments) == ("NVIDIA_TF32_OVERRIDE=0" in arguments) == (device == "gpu")
    assert {"--init", "TINI_KILL_PROCESS_GROUP=1", "-t", "-i"} <= {*arguments}  # for Ctrl-C


@pytest.mark.parametrize("name", ["models, new", 'of "digits"', "a b", "-d", "plain"])
def test_serve_script_from_any_path(docker_arguments, tmp_path, name):
    base = tmp_path / name
    base.mkdir()
    write_server_files(base, "digits", _SIZES)
    (tmp_path / "link").symlink_to(base / "serve.sh")
    for command, place in (("./serve.sh", base), (f"{name}/serve.sh", tmp_path), (tmp_path / "link", "/")):
        arguments = docker_arguments("bash", "--", command, cwd=place)
        # Docker reads a mount as a line of CSV.
        [fields] = csv.reader([arguments[arguments.index("--mount") + 1]])
        assert "--init" in arguments and "-t" not in arguments
        assert fields == ["type=bind", f"source={base}", "target=/models/digits", "readonly"]


def test_what_was_edited_stays(tmp_path):
    (tmp_path / "models.config").write_text("edited")
    written = write_server_files(tmp_path, "digits", _SIZES)
    assert (tmp_path / "models.config").read_text() == "edited"
    assert len(written) == 5 and tmp_path / "models.config" not in written
    assert write_server_files(tmp_path, "digits", _SIZES) == []
    check_server_options(tmp_path, "digits", _SIZES)


@pytest.mark.parametrize(
    "name, sizes, message",
    [
        ("Digits", (1, 2), "name: expected lower-case letters, digits and -, a letter first. Received: 'Digits'"),
        ("letters", _SIZES, r"name: expected digits, as in .*models\.config\. Received: letters"),
        ("digits", (2, 1), r"batch_sizes: expected ascending numbers of at least 1. Received: \[2, 1\]"),
        ("digits", (), r"batch_sizes: expected ascending numbers of at least 1. Received: \[\]"),
        (
            "digits",
            (1, 4),
            r"batch_sizes: expected \[1, 4, 6\], as in .*batching_parameters.txt, .* Received: \[1, 4\]",
        ),
    ],
)
def test_wrong_input_is_named(folder, name, sizes, message):
    with pytest.raises(ValueError, match=message):
        check_server_options(folder, name, sizes)
