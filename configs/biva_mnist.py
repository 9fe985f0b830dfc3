"""BIVA on dynamically binarised MNIST.

    python tools/train.py --config=configs/biva_mnist.py --run_dir=runs/biva_mnist --data_dir=DIR

The model of the public programs (31,550,946 parameters). They train it on the statically binarised MNIST, which is not
read here, so that results cannot be compared with theirs; training by their rules otherwise.
"""

from nvae_tf.config import BIVAConfig, Config, DataConfig, TrainConfig


def get_config() -> Config:
    return Config(
        model=BIVAConfig(),
        data=DataConfig(dataset="mnist", binarize=True),
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
