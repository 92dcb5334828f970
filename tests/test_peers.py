"""The PyTorch steps of bench/ do the same work as ours: equal gradients and equal updates, or a timing says nothing."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from gradcheck import assert_close
from vaegan_case import batch, make_model, objective, part

from bench.peers.compiled import Compiled, Settings
from bench.peers.networks import Networks
from bench.peers.pytorch import WEIGHT_DECAY, Lean, Plain

LR = 1e-3
EAGER = functools.partial(Compiled, settings=Settings(compile=None, autocast=False, graph=False))
COMPILED = functools.partial(Compiled, settings=Settings(backend="aot_eager", autocast=False, graph=False))
#: PyTorch's compiler warns of its own doings; here, as in pyproject.toml elsewhere, that would be an error.
pytestmark = pytest.mark.filterwarnings("default")
PEERS = pytest.mark.parametrize("kind", [Plain, Lean, EAGER, COMPILED], ids=["plain", "lean", "eager", "compiled"])


def make_peer(kind, model, channels_last=False):
    networks = Networks(part(model, "parameters"), dtype=torch.float64)
    networks.load(part(model, "parameters"), part(model, "statistics"))
    if channels_last:
        networks = networks.to(memory_format=torch.channels_last)
    return kind(networks, lr=LR)


def torch_batch(data):
    x, eps, z_p = (torch.tensor(a) for a in data)
    return x.permute(0, 3, 1, 2), eps, z_p  # a channels-last view


def by_name(peer, gradients):
    """Gradients of `Peer.gradients` under this repository's names and layouts."""
    own = {id(p): g for m, gs in zip(peer.modules, gradients, strict=True) for p, g in zip(m.parameters(), gs, strict=True)}
    tensors = peer.networks.tensors().items()
    return peer.networks.gradients({name: own[id(t)] for name, (t, is_parameter) in tensors if is_parameter})


@PEERS
@pytest.mark.parametrize("channels_last", [False, True], ids=["NCHW", "channels last"])
def test_peer_gradients_are_ours(engine64, kind, channels_last):
    model = make_model(engine64)
    data = batch(engine64, model, 4)
    expected, _ = model.gradients(*data, objective())
    peer = make_peer(kind, model, channels_last)
    if isinstance(peer, Compiled):
        peer.compile()
    got = by_name(peer, peer.gradients(*torch_batch(data)))
    assert set(got) == set(expected)
    for name in expected:
        assert_close(got[name], expected[name], 1e-8, name)


@PEERS
def test_peer_steps_are_ours(engine64, kind):
    """Three steps: same optimiser, same decay."""
    model = make_model(engine64, weight_decay=WEIGHT_DECAY)
    peer = make_peer(kind, model)
    for i in range(3):
        data = batch(engine64, model, 4, seed=i)
        peer.step(*torch_batch(data))
        model.train_step(*data, objective(gate=False), LR)
    tensors = {name: t for name, (t, is_parameter) in peer.networks.tensors().items() if is_parameter}
    for name, array in peer.networks.gradients(tensors).items():
        assert_close(array, part(model, "parameters")[name], 1e-6, name)


def test_the_peer_in_bf16_does_the_same_work(engine64):
    """Autocast's gradients point the same way; that is all that bf16 allows to ask of a network this small."""
    model = make_model(engine64)
    data = batch(engine64, model, 8)
    expected, _ = model.gradients(*data, objective())
    networks = Networks(part(model, "parameters"))
    networks.load(part(model, "parameters"), part(model, "statistics"))
    peer = Compiled(networks, Settings(compile=None, graph=False), lr=LR)
    got = by_name(peer, peer.gradients(*(t.float() for t in torch_batch(data))))
    for name, g in got.items():
        assert g.dtype == np.float32
        cosine = np.sum(g * expected[name]) / np.linalg.norm(g) / np.linalg.norm(expected[name])
        assert cosine > 0.95, (name, cosine)
