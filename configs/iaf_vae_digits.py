"""A quick IAF-VAE on scikit-learn's digits, which need no download.

    python tools/train.py --config=configs/iaf_vae_digits.py --run_dir=runs/iaf_vae_digits

8 x 8 digits enlarged to 16 x 16, dynamically binarised. It serves to try the programs out, not to get good results.
"""

from nvae_tf.config import Config, DataConfig, TrainConfig
from nvae_tf.config.iaf_vae import IAFVAEConfig


def get_config() -> Config:
    return Config(
        model=IAFVAEConfig(
            image_height=16,
            image_width=16,
            image_channels=1,
            likelihood="bernoulli",
            num_levels=3,
            layers_per_level=1,
            channels=16,
            latent_channels=4,
        ),
        data=DataConfig(dataset="digits", binarize=True),
        train=TrainConfig(
            batch_size=64,
            epochs=15,
            optimizer="adamax_uncorrected",
            epsilon=1e-8,
            learning_rate=5e-3,
            schedule="constant",
            warmup_epochs=0.0,
            weight_decay=0.0,
            kl_min_weight=1.0,
            ema_decay=0.98,
            ema_warmup=False,
            log_steps=22,
            image_epochs=5,
            eval_epochs=3,
            checkpoint_epochs=5,
        ),
    )
