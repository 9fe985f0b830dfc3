"""A quick BIVA on scikit-learn's digits, which need no download.

    python tools/train.py --config=configs/biva_digits.py --run_dir=runs/biva_digits

8 x 8 digits enlarged to 16 x 16, dynamically binarised. It serves to try the programs out, not to get good results.
"""

from nvae_tf.config import BIVAConfig, Config, DataConfig, TrainConfig


def get_config() -> Config:
    return Config(
        model=BIVAConfig(
            image_height=16,
            image_width=16,
            channels=16,
            kernel_sizes=((5, 5), (3, 3), (3, 3)),
            downsampled_stages=(1, 3),
            latent_sizes=(8, 6, 4),
            head_kernel_sizes=(0, 0, 0),
            posterior_dropout=0.1,
            prior_dropout=0.1,
            free_bits=1.0,
        ),
        data=DataConfig(dataset="digits", binarize=True),
        train=TrainConfig(
            batch_size=64,
            epochs=15,
            epsilon=1e-8,
            learning_rate=5e-3,
            schedule="exponential",
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
