import os
import pathlib

import pytest
import tensorflow as tf

from nvae_tf.runs.program import one_line

_SAVE = "{{function_node __wrapped__SaveV2_device_/job:localhost/task:0/device:CPU:0}} "


@pytest.mark.parametrize("error", ["ResourceExhausted", "PermissionDenied", "FailedPrecondition", "Unknown"])
@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EMFILE", "EROFS", "EIO"])
def test_a_problem_of_a_file_is_not_a_lack_of_memory(error, number):
    expected = f"/run/a b; {os.strerror(getattr(__import__('errno'), number))}"
    error = getattr(tf.errors, f"{error}Error")(None, None, f"{_SAVE}{expected} [Op:SaveV2]\n\tmore")
    assert one_line(error) == expected


def test_a_lack_of_memory_is_one():
    error = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[8,8]; on device:GPU:0")
    assert one_line(error).startswith("out of memory: OOM when allocating tensor") and "batch_size" in one_line(error)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_what_tensorflow_raises_on_a_full_disk(tmp_path):
    (tmp_path / "full.tfrecord").symlink_to("/dev/full")
    with (
        pytest.raises(tf.errors.ResourceExhaustedError) as caught,
        tf.io.TFRecordWriter(f"{tmp_path}/full.tfrecord") as file,
    ):
        file.write(bytes(10**6))
    assert one_line(caught.value) == f"{tmp_path}/full.tfrecord; No space left on device"
    with pytest.raises(OSError) as caught:
        pathlib.Path("/dev/full").write_bytes(bytes(10**6))
    assert "No space left on device" in one_line(caught.value)
