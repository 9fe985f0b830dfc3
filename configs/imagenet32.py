"""NVAE on ImageNet at 32 x 32.

    python tools/train.py --config=configs/imagenet32.py --run_dir=runs/imagenet32 --data_dir=DIR

The published run (arXiv 2007.03898, table 6 and section 4.1): 24 GPUs with a batch of 24 on each; `batch_size` is
per replica. Expected: 3.92 bits per dimension.
lambda falls from 1 to 1e-2 while the KL weight grows.
"""

from nvae_tf.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    return Config(
        model=ModelConfig(
            image_channels=3,
            likelihood="logistic_mixture",
            num_scales=1,
            groups_per_scale=28,
            encoder_channels=192,
            decoder_channels=192,
            preprocess_blocks=1,
            preprocess_cells=2,
            postprocess_blocks=1,
            postprocess_cells=2,
            num_flows=1,
        ),
        data=DataConfig(dataset="imagenet32", horizontal_flip=True),
        train=TrainConfig(
            batch_size=24,
            epochs=45,
            reference_batch_size=576,  # of all replicas; used with learning_rate_rule
            warmup_epochs=1.0,
            initial_regularization=1.0,
        ),
    )
