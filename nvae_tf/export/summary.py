"""Summaries that programs print after an export."""

import json
import pathlib
import re


def errors(outputs):
    """Formats the errors in a parity.json or a model card; for outputs that every group has, the largest."""
    largest = {}
    for name, figures in outputs.items():
        name = re.sub(r"_\d+$", "", name)
        largest[name] = max(largest.get(name, 0.0), figures["relative"])
    return ", ".join(f"{name} {error:.1e} relative" for name, error in largest.items())


def show_saved_model(folder, card):
    """Prints the result of `export_saved_model`."""
    print("folded:")
    for what, count in card["folded"].items():
        print(f"  {count:>5}  {what}")
    if card["evaluation"] is None:
        print("model card: no likelihood, because tools/evaluate.py has not evaluated these weights and statistics")
    parity = card["parity"]
    print(f"parity with Keras: {errors(parity['outputs'])}; {parity['pixels_that_differ']:.2%} of pixel values differ")
    print(f"size: {sum(path.stat().st_size for path in folder.rglob('*')) / 2**20:.1f} MiB")
    print(f"written: {folder}")


def show_files(folder):
    """Prints the result of an export to the files of a folder."""
    for entry in json.loads((folder / "parity.json").read_text())["files"]:
        measured = f"{entry['bytes'] / 1e6:.1f} MB, {entry['seconds'] * 1e3:.2f} ms with {entry['runtime']}"
        print(f"parity of {entry['file']} ({measured}) with Keras: {errors(entry['outputs'])}")
    for path in sorted(filter(pathlib.Path.is_file, folder.iterdir())):
        print(f"written: {path}")
