"""NVAE on any folder of images.

    python tools/train.py --config=configs/folder.py --run_dir=runs/folder --data_dir=DIR

DIR holds PNG, JPEG, WebP and BMP files of any size, with or without sub-folders; the square in the middle of each is
resized to 64 x 64. Folders `train/` and `test/` (or `validation/`) in DIR are the splits; without them a tenth of the
images is held out. A zip file or arrays work too. The model suits one GPU and is small enough to begin with on a CPU.
For another size add `--config.model.image_height=128 --config.model.image_width=128`.
"""

from nvae_tf.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    return Config(
        model=ModelConfig(
            image_height=64,
            image_width=64,
            image_channels=3,
            likelihood="logistic_mixture",
            num_scales=3,
            groups_per_scale=4,
            adaptive_groups=True,
            encoder_channels=24,
            decoder_channels=24,
            preprocess_blocks=1,
            preprocess_cells=2,
            postprocess_blocks=1,
            postprocess_cells=2,
            encoder_cells_per_group=1,
            decoder_cells_per_group=1,
        ),
        data=DataConfig(dataset="folder", horizontal_flip=True, resize=True),
        train=TrainConfig(
            batch_size=16,
            epochs=200,
        ),
    )
