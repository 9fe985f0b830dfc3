"""NVAE on CIFAR-10.

    python tools/train.py --config=configs/cifar10.py --run_dir=runs/cifar10 --data_dir=DIR

The published run (arXiv 2007.03898, table 6 and section 4.1): 8 GPUs with a batch of 32 on each; `batch_size` is
per replica. Expected: 2.91 bits per dimension (2.93 without the flow).
"""

from nvae_tf.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    """Configuration of the run."""
    return Config(
        model=ModelConfig(
            image_height=32,
            image_width=32,
            image_channels=3,
            likelihood="logistic_mixture",
            bit_depth=8,
            num_mixtures=10,
            num_scales=1,
            groups_per_scale=30,
            adaptive_groups=False,
            latent_channels=20,
            encoder_channels=128,
            decoder_channels=128,
            preprocess_blocks=1,
            preprocess_cells=2,
            postprocess_blocks=1,
            postprocess_cells=2,
            encoder_cells_per_group=2,
            decoder_cells_per_group=2,
            num_flows=1,
            cell_set="res_mbconv",
            squeeze_excite=True,
            residual_posterior=True,
        ),
        data=DataConfig(dataset="cifar10", horizontal_flip=True),
        train=TrainConfig(
            batch_size=32,
            reference_batch_size=256,  # all replicas together; used by learning_rate_rule
            epochs=400,
            learning_rate=0.01,
            min_learning_rate=0.0001,
            warmup_epochs=5.0,
            weight_decay=0.0003,
            kl_anneal_fraction=0.3,
            regularization=0.01,
        ),
    )
