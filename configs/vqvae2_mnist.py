"""A small VQ-VAE-2 on dynamically binarised MNIST.

    python tools/train.py --config=configs/vqvae2_mnist.py --run_dir=runs/vqvae2_mnist --data_dir=DIR

28 x 28 digits with a padding of 2, as 2 x 2 and 4 x 4 codes.
"""

from nvae_tf.config import Config, DataConfig, TrainConfig
from nvae_tf.config.vqvae2 import VQVAE2Config


def get_config() -> Config:
    return Config(
        model=VQVAE2Config(
            image_channels=1,
            likelihood="bernoulli",
            padding=2,
            bottom_stride=8,
            channels=64,
            residual_channels=32,
            residual_blocks=1,
            code_size=16,
            num_codes=32,
            sigma=1.0,
            prior_channels=64,
            prior_residual_channels=32,
            prior_blocks=2,
            prior_residual_blocks=2,
            condition_channels=32,
            condition_blocks=1,
        ),
        data=DataConfig(dataset="mnist", binarize=True),
        train=TrainConfig(
            batch_size=64,
            epochs=5,
            optimizer="adam",
            epsilon=1e-8,
            learning_rate=1e-3,
            schedule="constant",
            warmup_epochs=0.0,
            weight_decay=0.0,
            kl_min_weight=1.0,
        ),
    )
