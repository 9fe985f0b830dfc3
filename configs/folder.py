"""NVAE on any folder of images.

    python tools/train.py --config=configs/folder.py --run_dir=runs/folder --data_dir=DIR

DIR holds PNG, JPEG, WebP and BMP files of any size, with or without sub-folders; the square in the middle of each is
resized to 64 x 64. Folders `train/` and `test/` (or `validation/`) in DIR are the splits; without them a tenth of the
images is held out. A zip file or arrays work too. The model suits one GPU and is small enough to begin with on a CPU.
For another size add `--config.model.image_height=128 --config.model.image_width=128`.
"""

from nvae_tf.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    """Configuration of the run."""
    return Config(
        model=ModelConfig(
            image_height=64,
            image_width=64,
            image_channels=3,
            likelihood="logistic_mixture",
            bit_depth=8,
            num_mixtures=10,
            num_scales=3,
            groups_per_scale=4,
            adaptive_groups=True,
            min_groups_per_scale=1,
            latent_channels=20,
            encoder_channels=24,
            decoder_channels=24,
            preprocess_blocks=1,
            preprocess_cells=2,
            postprocess_blocks=1,
            postprocess_cells=2,
            encoder_cells_per_group=1,
            decoder_cells_per_group=1,
            num_flows=0,
            cell_set="res_mbconv",
            squeeze_excite=True,
            residual_posterior=True,
        ),
        data=DataConfig(dataset="folder", horizontal_flip=True, resize=True),
        train=TrainConfig(
            batch_size=16,
            epochs=200,
            learning_rate=0.01,
            min_learning_rate=0.0001,
            warmup_epochs=5.0,
            weight_decay=0.0003,
            kl_anneal_fraction=0.3,
            regularization=0.01,
        ),
    )
