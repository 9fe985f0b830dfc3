"""A quick NVAE on scikit-learn's digits, which need no download.

    python tools/train.py --config=configs/digits.py --run_dir=runs/digits

8 x 8 digits enlarged to 16 x 16, dynamically binarised. It serves to try the programs out, not to get good results.
"""

from nvae_tf.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    return Config(
        model=ModelConfig(
            image_height=16,
            image_width=16,
            groups_per_scale=4,
            adaptive_groups=True,
            latent_channels=8,
            encoder_channels=16,
            decoder_channels=16,
            preprocess_blocks=1,
            preprocess_cells=2,
            postprocess_blocks=1,
            postprocess_cells=2,
            encoder_cells_per_group=1,
            decoder_cells_per_group=1,
        ),
        data=DataConfig(dataset="digits", binarize=True),
        train=TrainConfig(
            batch_size=64,
            epochs=15,
            warmup_epochs=1.0,
            log_steps=22,
            image_epochs=5,
            eval_epochs=3,
            checkpoint_epochs=5,
        ),
    )
