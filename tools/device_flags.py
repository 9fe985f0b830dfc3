"""The flags that say which devices of this machine a program uses."""

from absl import flags

# The program that calls the function below lists the flags in its --help.
flags.disclaim_key_flags()


def define_devices():
    """Defines --strategy and --logical_cpus."""
    flags.DEFINE_enum("strategy", "auto", ["auto", "one", "mirrored"], "Devices: one, or all that are there.")
    flags.DEFINE_integer("logical_cpus", 0, "Split the CPU into so many devices, to try mirrored.", lower_bound=0)


def chosen_strategy():
    """The `tf.distribute.Strategy` that they ask for; to be called before anything else of TensorFlow."""
    from nvae_tf.training.strategy import make_strategy

    return make_strategy(flags.FLAGS.strategy, num_logical_cpus=flags.FLAGS.logical_cpus)
