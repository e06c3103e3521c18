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


def test_imagenet_weights_are_taken_from_the_cache(imagenet, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    place.parent.mkdir(parents=True)
    torch.save(imagenet.state_dict(), place)
    check_body(ResNet18(4, weights="imagenet"), imagenet, 4)


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
