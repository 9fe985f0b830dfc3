"""NVAE on CelebA-HQ at 256 x 256, 5 bits.

    python tools/train.py --config=configs/celeba_hq256.py --run_dir=runs/celeba_hq256 --data_dir=DIR

The published run (arXiv 2007.03898, table 6 and section 4.1): 24 GPUs with a batch of 4 on each; `batch_size` is
per replica. Expected: 0.70 bits per dimension.
Groups per scale, from the finest: 16, 8, 4, 4, 4. lambda falls from 1 to 1e-2 while the KL weight grows.
"""

from nvae_tf.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    """Configuration of the run."""
    return Config(
        model=ModelConfig(
            image_height=256,
            image_width=256,
            image_channels=3,
            likelihood="logistic_mixture",
            bit_depth=5,
            num_mixtures=10,
            num_scales=5,
            groups_per_scale=16,
            adaptive_groups=True,
            min_groups_per_scale=4,
            latent_channels=20,
            encoder_channels=30,
            decoder_channels=30,
            preprocess_blocks=1,
            preprocess_cells=2,
            postprocess_blocks=1,
            postprocess_cells=2,
            encoder_cells_per_group=2,
            decoder_cells_per_group=2,
            num_flows=2,
            cell_set="res_mbconv",
            squeeze_excite=True,
            residual_posterior=True,
        ),
        data=DataConfig(dataset="celeba_hq256", horizontal_flip=True),
        train=TrainConfig(
            batch_size=4,
            reference_batch_size=96,  # all replicas together; used by learning_rate_rule
            epochs=300,
            learning_rate=0.01,
            min_learning_rate=0.0001,
            warmup_epochs=5.0,
            weight_decay=0.0003,
            kl_anneal_fraction=0.3,
            regularization=0.01,
            initial_regularization=1.0,
        ),
    )
