import sys

import pytest
import torch
import transformers
from conftest import make_net
from safetensors.torch import save_file
from torchvision import models

from grmu_sk.benchmark.nets import BertClassifier, ChannelsLastCNN, ResNet18
from grmu_sk.nets import SmallCNN
from grmu_sk.outputs import find_feature_layer

TINY = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
}


@pytest.fixture(scope="module")
def imagenet():
    """Random weights of torchvision's own network with its thousand classes."""
    torch.manual_seed(0)
    return models.resnet18(weights=None)


def check_body(net, imagenet, n_classes):
    images, kept = torch.randn(2, 3, 64, 64), []
    for module in (net.eval(), imagenet.eval()):
        module.fc.register_forward_pre_hook(lambda layer, inputs: kept.append(inputs[0]))
        module(images)
    assert torch.equal(*kept[:2])
    assert net(images).shape == (2, n_classes)
    assert not torch.equal(net.fc.weight, imagenet.fc.weight[:n_classes])


def test_weights_from_a_file(imagenet, tmp_path):
    body = {name: v for name, v in imagenet.state_dict().items() if not name.startswith("fc.")}
    save_file(body, path := tmp_path / "weights.safetensors")
    check_body(ResNet18(9, weights=path), imagenet, 9)
    # without counters, as files of old versions of torch
    state = {name: v for name, v in imagenet.state_dict().items() if "num_batches" not in name}
    torch.save({"state_dict": state, "epoch": 90}, path := tmp_path / "weights.pth")
    check_body(ResNet18(1000, weights=path), imagenet, 1000)
    net = make_net(ResNet18, module__n_classes=3, module__weights=path).initialize()
    assert find_feature_layer(net, torch.zeros(2, 3, 32, 32)) == ("fc", "input")


def test_imagenet_weights_are_taken_from_the_cache_or_it_says_where_to_put_them(
    imagenet, monkeypatch, tmp_path
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(FileNotFoundError, match="no route to host") as caught:
        ResNet18(2, weights="imagenet")
    place = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    assert str(place) in str(caught.value)
    assert models.ResNet18_Weights.IMAGENET1K_V1.url in str(caught.value)
    torch.save(imagenet.state_dict(), place)
    check_body(ResNet18(4, weights="imagenet"), imagenet, 4)


class WordsOf:
    """Code that a file of weights must not name."""


def test_other_files_are_refused(imagenet, tmp_path):
    path = tmp_path / "weights.pth"
    grey = {**imagenet.state_dict(), "conv1.weight": torch.zeros(64, 1, 7, 7)}
    for content, message in [
        ({"weights": WordsOf}, "cannot be read as weights"),
        ({"layer": torch.zeros(2)}, r"(?s)Missing key.*conv1.weight"),
        (grey, r"size mismatch for conv1.weight"),
    ]:
        torch.save(content, path)
        with pytest.raises(ValueError, match=message):
            ResNet18(2, weights=path)


def test_channels_last_computes_the_same_as_the_plain_network():
    torch.manual_seed(0)
    net, plain = ChannelsLastCNN(9, width=8, depth=4), SmallCNN(9, width=8, depth=4)
    plain.load_state_dict(net.state_dict())
    X, seen = torch.randn(20, 3, 32, 32), []
    net.features[0].register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
    torch.testing.assert_close(net(X), plain(X), rtol=1e-4, atol=1e-6)
    assert all(p.is_contiguous() for p in net.parameters())
    assert seen[0].is_contiguous(memory_format=torch.channels_last) and not seen[0].is_contiguous()


def make_inputs(n_rows=6, length=8):
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(5, 60, (n_rows, length), generator=generator)
    mask, segments = torch.ones_like(numbers), torch.zeros_like(numbers)
    mask[:3, 6:] = 0
    segments[:, 4:] = 1
    return torch.stack([numbers, mask, segments], dim=2).int()


def test_logits_are_those_of_transformers(tmp_path):
    torch.manual_seed(0)
    original = transformers.BertForSequenceClassification(transformers.BertConfig(**TINY)).eval()
    original.save_pretrained(tmp_path)
    net = BertClassifier(2, weights=tmp_path).eval()
    net.head.load_state_dict(original.classifier.state_dict())
    X = make_inputs()
    with torch.no_grad():
        expected = original(
            input_ids=X[..., 0], attention_mask=X[..., 1], token_type_ids=X[..., 2]
        ).logits
        assert torch.equal(net(X), expected)
    net = make_net(BertClassifier, module__n_classes=3, module__weights=tmp_path).initialize()
    assert find_feature_layer(net, X) == ("head", "input")
    transformers.BertForMaskedLM(original.config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"pooler.dense.bias"):
        BertClassifier(2, weights=tmp_path)


def test_neither_folder_nor_network_nor_package(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for weights, message in [("bert-base-uncased", "bert-base-uncased"), (tmp_path, "config.json")]:
        with pytest.raises(FileNotFoundError, match=message):
            BertClassifier(2, weights=weights)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'grmu_sk\[text\]'"):
        BertClassifier(2, weights=tmp_path)
