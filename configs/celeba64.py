"""NVAE on CelebA, cropped and resized to 64 x 64.

    python tools/train.py --config=configs/celeba64.py --run_dir=runs/celeba64 --data_dir=DIR

The published run (arXiv 2007.03898, table 6 and section 4.1): 8 GPUs with a batch of 16 on each; `batch_size` is
per replica. Expected: 2.03 bits per dimension.
"""

from nvae_tf.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    return Config(
        model=ModelConfig(
            image_height=64,
            image_width=64,
            image_channels=3,
            likelihood="logistic_mixture",
            num_scales=3,
            groups_per_scale=20,
            adaptive_groups=True,
            encoder_channels=64,
            decoder_channels=64,
            preprocess_blocks=1,
            preprocess_cells=2,
            postprocess_blocks=1,
            postprocess_cells=2,
            num_flows=1,
        ),
        data=DataConfig(dataset="celeba64", horizontal_flip=True),
        train=TrainConfig(
            batch_size=16,
            epochs=90,
            reference_batch_size=128,  # of all replicas; used with learning_rate_rule
            regularization=0.1,
        ),
    )
