"""The evaluation programs report a wrong flag before they load the package's TensorFlow part."""

import re

import pytest
from absl import flags

_FINITE = "expected a positive, finite number"
_PAIRS = "expected pairs: an even number of them"
_NUMBERS = "expected whole numbers from 0, separated by commas"


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("evaluate", "--run_dir=nowhere", "--run_dir=nowhere: expected a run folder with config.json"),
        ("evaluate", "--data_dir=nowhere", "--data_dir=nowhere: expected an existing folder"),
        ("sample", "--temperature=nan", f"--temperature=['nan']: {_FINITE}"),
        ("sample", "--temperature=0.5,warm", f"--temperature=['0.5', 'warm']: {_FINITE}"),
        ("sample", "--npz=nowhere/a.npz", "--npz=nowhere/a.npz: expected a name ending in .npz in an existing folder"),
        ("bulk", "--job=sample --out=a", "expected --num with --job=sample"),
        ("bulk", "--job=score --out=a --batch_size=100", "expected --shard_size to be a multiple of --batch_size"),
        ("readjust_bn", "--temperature=inf", f"--temperature=inf: {_FINITE}"),
        ("encode", "", "--out"),
        ("encode", "--out=a.h5", "--out=a.h5: expected a name ending in .npz or .tfrecord in an existing folder"),
        (
            "encode",
            "--out=a.npz --what=latents,labels",
            "--what=['latents', 'labels']: expected some of latents",
        ),
        ("encode", "--out=a.npz --what=", "--what=[]: expected some of latents, params, kl"),
        ("interpolate", "--images=3", f"--images=['3']: {_PAIRS}"),
        ("interpolate", "--seeds=1,2,3", f"--seeds=['1', '2', '3']: {_PAIRS}"),
        ("interpolate", "--images=3,x", f"--images=['3', 'x']: {_NUMBERS}"),
        ("interpolate", "--images=3,-1", _NUMBERS),
        ("interpolate", "--images=3,4 --seeds=1,2", "At most one of (images, seeds)"),
        ("traverse", "--seeds=1", "Exactly one of (group, scale)"),
        ("fid", "", "--inception=None: expected an existing file. FID and KID are defined by the features of one"),
    ],
)
def test_wrong_flags_are_named(digits_run, program, name, arguments, message):
    with pytest.raises(flags.Error, match=re.escape(message)):
        program(name, f"--run_dir={digits_run}", *arguments.split())
