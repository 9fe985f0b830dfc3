r"""Checks a SavedModel against every rule of TensorFlow Serving.

python tools/check_export.py saved_models/nvae

The folder is a version, or a folder of versions, of which the newest is checked. It may be any SavedModel, not only one
that export.py wrote. The last check runs the model as the server does, with all requests of its warm-up file.

The exit status is 0 if every check passed, 1 if one failed and 2 if there is no SavedModel to check.
"""

import os
import sys

from absl import flags

from tools.flags import define_path, run

FLAGS = flags.FLAGS

define_path("base_dir", None, "Folder of the server's files and other versions; by default that of the version.")
flags.DEFINE_bool("execute", True, "Run the model too; otherwise only its files are inspected.")


def main(folders):
    try:
        if FLAGS.base_dir is not None and not os.path.isdir(FLAGS.base_dir):
            raise ValueError(f"--base_dir: expected an existing folder. Received: {FLAGS.base_dir}")
        if len(folders) != 1:
            received = folders or "none"
            raise ValueError(f"expected one folder, as in: check_export.py saved_models/nvae. Received: {received}")
        from nvae_tf.export.saved_model.check.contents import find_version
        from nvae_tf.export.saved_model.check.lint import lint_saved_model

        folder = find_version(folders[0])
        print(f"checking: {folder}")
        results = lint_saved_model(folder, execute=FLAGS.execute, base_dir=FLAGS.base_dir)
    except (ValueError, OSError, ImportError) as error:  # no SavedModel, or no tensorflow-serving-api
        print(f"check_export.py: {error}", file=sys.stderr)
        sys.exit(2)
    for result in results:
        print(f"{result.status:11} {result.name:20} {result.detail}".rstrip())
        if not result.passed:
            print(f"  {result.reason}")
    failed = sum(not result.passed for result in results)
    print(f"{len(results)} checks, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    run(main, takes_words=True)
