"""The programs of evaluation name a wrong flag before they load TensorFlow's part of the package."""

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
        ("evaluate", "--num_samples=0", "--num_samples=0"),
        ("evaluate", "--split=dev", "--split=dev"),
        ("evaluate", "--max_images=-1", "--max_images=-1"),
        ("sample", "--temperature=0", f"--temperature=['0']: {_FINITE}"),
        ("sample", "--temperature=nan", f"--temperature=['nan']: {_FINITE}"),
        ("sample", "--temperature=0.5,warm", f"--temperature=['0.5', 'warm']: {_FINITE}"),
        ("sample", "--npz=a.png", "--npz=a.png: expected a name ending in .npz in an existing folder"),
        ("sample", "--out=nowhere/a.png", "--out=nowhere/a.png: expected a name ending in .png in an existing folder"),
        ("sample", "--num=0", "--num=0"),
        ("sample", "--shards_dir=many --npz=a.npz", "expected --shards_dir without --out, --images_dir and --npz"),
        ("sample", "--num_workers=2 --worker_index=2", "expected --worker_index below --num_workers"),
        ("readjust_bn", "--temperature=inf", f"--temperature=inf: {_FINITE}"),
        ("reconstruct", "--temperature=0", f"--temperature=0.0: {_FINITE}"),
        ("reconstruct", "--out=a.jpg", "--out=a.jpg: expected a name ending in .png in an existing folder"),
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
        ("interpolate", "--images=3,4 --seeds=1,2", "Exactly one of (images, seeds)"),
        ("interpolate", "--images=3,4 --frames=1", "--frames=1"),
        ("traverse", "--group=0", "Exactly one of (images, seeds)"),
        ("traverse", "--seeds=1", "Exactly one of (group, scale)"),
        ("traverse", "--seeds=1 --group=-1", "--group=-1"),
        ("fid", "", "--inception=None: expected an existing file. FID and KID are defined by the features of one"),
        ("fid", f"--inception={__file__} --num_samples=1", "--num_samples=1"),
        (
            "fid",
            f"--inception={__file__} --save_statistics=a.npy",
            "--save_statistics=a.npy: expected a name",
        ),
        ("report", "--temperature=0", f"--temperature=['0']: {_FINITE}"),
        ("report", "--out=page.pdf", "--out=page.pdf: expected a name ending in .html in an existing folder"),
    ],
)
def test_wrong_flags_are_named(digits_run, program, name, arguments, message):
    with pytest.raises(flags.Error, match=re.escape(message)):
        program(name, f"--run_dir={digits_run}", *arguments.split())


def test_run_dir_is_required(program):
    with pytest.raises(flags.Error, match="--run_dir"):
        program("sample")
