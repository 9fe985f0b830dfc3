"""NVAE on ImageNet at 32 x 32.

    python tools/train.py --config=configs/imagenet32.py --run_dir=runs/imagenet32 --data_dir=DIR

The published run (arXiv 2007.03898, table 6 and section 4.1): 24 GPUs with a batch of 24 on each; `batch_size` is
per replica. Expected: 3.92 bits per dimension.
lambda falls from 1 to 1e-2 while the KL weight grows.
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
            groups_per_scale=28,
            adaptive_groups=False,
            latent_channels=20,
            encoder_channels=192,
            decoder_channels=192,
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
        data=DataConfig(dataset="imagenet32", horizontal_flip=True),
        train=TrainConfig(
            batch_size=24,
            reference_batch_size=576,  # all replicas together; used by learning_rate_rule
            epochs=45,
            learning_rate=0.01,
            min_learning_rate=0.0001,
            warmup_epochs=1.0,
            weight_decay=0.0003,
            kl_anneal_fraction=0.3,
            regularization=0.01,
            initial_regularization=1.0,
        ),
    )
