"""NVAE on CIFAR-10.

    python tools/train.py --config=configs/cifar10.py --run_dir=runs/cifar10 --data_dir=DIR

The published run (arXiv 2007.03898, table 6 and section 4.1): 8 GPUs with a batch of 32 on each; `batch_size` is
per replica. Expected: 2.91 bits per dimension (2.93 without the flow).
"""

from nvae_tf.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    return Config(
        model=ModelConfig(
            image_channels=3,
            likelihood="logistic_mixture",
            num_scales=1,
            groups_per_scale=30,
            encoder_channels=128,
            decoder_channels=128,
            preprocess_blocks=1,
            preprocess_cells=2,
            postprocess_blocks=1,
            postprocess_cells=2,
            num_flows=1,
        ),
        data=DataConfig(dataset="cifar10", horizontal_flip=True),
        train=TrainConfig(
            reference_batch_size=256,  # of all replicas; used with learning_rate_rule
        ),
    )
