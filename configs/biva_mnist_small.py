"""A small BIVA on dynamically binarised MNIST.

python tools/train.py --config=configs/biva_mnist_small.py --run_dir=runs/biva_mnist_small --data_dir=DIR

2,778,986 parameters and 3 epochs, of about 15 minutes in all on two cores.
"""

from nvae_tf.config import BIVAConfig, Config, DataConfig, TrainConfig


def get_config() -> Config:
    return Config(
        model=BIVAConfig(
            channels=24,
            kernel_sizes=((3, 3), (3, 3), (3, 3), (3, 3)),
            downsampled_stages=(1, 3),
            latent_sizes=(24, 16, 12, 8),
            head_kernel_sizes=(0, 0, 0, 0),
            posterior_dropout=0.0,
            prior_dropout=0.0,
            free_bits=0.5,
        ),
        data=DataConfig(dataset="mnist", binarize=True),
        train=TrainConfig(
            batch_size=64,
            epochs=3,
            epsilon=1e-8,
            learning_rate=4e-3,
            schedule="exponential",
            warmup_epochs=0.0,
            weight_decay=0.0,
            kl_min_weight=1.0,
            ema_decay=0.995,
            ema_warmup=False,
        ),
    )
