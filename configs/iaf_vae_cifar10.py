"""IAF-VAE on CIFAR-10.

    python tools/train.py --config=configs/iaf_vae_cifar10.py --run_dir=runs/iaf_vae_cifar10 --data_dir=DIR

The published run of the authors' program (arXiv 1606.04934): 41,557,927 parameters, 8 GPUs with a batch of 32 on each;
`batch_size` is per replica. Expected: 3.15 bits per dimension with one sample, 3.111 with 10,000. The number of its
steps is not known: `epochs` only ends the training, since the learning rate is constant.
"""

from nvae_tf.config import Config, DataConfig, TrainConfig
from nvae_tf.config.iaf_vae import IAFVAEConfig


def get_config() -> Config:
    return Config(
        model=IAFVAEConfig(),
        data=DataConfig(dataset="cifar10"),
        train=TrainConfig(
            epochs=1000,
            optimizer="adamax_uncorrected",
            epsilon=1e-8,
            learning_rate=2e-3,
            schedule="constant",
            reference_batch_size=256,  # of all replicas; used with learning_rate_rule
            warmup_epochs=0.0,
            weight_decay=0.0,
            kl_min_weight=1.0,
            ema_decay=0.999,
            ema_warmup=False,
        ),
    )
