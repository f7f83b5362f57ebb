"""Networks, images and messages for attacks that match gradients."""

import copy

import numpy as np
import torch
from torch import nn

from medleak.targets.architectures.cnn import SmallCNN
from medleak.targets.architectures.mlp import MLP
from medleak.targets.architectures.resnet import ResNet18

SIDE = 12


def made(kind, seed=0, side=SIDE):
    """An untrained network in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "sigmoid":
            layers = nn.Sequential(
                nn.Conv2d(1, 8, 5, padding=2, stride=2),
                nn.Sigmoid(),
                nn.Flatten(),
                nn.Linear(8 * (side // 2) ** 2, 2),
            )
            for p in layers.parameters():
                nn.init.uniform_(p, -0.5, 0.5)
            return layers.eval()
        options = {"in_shape": (1, side, side), "n_outputs": 2}
        if kind == "depthwise":
            layers = [nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten()]
            return nn.Sequential(*layers, nn.Linear(4 * (side - 4) ** 2, 2)).eval()
        if kind == "resnet":
            return ResNet18(in_shape=(1, 32, 32), n_outputs=2, width=8, stem="large").eval()
        return SmallCNN(**options).eval() if kind == "cnn" else MLP(**options, hidden=32).eval()


def images(n, seed=0, side=SIDE):
    """Smooth light and dark patches, ``(n, 1, side, side)`` in 0..1, and labels in turn."""
    rng, at = np.random.default_rng(seed), np.linspace(0, 1, side)
    x = np.full((n, side, side), 0.5)
    for _ in range(6):
        down, right = rng.random((2, n, 1, 1))
        size, depth = rng.uniform(0.08, 0.25, (n, 1, 1)), rng.uniform(-0.4, 0.4, (n, 1, 1))
        x += depth * np.exp(-((at[:, None] - down) ** 2 + (at - right) ** 2) / (2 * size**2))
    return np.clip(x, 0, 1)[:, None].astype(np.float32), np.arange(n) % 2


def sent_by(network, x, y, local):
    """What a client returns: the sum of its steps' gradients, in plain PyTorch."""
    model = copy.deepcopy(network)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    size = min(local.batch_size, len(x))
    for t in range(local.steps):
        batch = torch.arange(t * size, (t + 1) * size) % len(x)
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        found = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for (name, p), g in zip(model.named_parameters(), found, strict=True):
                total[name] += g
                p -= local.lr * g
    return {name: g.numpy() for name, g in total.items()}
