"""The versions of a model: which exist, which are served, and how they come and go while requests run.

Folders whose names are integers, and the policy by which they are served: config/file_system_storage_path_source.proto.
Labels: config/model_server_config.proto; a reload updates them before the models (model_servers/server_core.cc), with
--allow_version_labels_for_unavailable_models for new ones. States: apis/get_model_status.proto. NOT_FOUND for an
unknown model or version. The new version is loaded while the old one serves.

Unsourced: NOT_FOUND for a label, that a version that failed is not loaded again, and that requests under way are waited
for.
"""

import contextlib
import sys
import threading

import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from tests.serving.stand_in_model import Version


def _is_version(path):
    return path.name.isascii() and path.name.isdecimal() and path.is_dir()


class Versions:
    """The versions under a base path.

    Args:
        name: name of the model.
        base_path: pathlib.Path.
        batching: `BatchingParameters`, or None.
        config_file: pathlib.Path of a models.config, whose base_path is ignored; None to serve the latest version.
    """

    def __init__(self, name, base_path, batching, config_file=None):
        self.name, self._base_path, self._batching, self._config_file = name, base_path, batching, config_file
        self._config = ModelConfig()
        self._changed = threading.Condition()
        self._served = {}  # {number: Version}
        self._users = {}  # {number: requests under way}
        self._states = {}  # {number: ModelVersionStatus}

    @contextlib.contextmanager
    def use(self, name, number=None, label=""):
        """Context of the (number, Version) of a request, by its number, else the newest; NOT_FOUND without one."""
        with self._changed:
            number = self._find(name, number, label)
            version = self._served[number]
            self._users[number] += 1
        try:
            yield number, version
        finally:
            with self._changed:
                self._users[number] -= 1
                self._changed.notify_all()

    def status(self, name, number=None, label=""):
        """[ModelVersionStatus], the newest first; of one version if its number is given."""
        with self._changed:
            number = self._config.version_labels.get(label, -1) if label else number
            found = [self._states[key] for key in sorted(self._states, reverse=True) if number in (None, key)]
            if name != self.name or not found:
                raise tf.errors.NotFoundError(None, None, f"Could not find any versions of model {name}")
            return found

    def metadata(self, name, number=None, label=""):
        """GetModelMetadataResponse with the signatures of a version."""
        with self.use(name, number, label) as (number, version):
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = name
            response.model_spec.version.value = number
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for key, signature in version.signatures.items():
                signatures.signature_def[key].CopyFrom(signature)
            response.metadata["signature_def"].Pack(signatures)
            return response

    def poll(self):
        """Reads models.config, scans the base path once, loads new versions and then drops those no longer needed."""
        self._read_config()
        # Only integers, because a version that is being written has another name.
        present = sorted(int(path.name) for path in self._base_path.iterdir() if _is_version(path))
        policy = self._config.model_version_policy
        wanted = set(present if policy.HasField("all") else present[-max(1, policy.latest.num_versions) :])
        if policy.HasField("specific"):
            wanted = set(present).intersection(policy.specific.versions)
        failed = {number for number, state in self._states.items() if state.status.error_code}
        for number in sorted(wanted - set(self._served) - failed):
            self._load(number)
        for number in sorted(set(self._served) - wanted):
            # The last version stays until another is loaded.
            if len(self._served) > 1:
                self._unload(number)

    def close(self):
        """Unloads all versions."""
        for number in list(self._served):
            self._unload(number)

    def _read_config(self):
        if self._config_file is None:
            return
        server = text_format.Parse(self._config_file.read_text(), ModelServerConfig())
        config = next((each for each in server.model_config_list.config if each.name == self.name), ModelConfig())
        for label, number in config.version_labels.items():
            if self._config.version_labels.get(label, number) != number and number not in self._served:
                # Nothing of the file is used; it is read again at the next poll.
                print(f"models.config: label {label}: version {number} is not available", file=sys.stderr)
                return
        self._config = config

    def _find(self, name, number, label):
        if label:
            number = self._config.version_labels.get(label)
        elif number is None:
            number = max(self._served, default=None)
        if name != self.name or number not in self._served:
            raise tf.errors.NotFoundError(None, None, f"Servable not found for request: {name} {label or number}")
        return number

    def _load(self, number):
        self._set_state(number, ModelVersionStatus.LOADING)
        try:
            version = Version(self._base_path / str(number), self._batching)
        except Exception as error:
            code = error.error_code if isinstance(error, tf.errors.OpError) else tf.errors.UNKNOWN
            print(f"version {number} of {self.name} cannot be loaded: {error}", file=sys.stderr)
            self._set_state(number, ModelVersionStatus.END, code, f"{type(error).__name__}: {error}")
            return
        with self._changed:
            self._served[number] = version
            self._users[number] = 0
            self._set_state(number, ModelVersionStatus.AVAILABLE)

    def _unload(self, number):
        with self._changed:
            self._set_state(number, ModelVersionStatus.UNLOADING)
            version = self._served.pop(number)
            self._changed.wait_for(lambda: not self._users[number])
        version.close()
        self._set_state(number, ModelVersionStatus.END)

    def _set_state(self, number, state, code=tf.errors.OK, message=""):
        with self._changed:
            status = ModelVersionStatus(version=number, state=state)
            status.status.error_code = code
            status.status.error_message = message
            self._states[number] = status
