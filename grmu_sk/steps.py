"""skorch's steps over batches, at about the cost of a loop written by hand.

A step of a small net takes 0.2 ms, and skorch's own bookkeeping half as long again. Most of it has
no effect: callbacks are told what they do not listen to, and before each step every layer is put
into the mode it is in. The functions here do what skorch's methods of the same names do, in the
same order and through the same hooks, and leave that out.

A net whose class overrides one of those methods is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import BatchScoring, Callback, EpochScoring
from skorch.utils import TeeGenerator
from torch import nn

Step = Callable[[Any], Any]

SCORING_OF_BATCHES = (EpochScoring.on_batch_end, BatchScoring.on_batch_end)


def run_epoch(net: NeuralNet, batches: Iterable[Any], step: Step, training: bool = True) -> None:
    """Take a step with each batch, as ``NeuralNet.run_single_epoch`` does.

    The size of a batch is the number of its targets.

    Parameters
    ----------
    net : NeuralNet
        An initialised net.
    batches : iterable of (X, y)
        ``y`` is a tensor with an entry for each row.
    step : callable
        From a batch to a dictionary with the loss of the batch and what the module predicts.
    training : bool, default=True
        Whether the steps train.
    """
    prefix = "train" if training else "valid"
    if not _is_skorchs_own(net, "run_single_epoch"):
        net.run_single_epoch(batches, training=training, prefix=prefix, step_fn=step)
        return
    begin_is_heard, end_is_heard = (
        not training or _is_heard(net, f"on_batch_{when}") for when in ("begin", "end")
    )
    n_batches = 0
    for batch in batches:
        if begin_is_heard:
            net.notify("on_batch_begin", batch=batch, training=training)
        else:
            net.history.new_batch()
        result = step(batch)
        net.history.record_batch(f"{prefix}_loss", result["loss"].item())
        net.history.record_batch(f"{prefix}_batch_size", len(batch[1]))
        if end_is_heard:
            net.notify("on_batch_end", batch=batch, training=training, **result)
        n_batches += 1
    net.history.record(f"{prefix}_batch_count", n_batches)


def train_step(net: NeuralNet) -> Step:
    """Return what is the same as ``net.train_step`` until the next change of net or callbacks.

    Parameters
    ----------
    net : NeuralNet
        An initialised net.

    Returns
    -------
    callable
        From a batch (X, y) to a dictionary with ``loss`` and ``y_pred``.
    """
    if not _is_skorchs_own(net, "train_step", "train_step_single", "_set_training"):
        return net.train_step
    set_training, infer = _set_training(net), _inference(net)
    gradients_are_heard = _is_heard(net, "on_grad_computed")

    def step(batch: Any) -> Any:
        steps = net.get_train_step_accumulator()

        def loss_with_gradients() -> torch.Tensor:  # some optimizers ask for it several times
            net._zero_grad_optimizer()
            set_training()
            X, y = batch
            y_pred = infer(X)
            loss = net.get_loss(y_pred, y, X=X, training=True)
            loss.backward()
            steps.store_step({"loss": loss, "y_pred": y_pred})
            if gradients_are_heard:
                parameters = TeeGenerator(net.get_all_learnable_params())
                net.notify(
                    "on_grad_computed", named_parameters=parameters, batch=batch, training=True
                )
            return loss

        net._step_optimizer(loss_with_gradients)
        return steps.get_step()

    return step


def _inference(net: NeuralNet) -> Step:
    """Return what is the same as ``net.infer`` until the next change of the net."""
    module, device = net.module_, net.device
    if device is None or not _is_skorchs_own(net, "infer"):
        return net.infer
    return lambda X: module(X.to(device)) if type(X) is torch.Tensor else net.infer(X)


def _set_training(net: NeuralNet) -> Callable[[], None]:
    """Put all layers of a net into training mode; return what does so if one has left it."""
    parts = [getattr(net, name + "_") for name in (*net._modules, *net._criteria)]
    modules = [part for part in parts if isinstance(part, nn.Module)]
    layers = [layer for module in modules for layer in module.modules()]

    def set_training(always: bool = False) -> None:
        # a layer with a say in its mode, which stays frozen for example, is asked every time
        if always or not all(layer.training for layer in layers):
            for module in modules:
                module.train()

    set_training(always=True)
    return set_training


def _is_heard(net: NeuralNet, event: str) -> bool:
    """Tell whether anything happens when the net's callbacks are told of this event in training."""
    return not _is_skorchs_own(net, "notify", event) or any(
        _listens(callback, event) for _, callback in net.callbacks_
    )


def _listens(callback: Any, event: str) -> bool:
    if event in getattr(callback, "__dict__", {}):
        return True
    method = getattr(type(callback), event, None)
    if method in SCORING_OF_BATCHES and callback.on_train is False:
        return False
    return method is not getattr(Callback, event)


def _is_skorchs_own(net: NeuralNet, *methods: str) -> bool:
    """Tell whether neither the net nor its class has its own version of these methods."""
    return all(
        getattr(type(net), method) is getattr(NeuralNet, method) and method not in vars(net)
        for method in methods
    )
