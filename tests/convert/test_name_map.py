"""Every variable has exactly one official name, numbered as in the original program."""

import numpy as np
import pytest

from nvae_tf.config import CELL_SETS
from nvae_tf.convert.name_map import UNUSED_START, name_map, to_our_layout

ONE_GROUP = {"num_latent_scales": 1, "num_groups_per_scale": 1}
VARIANTS = [{"arch_instance": cell_set} for cell_set in CELL_SETS]
VARIANTS += [{"num_nf": 2}, {"use_se": False}, {"res_dist": False}, {"dataset": "cifar10", "num_mixture_dec": 1}]
VARIANTS += [ONE_GROUP, {**ONE_GROUP, "num_nf": 1}, {"num_cell_per_cond_enc": 0, "num_cell_per_cond_dec": 2}]
VARIANTS += [{"num_preprocess_blocks": 0, "num_postprocess_blocks": 0}, {"num_latent_scales": 3, "ada_groups": True}]


@pytest.fixture(scope="module")
def model(official_model):
    return official_model(num_nf=2)


@pytest.fixture(scope="module")
def entries(model):
    return name_map(model)


@pytest.mark.parametrize("arguments", VARIANTS, ids=lambda arguments: "-".join(map(str, arguments.values())))
def test_every_variable_has_one_name(official_model, arguments):
    model = official_model(**arguments)
    assert sorted(map(id, name_map(model).values())) == sorted(map(id, model.variables))


def test_towers_are_numbered_as_the_forward_pass_meets_them(model, entries):
    # Bottom-up: group 3, group 2, down, group 1, group 0, which has no combiner. Top-down: group 0 has no cell.
    combiners = {name for name in entries if name.endswith(".conv.weight") and name.count(".") == 3}
    assert combiners == {f"enc_tower.{i}.conv.weight" for i in (1, 3, 6)} | {
        f"dec_tower.{i}.conv.weight" for i in (0, 2, 5, 7)
    }
    groups = model.groups
    assert entries["enc_tower.1.conv.weight"] is groups[3].encoder_combiner.conv.kernel
    assert entries["enc_tower.6.conv.weight"] is groups[1].encoder_combiner.conv.kernel
    assert entries["dec_tower.2.conv.weight"] is groups[1].merge.conv.kernel
    assert {f"enc_tower.4.skip.conv_{i}.weight" for i in (1, 2, 3, 4)} <= set(entries)
    assert entries["dec_tower.3.skip.1.weight"] is model.decoder.up_cells[0].skip.conv.kernel
    assert {name.split(".")[1] for name in entries if name.startswith("enc_tower.")} == set("01234567")
    assert {name.split(".")[1] for name in entries if name.startswith("dec_tower.")} == set("01234567")


def test_heads_and_flows_are_numbered_by_group(model, entries):
    assert entries["enc_sampler.3.weight"] is model.groups[3].posterior_head.kernel
    assert entries["dec_sampler.0.1.weight"] is model.groups[1].prior_head.kernel
    flow = model.groups[2].flows[1]
    assert entries["nf_cells.5.cell1.conv.convz.0.weight"] is flow.net.conv_in.kernel
    assert entries["nf_cells.5.cell1.conv.convz.2.weight"] is flow.net.conv_hidden.kernel
    assert entries["nf_cells.5.cell2.mu.conv_0.bias"] is flow.mirrored_net.conv_out.bias
    assert "nf_cells.8.cell1.mu.conv_0.bias" not in entries


def test_indices_of_an_inverted_residual_move_by_one_in_upsampling_cells(entries):
    plain = {name.split(".")[5] for name in entries if name.startswith("dec_tower.1._ops.0.conv.")}
    upsampling = {name.split(".")[5] for name in entries if name.startswith("dec_tower.3._ops.0.conv.")}
    assert (plain, upsampling) == (set("01234"), set("12345"))
    assert "dec_tower.1._ops.0.conv.3.weight" in entries and "dec_tower.1._ops.0.conv.3.bias" not in entries


def test_one_group_has_neither_start_nor_towers(official_model):
    names = name_map(official_model(**ONE_GROUP))
    assert "stem_decoder.weight" in names and UNUSED_START not in names
    assert not [name for name in names if name.startswith(("enc_tower", "dec_tower", "dec_sampler"))]


def test_layouts(entries):
    kernel = np.arange(16 * 3 * 2).reshape(4, 4, 3, 2)  # OIHW
    assert to_our_layout(kernel, entries["stem.weight"])[2, 1, 3, 0] == kernel[0, 3, 2, 1]
    dense = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(to_our_layout(dense, entries["pre_process.0.se.se.0.weight"]), dense.T)
    start = np.arange(24).reshape(2, 3, 4)
    assert to_our_layout(start, entries[UNUSED_START])[2, 3, 1] == start[1, 2, 3]
    log_norm = np.arange(5.0).reshape(5, 1, 1, 1)
    np.testing.assert_array_equal(to_our_layout(log_norm, entries["stem.log_weight_norm"]), np.arange(5.0))
