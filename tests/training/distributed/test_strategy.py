import pytest
import tensorflow as tf

from nvae_tf.training.distributed.strategy import make_strategy


def test_name_and_workers_must_agree():
    with pytest.raises(ValueError, match="strategy: multi_worker expected the workers.*Received: none"):
        make_strategy("multi_worker")
    with pytest.raises(ValueError, match="strategy: expected auto or multi_worker with several .* Received: 'one'"):
        make_strategy("one", ["a:1", "b:2"])


def test_auto_uses_every_gpu(monkeypatch):
    gpus = [tf.config.LogicalDevice(f"/device:CPU:{index}", "GPU") for index in range(2)]  # as if they were
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: gpus[:count] if kind == "GPU" else [])
    count = 2
    assert make_strategy("auto").num_replicas_in_sync == 2
    assert make_strategy("one") is tf.distribute.get_strategy()
    count = 1
    assert make_strategy("auto") is tf.distribute.get_strategy()


def test_mirrored_uses_the_logical_cpus_without_gpus():
    strategy = make_strategy("mirrored")
    assert strategy.num_replicas_in_sync == len(tf.config.list_logical_devices("CPU")) == 2
