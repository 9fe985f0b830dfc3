"""NVAE on dynamically binarised MNIST.

    python tools/train.py --config=configs/mnist.py --run_dir=runs/mnist --data_dir=DIR

The published run (arXiv 2007.03898, table 6 and section 4.1): 2 GPUs with a batch of 200 on each; `batch_size` is
per replica. Expected: 78.01 nats (78.19 with a flow step).
"""

from nvae_tf.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    """Configuration of the run."""
    return Config(
        model=ModelConfig(
            image_height=32,
            image_width=32,
            image_channels=1,
            likelihood="bernoulli",
            padding=2,
            bit_depth=8,
            num_scales=2,
            groups_per_scale=10,
            adaptive_groups=True,
            min_groups_per_scale=1,
            latent_channels=20,
            encoder_channels=32,
            decoder_channels=32,
            preprocess_blocks=2,
            preprocess_cells=3,
            postprocess_blocks=2,
            postprocess_cells=3,
            encoder_cells_per_group=2,
            decoder_cells_per_group=2,
            num_flows=0,
            cell_set="res_mbconv",
            squeeze_excite=True,
            residual_posterior=True,
        ),
        data=DataConfig(dataset="mnist", binarize=True),
        train=TrainConfig(
            batch_size=200,
            reference_batch_size=400,  # all replicas together; used by learning_rate_rule
            epochs=400,
            learning_rate=0.01,
            min_learning_rate=0.0001,
            warmup_epochs=5.0,
            weight_decay=0.0003,
            kl_anneal_fraction=0.3,
            regularization=0.01,
        ),
    )
