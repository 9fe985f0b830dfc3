"""NVAE on dynamically binarised MNIST.

    python tools/train.py --config=configs/mnist.py --run_dir=runs/mnist --data_dir=DIR

The published run (arXiv 2007.03898, table 6 and section 4.1): 2 GPUs with a batch of 200 on each; `batch_size` is
per replica. Expected: 78.01 nats (78.19 with a flow step). Most defaults of nvae_tf/config are those of this run.
"""

from nvae_tf.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    return Config(
        model=ModelConfig(padding=2, adaptive_groups=True),
        data=DataConfig(dataset="mnist", binarize=True),
        train=TrainConfig(
            batch_size=200,
            reference_batch_size=400,  # of all replicas; used with learning_rate_rule
        ),
    )
