r"""Prints a Markdown table of what exports wrote to their parity.json: how near each file comes to Keras.

python tools/parity_table.py saved_models/nvae/1/assets.extra/parity.json exported/*/parity.json
"""

import os
import sys

from absl import app


def main(argv):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors alone
    from nvae_tf.export.parity import parity_table

    if len(argv) < 2:
        raise app.UsageError("expected one parity.json or more. Received: none")
    try:
        print(parity_table(argv[1:]), end="")
    except (OSError, ValueError) as error:
        sys.exit(f"parity_table.py: {error}")


if __name__ == "__main__":
    app.run(main)
