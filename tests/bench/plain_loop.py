"""What most people write: shadows one after the other, in memory, in plain PyTorch."""

import time

import torch


def make_model(width=16, n_outputs=2):
    """Conv16-Conv32 with GroupNorm: the operations of `SmallCNN`, in its order."""
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.MaxPool2d(2),
        nn.GroupNorm(4, width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.MaxPool2d(2),
        nn.GroupNorm(4, 2 * width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * 49, n_outputs),
    )


def train_plainly(images, labels, *, epochs, batch_size, lr, weight_decay, seed):
    """Train one model on tensors in memory; returns it."""
    torch.manual_seed(seed)
    x, y = (images - 0.5) / 0.25, labels
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    criterion = torch.nn.CrossEntropyLoss()
    for _ in range(epochs):
        order = torch.randperm(len(y))
        for start in range(0, len(y), batch_size):
            batch = order[start : start + batch_size]
            optimizer.zero_grad()
            loss = criterion(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
    return model


def seconds_of(sets, threads, **recipe):
    """Seconds to train a model on each of `sets`, one after the other, and the models."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        start = time.perf_counter()
        models = [train_plainly(x, y, seed=i, **recipe) for i, (x, y) in enumerate(sets)]
        return time.perf_counter() - start, models
    finally:
        torch.set_num_threads(before)


def peak_flops(threads, size=2048, rounds=8):
    """Floating-point operations a second of the fastest fp32 matrix product."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a, best = torch.rand(size, size), float("inf")
        for _ in range(rounds):
            start = time.perf_counter()
            a @ a
            best = min(best, time.perf_counter() - start)
        return 2 * size**3 / best
    finally:
        torch.set_num_threads(before)


def training_flops(images, labels, *, epochs, batch_size):
    """Floating-point operations of one training: forward and backward of every batch."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        loss = torch.nn.CrossEntropyLoss()(make_model()(images[:batch_size]), labels[:batch_size])
        loss.backward()
    return counter.get_total_flops() * epochs * len(labels) / batch_size
