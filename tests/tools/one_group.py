"""The smallest model, for the tests of what measures speed."""

from nvae_tf.config import ModelConfig

# The one-group special case without preprocessing: four convolutions that can be counted by hand.
ONE_GROUP = ModelConfig(
    image_height=4,
    image_width=8,
    num_scales=1,
    groups_per_scale=1,
    latent_channels=2,
    encoder_channels=3,
    decoder_channels=3,
    preprocess_blocks=0,
    postprocess_blocks=0,
)
