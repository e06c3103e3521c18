import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from grmu_sk import MINE
from grmu_sk.mutual_information import InformationCritic, draw_marginal


@pytest.fixture
def critic():
    torch.manual_seed(0)
    return InformationCritic(3, 4, hidden=8).double()


@pytest.fixture
def batch():
    torch.manual_seed(1)
    z = torch.randn(10, 3, dtype=torch.float64)
    return z, torch.randint(4, (10,)), torch.randint(4, (10,))


def numpy_scores(network, z, labels):
    """T(z, g) as the paper writes it: one linear layer over features and one-hot label."""
    w_z, bias = (p.detach().numpy() for p in network.from_features.parameters())
    w_g = network.from_labels.weight.detach().numpy().T
    w_out, b_out = (p.detach().numpy() for p in network.score.parameters())
    inputs = np.hstack([z, np.eye(4)[labels]])
    return np.maximum(inputs @ np.hstack([w_z, w_g]).T + bias, 0) @ w_out[0] + b_out[0]


def test_value_against_numpy(critic, batch):
    z, labels, others = batch
    joint = numpy_scores(critic.statistics, z.numpy(), labels.numpy())
    marginal = numpy_scores(critic.statistics, z.numpy(), others.numpy())
    expected = joint.mean() - np.log(np.exp(marginal).mean())
    assert critic(*batch).item() == pytest.approx(expected, rel=1e-12)
    average = critic.log_average.clone()
    critic.log_average.fill_(float("nan"))
    with torch.no_grad():  # which moves the average, too
        assert critic(*batch).item() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(critic.log_average, average)
    assert critic.eval()(*batch).item() == pytest.approx(expected, rel=1e-12)


def finite_difference(function, z, step=1e-6):
    gradient = np.zeros_like(z)
    for place in np.ndindex(z.shape):
        shifted = z.copy()
        shifted[place] += step
        high = function(shifted)
        shifted[place] -= 2 * step
        gradient[place] = (high - function(shifted)) / (2 * step)
    return gradient


def test_gradient_divides_by_the_moving_average(critic, batch):
    z, labels, others = batch
    critic(torch.randn_like(z), labels, others)  # a first batch sets the average
    first = critic.log_average.exp().item()
    z = z.clone().requires_grad_()
    critic(z, labels, others).backward()

    def scores(values, of):
        return numpy_scores(critic.statistics, values, of.numpy())

    now = np.exp(scores(z.detach().numpy(), others)).mean()
    average = 0.99 * first + 0.01 * now
    assert critic.log_average.exp().item() == pytest.approx(average, rel=1e-10)
    expected = finite_difference(
        lambda v: scores(v, labels).mean() - np.exp(scores(v, others)).mean() / average,
        z.detach().numpy(),
    )
    np.testing.assert_allclose(z.grad.numpy(), expected, rtol=1e-5, atol=1e-9)


def test_marginals():
    torch.manual_seed(0)
    labels = torch.full((8000,), 2)
    uniform = draw_marginal(labels, "uniform", 4)
    np.testing.assert_allclose(torch.bincount(uniform) / 8000, 0.25, atol=0.02)
    mix = torch.tensor([0.1, 0.0, 0.6, 0.3])
    drawn = draw_marginal(labels, "train", 4, mix)
    np.testing.assert_allclose(torch.bincount(drawn, minlength=4) / 8000, mix, atol=0.02)
    labels = torch.arange(100)
    permuted = draw_marginal(labels, "permute", 100)
    assert not torch.equal(permuted, labels)
    assert torch.equal(permuted.sort().values, labels)


@pytest.mark.parametrize("marginal", ["permute", "uniform"])
def test_features_and_labels_against_an_integral(marginal):
    """z ~ N(+-1, 1) given g, P(g = 1) = 0.8: I(Z; G) by numerical integration."""
    rng = np.random.default_rng(0)
    g = (rng.random(40_000) < 0.8).astype(int)
    z = rng.normal(2 * g - 1.0)

    def entropy_term(value):
        density = 0.2 * norm.pdf(value, -1) + 0.8 * norm.pdf(value, 1)
        return -density * np.log(density)

    information = quad(entropy_term, -8, 9)[0] - 0.5 * np.log(2 * np.pi * np.e)
    if marginal == "uniform":  # the optimum is I(Z; G) + KL(P(G) || uniform)
        information += 0.2 * np.log(0.4) + 0.8 * np.log(1.6)
    mine = MINE(marginal=marginal, hidden=64, max_updates=800, batch_size=512, lr=3e-3)
    labels = np.array(["no", "yes"])[g]
    mine.set_params(random_state=0).fit(z[:20_000, None], labels[:20_000])
    assert mine.score(z[20_000:, None], labels[20_000:]) == pytest.approx(information, rel=0.1)


def test_refusals():
    with pytest.raises(FloatingPointError, match="NaN or infinite at update"):
        MINE(lr=1e38, optimizer=torch.optim.SGD, random_state=0).fit([[0.0], [1e3]] * 9, [0, 1] * 9)
