"""What most people write: the published Inverting Gradients recipe, one message after the other."""

import torch


def total_variation(x):
    """Anisotropic, mean absolute differences."""
    down = (x[:, :, 1:] - x[:, :, :-1]).abs().mean()
    return down + (x[:, :, :, 1:] - x[:, :, :, :-1]).abs().mean()


def cost(found, target):
    """One minus one cosine over all layers, summed up layer by layer."""
    product, own, other = 0.0, 0.0, 0.0
    for a, b in zip(found, target, strict=True):
        product = product + (a * b).sum()
        own = own + a.pow(2).sum()
        other = other + b.pow(2).sum()
    return 1 - product / own.sqrt() / other.sqrt()


def invert(model, target, labels, shape, *, iterations, weight, lr=0.1, seed=0):
    """Images ``(n, C, H, W)`` in 0..1 whose gradient points along `target`.

    Pixels are sought on the scale ``(x - 0.5) / 0.25``, from normal noise, by Adam on signed gradients
    with a step size that falls tenfold at 3/8, 5/8 and 7/8, cut to the box after each step.
    """
    torch.manual_seed(seed)
    u = torch.randn(len(labels), *shape).requires_grad_()
    optimizer = torch.optim.Adam([u], lr=lr)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, [int(iterations * part / 8) for part in (3, 5, 7)], gamma=0.1
    )
    criterion, parameters = torch.nn.CrossEntropyLoss(), list(model.parameters())
    for _ in range(iterations):
        optimizer.zero_grad()
        model.zero_grad()
        loss = criterion(model(0.5 + 0.25 * u), labels)
        found = torch.autograd.grad(loss, parameters, create_graph=True)
        total = cost(found, target) + weight * total_variation(u)
        total.backward()
        u.grad.sign_()
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            u.clamp_(-2, 2)
    return 0.5 + 0.25 * u.detach()
