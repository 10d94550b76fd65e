"""States as vectors, and networks as functions."""

import torch
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from toys import CLASSES, SHAPE, assert_same, toy_images, toy_module, toy_state

from pdd_lightning.compute.functional import FunctionalNetwork, Layout, detached
from pdd_lightning.networks import ConvNet, build_template

BATCH_NORM = ConvNet(width=4, depth=2, norm="batch")
STATE = toy_state(BATCH_NORM)
LAYOUT = Layout.of(build_template(BATCH_NORM, SHAPE, CLASSES))
PARAMETERS = {name: STATE[name] for name in LAYOUT.names}


def test_flattening_and_naming_again_is_a_round_trip() -> None:
    assert_same(LAYOUT.unflatten(LAYOUT.flatten(PARAMETERS)), PARAMETERS)


def test_parameters_are_found_by_name_not_by_position() -> None:
    shuffled = dict(reversed(STATE.items()))
    assert torch.equal(LAYOUT.flatten(shuffled), LAYOUT.flatten(STATE))


def test_buffers_are_not_part_of_the_vector() -> None:
    assert {"running_mean", "running_var"} <= {name.rpartition(".")[2] for name in STATE}
    assert LAYOUT.size == sum(tensor.numel() for tensor in PARAMETERS.values())


def test_flattening_copies() -> None:
    vector = LAYOUT.flatten(PARAMETERS)
    before = detached(PARAMETERS)
    vector.zero_()
    assert_same(PARAMETERS, before)


def test_flattening_a_single_parameter_copies_too() -> None:
    weight = torch.ones(2, 3)
    vector = Layout(("weight",), ((2, 3),)).flatten({"weight": weight})
    vector.zero_()
    assert weight.all()


def test_naming_makes_views() -> None:
    vector = LAYOUT.flatten(PARAMETERS)
    LAYOUT.unflatten(vector)["head.bias"].fill_(7)
    assert torch.equal(vector[-CLASSES:], torch.full((CLASSES,), 7.0))


def test_a_detached_state_shares_nothing() -> None:
    copy = detached(STATE)
    for name, tensor in STATE.items():
        assert copy[name].data_ptr() != tensor.data_ptr()


def test_the_function_agrees_with_the_module_in_training_mode() -> None:
    data = toy_images(6)
    module = toy_module(STATE, BATCH_NORM)
    network = FunctionalNetwork(build_template(BATCH_NORM, SHAPE, CLASSES))
    assert torch.equal(network(PARAMETERS, data.images), module(data.images))
    wanted = F.cross_entropy(toy_module(STATE, BATCH_NORM)(data.images), data.labels)
    assert torch.equal(network.loss(PARAMETERS, data.images, data.labels), wanted)


def test_batch_norm_keeps_no_running_statistics() -> None:
    network = FunctionalNetwork(build_template(BATCH_NORM, SHAPE, CLASSES))
    assert any(isinstance(module, _BatchNorm) for module in network.template.modules())
    assert list(network.template.buffers()) == []


def test_the_function_has_no_memory() -> None:
    network = FunctionalNetwork(build_template(BATCH_NORM, SHAPE, CLASSES))
    images = toy_images(6).images
    first = network(PARAMETERS, images)
    network(PARAMETERS, 100 * images)
    assert torch.equal(network(PARAMETERS, images), first)


def test_the_templates_own_values_never_matter() -> None:
    images = toy_images(6).images
    first, second = (FunctionalNetwork(toy_module(toy_state(BATCH_NORM, key=k), BATCH_NORM)) for k in (1, 2))
    assert torch.equal(first(PARAMETERS, images), second(PARAMETERS, images))
