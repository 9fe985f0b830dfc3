"""A quick VQ-VAE-2 on scikit-learn's digits, which need no download.

    python tools/train.py --config=configs/vqvae2_digits.py --run_dir=runs/vqvae2_digits

8 x 8 digits enlarged to 16 x 16, dynamically binarised, as 2 x 2 and 4 x 4 codes. It serves to try the programs out.
"""

from nvae_tf.config import Config, DataConfig, TrainConfig
from nvae_tf.config.vqvae2 import VQVAE2Config


def get_config() -> Config:
    return Config(
        model=VQVAE2Config(
            image_height=16,
            image_width=16,
            image_channels=1,
            likelihood="bernoulli",
            channels=64,
            residual_channels=16,
            residual_blocks=1,
            code_size=16,
            num_codes=64,
            sigma=1.0,
            prior_channels=64,
            prior_residual_channels=32,
            prior_kernel_size=3,
            prior_blocks=1,
            prior_residual_blocks=2,
            condition_channels=16,
            condition_blocks=1,
        ),
        data=DataConfig(dataset="digits", binarize=True),
        train=TrainConfig(
            batch_size=64,
            epochs=15,
            optimizer="adam",
            epsilon=1e-8,
            learning_rate=1e-3,
            schedule="constant",
            warmup_epochs=0.0,
            weight_decay=0.0,
            kl_min_weight=1.0,
            log_steps=22,
            image_epochs=5,
            eval_epochs=3,
            checkpoint_epochs=5,
        ),
    )
