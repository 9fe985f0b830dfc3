r"""Checks a SavedModel by every rule of TensorFlow Serving.

python tools/check_export.py saved_models/nvae

The folder is a version, or the base path of versions, of which the newest is checked; any SavedModel will do. The last
check runs the model as the server does, with all requests of its warm-up file.

The exit status is 0 where every check passed, 1 where one failed and 2 where there is no SavedModel to check.
"""

import sys

from absl import app, flags

# What imports TensorFlow is imported where it is needed, so that a wrong flag is reported at once.

FLAGS = flags.FLAGS

flags.DEFINE_bool("execute", True, "Run the model as well; without, its files alone are looked at.")


def _stop(message):
    print(f"check_export.py: {message}", file=sys.stderr)
    sys.exit(2)


def main(argv):
    if len(argv) != 2:
        _stop(f"expected one folder, as in: check_export.py saved_models/nvae. Received: {argv[1:] or 'none'}")
    try:
        from nvae_tf.export.saved_model.check.contents import NotASavedModelError, find_version
        from nvae_tf.export.saved_model.check.lint import lint
    except ImportError as error:
        # Without tensorflow-serving-api; the message says what to install.
        _stop(error)
    try:
        folder = find_version(argv[1])
        print(f"checking: {folder}")
        results = lint(folder, execute=FLAGS.execute)
    except (NotASavedModelError, OSError) as error:
        _stop(error)
    for result in results:
        # A check that failed, or has advice, says why it is one.
        because = f"\n  because {result.reason}" if result.status in ("failed", "note") else ""
        print(f"{result.status:11} {result.name:20} {result.detail}".rstrip() + because)
    failed = sum(not result.passed for result in results)
    print(f"{len(results)} checks, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    app.run(main)
