"""Reads the official PyTorch checkpoint as plain NumPy arrays, without executing any code from the file.

This is the only module that imports torch, and it does so when `read_checkpoint` is called.
"""

import argparse
import dataclasses
import os
import re

import numpy as np

_TORCH_NEEDED = "reading an official checkpoint needs torch >= 2.6; install it with: pip install -e .[convert]"
_COUNTER = "num_batches_tracked"


class ConversionError(ValueError):
    """An official checkpoint that cannot be converted; the message says what was expected and what was found."""


@dataclasses.dataclass(slots=True)
class OfficialCheckpoint:
    """The parts of a `checkpoint.pt` that are converted, by their official names."""

    arrays: dict[str, np.ndarray]  # float32, of `state_dict`, in PyTorch's layout (NCHW, OIHW)
    arguments: dict  # of the training's command line
    global_step: int = 0  # number of finished steps; 0 if the file does not say


def read_checkpoint(path):
    """`OfficialCheckpoint` in a file of the authors' program (NVAE, arXiv 2007.03898).

    The file is a pickle, so only torch's restricted loader reads it, and `argparse.Namespace` is the only type allowed
    beyond torch's own. A file that asks for anything else is refused before any code runs.

    Args:
        path: path of the `checkpoint.pt`.

    Raises:
        ConversionError: the file is missing, damaged or not a torch file, asks for forbidden objects, or lacks what an
            official checkpoint holds.
        ImportError: torch is not installed, or older than 2.6.
    """
    path = os.fspath(path)
    torch = _import_torch()
    content = _load(torch, path)
    if not isinstance(content, dict):
        raise _error(path, "the content", type(content).__name__, "a dict with state_dict and args")
    for key in ("state_dict", "args"):
        if key not in content:
            raise _error(path, key, f"only the keys {sorted(map(str, content))}", f"the key {key!r}")
    if not isinstance(content["args"], argparse.Namespace):
        raise _error(path, "args", type(content["args"]).__name__, "an argparse.Namespace")
    step = content.get("global_step", 0)
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise _error(path, "global_step", repr(step)[:200], "an integer of at least 0")
    return OfficialCheckpoint(_arrays(torch, path, content["state_dict"]), dict(vars(content["args"])), step)


def _error(path, what, found, expected):
    return ConversionError(f"{path}: {what}: expected {expected}. Received: {found}")


def _import_torch():
    try:
        import torch
    except ImportError as error:
        raise ImportError(_TORCH_NEEDED) from error
    # Up to version 2.5.1, even the restricted loader could be made to run code (CVE-2025-32434).
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6):
        raise ImportError(f"{_TORCH_NEEDED}. Received: torch {torch.__version__}")
    return torch


def _load(torch, path):
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # A damaged or hostile file can fail in any way. Torch's own message and traceback are not passed on, because
        # they advise trying again with weights_only=False, which is the one thing not to do.
        found = getattr(error, "strerror", None) or _reason(error)
        raise _error(path, "the file", found, "a checkpoint.pt written by torch.save") from None


def _reason(error):
    text = str(error)
    refused = re.search(r"GLOBAL (\S+)", text)
    if refused:
        return f"a pickle that asks for {refused[1]}, which is refused; nothing was run"
    detail = re.search(r"WeightsUnpickler error: *(.*)", text)
    if detail or "weights_only" not in text:
        line = detail[1] if detail else text.partition("\n")[0]
        return f"a damaged or foreign file ({type(error).__name__}: {line.strip()[:200]})"
    return f"a damaged or foreign file ({type(error).__name__})"


def _arrays(torch, path, state_dict):
    if not isinstance(state_dict, dict) or not state_dict:
        found = "an empty dict" if state_dict == {} else type(state_dict).__name__
        raise _error(path, "state_dict", found, "a dict of tensors by name")
    arrays = {}
    for name, tensor in state_dict.items():
        if not isinstance(name, str):
            raise _error(path, "state_dict", f"the key {name!r}", "names as keys")
        if not isinstance(tensor, torch.Tensor):
            raise _error(path, f"state_dict[{name!r}]", type(tensor).__name__, "a tensor")
        arrays[name] = _array(torch, path, name, tensor.detach())
    return arrays


def _array(torch, path, name, tensor):
    what = f"state_dict[{name!r}]"
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise _error(path, what, f"{tensor.layout}, {tensor.dtype} on {tensor.device}", "a dense tensor")
    # A stride of 0 lets a file of a few bytes claim a tensor of any size.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise _error(path, what, f"shape {tuple(tensor.shape)}", "no more elements than the file holds")
    if not tensor.is_floating_point() and not name.endswith(_COUNTER):
        raise _error(path, what, tensor.dtype, f"floating point (integers only in {_COUNTER})")
    array = tensor.to(torch.float32).numpy()
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise _error(path, what, f"{bad} of {array.size} values are not finite", "finite float32 values")
    return array
