import pytest
import tensorflow as tf

from nvae_tf.training.distributed.cluster import Cluster
from nvae_tf.training.distributed.strategy import make_strategy

CLUSTER = Cluster(("a:1", "b:2"), 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("two",), "strategy: expected one of .*auto.* Received: 'two'"),
        (("multi_worker",), "strategy: multi_worker expected the workers.*Received: none"),
        (("one", CLUSTER), "strategy: expected auto or multi_worker with several workers. Received: 'one'"),
        (("mirrored", CLUSTER), "Received: 'mirrored'"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_strategy(*arguments)


@pytest.mark.parametrize("name", ["auto", "one"])
def test_without_gpus_one_device_trains(name):
    assert make_strategy(name) is tf.distribute.get_strategy()


def test_auto_takes_every_gpu(monkeypatch):
    gpus = [tf.config.LogicalDevice(f"/device:CPU:{index}", "GPU") for index in range(2)]  # as if they were
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: gpus[:count] if kind == "GPU" else [])
    count = 2
    assert make_strategy("auto").num_replicas_in_sync == 2
    assert make_strategy("one") is tf.distribute.get_strategy()
    count = 1
    assert make_strategy("auto") is tf.distribute.get_strategy()


def test_mirrored_without_gpus_takes_every_logical_cpu():
    strategy = make_strategy("mirrored")
    assert isinstance(strategy, tf.distribute.MirroredStrategy)
    assert strategy.num_replicas_in_sync == len(tf.config.list_logical_devices("CPU")) == 2
