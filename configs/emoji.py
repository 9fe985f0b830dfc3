"""A small NVAE on the pictures of Noto Emoji, in colour.

    python tools/train.py --config=configs/emoji.py --run_dir=runs/emoji --data_dir=DIR

DIR holds Noto Emoji (Google, Apache-2.0) as PNG files of at least 32 x 32, or a zip file of them, for example the
folder `img/google/64` of the npm package emoji-datasource-google 16.0.0: 3,786 pictures, of which a tenth is held out.
They are laid over white and resized to 32 x 32.
"""

from nvae_tf.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    return Config(
        model=ModelConfig(
            image_channels=3,
            likelihood="logistic_mixture",
            bit_depth=5,
            num_mixtures=5,
            num_scales=3,
            groups_per_scale=4,
            adaptive_groups=True,
            min_groups_per_scale=2,
            latent_channels=16,
            encoder_channels=16,
            decoder_channels=16,
            preprocess_blocks=1,
            preprocess_cells=2,
            postprocess_blocks=1,
            postprocess_cells=2,
            encoder_cells_per_group=1,
            decoder_cells_per_group=1,
        ),
        data=DataConfig(dataset="folder", horizontal_flip=True, resize=True),
        train=TrainConfig(
            batch_size=32,
            epochs=40,
            warmup_epochs=1.0,
            ema_decay=0.999,
            image_epochs=10,
            eval_epochs=5,
        ),
    )
