r"""Prints a Markdown table of the parity.json files of exports: how close each export is to Keras.

python tools/parity_table.py saved_models/nvae/1/assets.extra/parity.json exported/*/parity.json
"""

from absl import app

from tools.flags import run


def main(paths):
    from nvae_tf.export.parity import parity_table

    if not paths:
        raise app.UsageError("expected one parity.json or more. Received: none")
    print(parity_table(paths), end="")


if __name__ == "__main__":
    run(main, "parity.json files")
