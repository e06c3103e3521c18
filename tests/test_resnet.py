import pickle

import pytest
import torch
from conftest import make_net
from safetensors.torch import save_file
from torchvision import models

from grmu_sk import resnet
from grmu_sk.features import find_feature_layer
from grmu_sk.resnet import ResNet18, resnet18


@pytest.fixture(scope="module")
def imagenet():
    """Random weights of torchvision's own network with its thousand classes."""
    torch.manual_seed(0)
    return models.resnet18(weights=None)


@pytest.fixture
def weights(imagenet, tmp_path):
    path = tmp_path / "resnet18.pth"
    torch.save(imagenet.state_dict(), path)
    return path


def features(net, images):
    net = net.eval()
    kept = []
    hook = net.fc.register_forward_pre_hook(lambda layer, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        net(images)
    hook.remove()
    return kept[0]


def check_body(net, imagenet, n_classes):
    images = torch.randn(2, 3, 64, 64)
    expected = features(imagenet, images)
    assert expected.shape == (2, 512)
    assert torch.equal(features(net, images), expected)
    assert net(images).shape == (2, n_classes)
    assert not torch.equal(net.fc.weight, imagenet.fc.weight[:n_classes])


@pytest.mark.parametrize("kind", ["torch", "safetensors", "nested", "without counters", "headless"])
def test_weights_from_a_file(imagenet, tmp_path, kind):
    state = dict(imagenet.state_dict())
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "without counters":  # as files of old versions of torch
        state = {name: value for name, value in state.items() if "num_batches" not in name}
    if kind == "headless":
        state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 90} if kind == "nested" else state, path)
    check_body(resnet18(9, path), imagenet, 9)


def test_the_head_is_new_even_with_the_same_number_of_classes(imagenet, weights):
    net = resnet18(1000, weights)
    assert torch.equal(net.conv1.weight, imagenet.conv1.weight)
    assert not torch.equal(net.fc.weight, imagenet.fc.weight)


def test_random_weights_depend_on_the_seed_alone():
    nets = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        nets.append(ResNet18(3))
    assert torch.equal(nets[0].conv1.weight, nets[1].conv1.weight)
    assert not torch.equal(nets[0].conv1.weight, nets[2].conv1.weight)


def test_features_enter_the_head(weights):
    net = make_net(ResNet18, module__n_classes=3, module__weights=weights).initialize()
    assert find_feature_layer(net, torch.zeros(2, 3, 32, 32)) == ("fc", "input")
    received = pickle.loads(pickle.dumps(net))
    assert torch.equal(received.module_.fc.weight, net.module_.fc.weight)


def test_imagenet_weights_are_taken_from_the_cache(imagenet, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(imagenet.state_dict(), tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    check_body(resnet18(4, "imagenet"), imagenet, 4)


def test_without_a_network_it_says_what_to_get_and_where_to_put_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(FileNotFoundError, match="no route to host") as caught:
        resnet18(2, "imagenet")
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in str(caught.value)
    assert str(tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth") in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*none.pth .*download.pytorch.org"):
        resnet18(2, tmp_path / "none.pth")


def test_files_with_other_things_than_weights(tmp_path):
    path = tmp_path / "weights.pth"
    for content, message in [(b"", "cannot be read"), (b"not a pickle", "cannot be read|holds mo")]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            resnet18(2, path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="does not hold weights by name"):
        resnet18(2, path)
    (tmp_path / "weights.safetensors").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"weights.safetensors cannot be read"):
        resnet18(2, tmp_path / "weights.safetensors")


def test_what_a_pickle_would_run_is_not_run(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (tmp_path.joinpath("touched").touch, ())

    torch.save({"weights": Malicious()}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="holds more than weights"):
        resnet18(2, tmp_path / "weights.pth")
    assert not (tmp_path / "touched").exists()


def test_weights_of_another_network(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(models.resnet34(weights=None).state_dict(), path)
    with pytest.raises(ValueError, match=r"0 missing; \d+ unknown \(layer1.2"):
        resnet18(2, path)
    torch.save(models.squeezenet1_1(weights=None).state_dict(), path)
    with pytest.raises(ValueError, match=r"\d+ missing \(conv1.weight"):
        resnet18(2, path)


def test_weights_of_another_shape(imagenet, tmp_path):
    state = dict(imagenet.state_dict())
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    torch.save(state, tmp_path / "grey.pth")
    with pytest.raises(ValueError, match=r"conv1.weight has shape \(64, 1, 7, 7\), expected"):
        resnet18(2, tmp_path / "grey.pth")


@pytest.mark.parametrize("n_classes", [0, 2.0, True])
def test_numbers_of_classes_that_make_no_sense(n_classes):
    with pytest.raises(ValueError, match="n_classes must be a whole number"):
        resnet18(n_classes)


def test_the_file_is_torchvisions():
    assert resnet.IMAGENET.url == models.ResNet18_Weights.IMAGENET1K_V1.url
