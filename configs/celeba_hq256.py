"""NVAE on CelebA-HQ at 256 x 256, 5 bits.

    python tools/train.py --config=configs/celeba_hq256.py --run_dir=runs/celeba_hq256 --data_dir=DIR

The published run (arXiv 2007.03898, table 6 and section 4.1): 24 GPUs with a batch of 4 on each; `batch_size` is
per replica. Expected: 0.70 bits per dimension.
Groups per scale, from the finest: 16, 8, 4, 4, 4. lambda falls from 1 to 1e-2 while the KL weight grows.
"""

from nvae_tf.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    return Config(
        model=ModelConfig(
            image_height=256,
            image_width=256,
            image_channels=3,
            likelihood="logistic_mixture",
            bit_depth=5,
            num_scales=5,
            groups_per_scale=16,
            adaptive_groups=True,
            min_groups_per_scale=4,
            encoder_channels=30,
            decoder_channels=30,
            preprocess_blocks=1,
            preprocess_cells=2,
            postprocess_blocks=1,
            postprocess_cells=2,
            num_flows=2,
        ),
        data=DataConfig(dataset="celeba_hq256", horizontal_flip=True),
        train=TrainConfig(
            batch_size=4,
            epochs=300,
            reference_batch_size=96,  # of all replicas; used with learning_rate_rule
            initial_regularization=1.0,
        ),
    )
