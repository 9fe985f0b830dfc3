"""A small IAF-VAE on dynamically binarised MNIST.

python tools/train.py --config=configs/iaf_vae_mnist.py --run_dir=runs/iaf_vae_mnist --data_dir=DIR

530,850 parameters; two layers each of latents at 4 x 4, 8 x 8 and 16 x 16. Six epochs are meant to take about 15
minutes on two cores that do nothing else.
"""

from nvae_tf.config import Config, DataConfig, TrainConfig
from nvae_tf.config.iaf_vae import IAFVAEConfig


def get_config() -> Config:
    return Config(
        model=IAFVAEConfig(
            image_channels=1,
            likelihood="bernoulli",
            padding=2,
            num_levels=3,
            layers_per_level=2,
            channels=32,
            latent_channels=8,
        ),
        data=DataConfig(dataset="mnist", binarize=True),
        train=TrainConfig(
            batch_size=64,
            epochs=6,
            optimizer="adamax_uncorrected",
            epsilon=1e-8,
            learning_rate=6e-3,
            schedule="constant",
            warmup_epochs=0.0,
            weight_decay=0.0,
            kl_min_weight=1.0,
            ema_decay=0.995,
            ema_warmup=False,
        ),
    )
