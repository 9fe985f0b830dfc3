"""BIVA on CIFAR-10.

    python tools/train.py --config=configs/biva_cifar10.py --run_dir=runs/biva_cifar10 --data_dir=DIR

The model of the public programs (102,948,560 parameters), trained by their rules.
"""

from nvae_tf.config import BIVAConfig, Config, DataConfig, TrainConfig


def get_config() -> Config:
    return Config(
        model=BIVAConfig(
            image_height=32,
            image_width=32,
            image_channels=3,
            likelihood="logistic_mixture",
            channels=96,
            kernel_sizes=((5, 5, 5),) + ((3, 3, 3),) * 14,
            downsampled_stages=(1, 11, 15),
            latent_sizes=tuple(range(38, 8, -2)),
            # As wide as the feature maps of each stage.
            head_kernel_sizes=(16,) * 10 + (8,) * 4 + (4,),
            posterior_dropout=0.2,
            prior_dropout=0.0,
        ),
        data=DataConfig(dataset="cifar10"),
        train=TrainConfig(
            batch_size=48,
            epochs=500,
            epsilon=1e-8,
            learning_rate=2e-3,
            schedule="exponential",
            warmup_epochs=0.0,
            weight_decay=0.0,
            kl_min_weight=1.0,
            ema_decay=0.9995,
            ema_warmup=False,
        ),
    )
