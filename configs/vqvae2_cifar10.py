"""VQ-VAE-2 on CIFAR-10, with the widths of the model for ImageNet.

    python tools/train.py --config=configs/vqvae2_cifar10.py --run_dir=runs/vqvae2_cifar10 --data_dir=DIR

VQ-VAE-2 was published on ImageNet at 256 x 256 and FFHQ at 1024 x 1024: this configuration is ours. It has 8 x 8 and
16 x 16 codes, a discretised likelihood so that bits per dimension compare, and trains autoencoder and priors jointly.
For one GPU or more.
"""

from nvae_tf.config import Config, DataConfig, TrainConfig
from nvae_tf.config.vqvae2 import VQVAE2Config


def get_config() -> Config:
    return Config(
        model=VQVAE2Config(bottom_stride=2),
        data=DataConfig(dataset="cifar10", horizontal_flip=True),
        train=TrainConfig(
            batch_size=128,
            epochs=400,
            optimizer="adam",
            epsilon=1e-8,
            learning_rate=3e-4,
            schedule="constant",
            warmup_epochs=0.0,
            weight_decay=0.0,
            kl_min_weight=1.0,
        ),
    )
