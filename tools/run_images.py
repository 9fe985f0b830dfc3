"""The images of a run's data set, checked against its model."""


def check_data(config):
    """Raises ValueError where the data set and the model of a `Config` do not go together."""
    from nvae_tf.data.datasets import dataset_info

    info, model = dataset_info(config.data.dataset), config.model
    for field, expected in (
        ("image_height", info.image_height),
        ("image_width", info.image_width),
        ("image_channels", info.channels),
        ("padding", info.padding),
    ):
        received = getattr(model, field)
        if received != expected:
            raise ValueError(f"model.{field}: data set {info.name} has {expected}. Received: {received}")
    if model.likelihood == "bernoulli" and not config.data.binarize:
        raise ValueError("data.binarize: expected True with the Bernoulli likelihood. Received: False")


def load_images(config, data_dir, split, max_images=0):
    """Images of a split, uint8 [N, H, W, C].

    Args:
        config: `Config` of the run.
        data_dir: folder of the data set's files.
        split: `"train"` (without the held-out images), `"validation"` or `"test"`.
        max_images: keep only the first; 0 for all. Default 0.

    Raises:
        ValueError: no held-out images, or a data set that does not fit the model.
        FileNotFoundError: the data set's files are not there.
    """
    from nvae_tf.data import datasets, pipeline

    check_data(config)
    images = datasets.load(config.data.dataset, data_dir, "test" if split == "test" else "train")
    if split != "test":
        train, validation = pipeline.split_validation(images, config.data.validation_images)
        images = train if split == "train" else validation
    if not len(images):
        raise ValueError("--split=validation: expected a run with data.validation_images > 0. Received: 0")
    return images[: max_images or None]
