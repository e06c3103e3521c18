import sys

import official_trees as trees
import pytest
import torch
import transformers
from conftest import make_net

from grmu_sk.bert import BertClassifier, load_tokenizer
from grmu_sk.datasets import load_multinli
from grmu_sk.datasets.multinli import tokenize
from grmu_sk.features import find_feature_layer

TINY = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sentence", "never", "number", "one", "two"]
WORDS += [",", *(str(number) for number in range(20))]


def make_inputs(n_rows=6, length=8):
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(5, 60, (n_rows, length), generator=generator)
    mask = torch.ones(n_rows, length, dtype=torch.int64)
    mask[:3, 6:] = 0
    segments = torch.zeros_like(mask)
    segments[:, 4:] = 1
    return torch.stack([numbers, mask, segments], dim=2).int()


@pytest.fixture
def pretrained(tmp_path):
    """A tiny model in a folder, as transformers saves it, with its tokenizer."""
    torch.manual_seed(0)
    config = transformers.BertConfig(**TINY)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizerFast(str(tmp_path / "vocab.txt"))
    tokenizer.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_logits_are_those_of_transformers(pretrained):
    original = transformers.BertForSequenceClassification.from_pretrained(pretrained).eval()
    net = BertClassifier(2, weights=pretrained).eval()
    net.head.load_state_dict(original.classifier.state_dict())
    X = make_inputs()
    with torch.no_grad():
        expected = original(
            input_ids=X[..., 0], attention_mask=X[..., 1], token_type_ids=X[..., 2]
        ).logits
        assert torch.equal(net(X), expected)
        # padding counts for nothing, what is not padding counts
        other = X.clone()
        other[:3, 7, 0] = 5
        torch.testing.assert_close(net(other), expected)
        other[3:, 7, 0] = (X[3:, 7, 0] + 1) % 60
        assert not torch.allclose(net(other)[3:], expected[3:])


def test_features_are_the_pooled_output(pretrained):
    net = make_net(BertClassifier, module__n_classes=3, module__weights=pretrained).initialize()
    assert find_feature_layer(net, make_inputs()) == ("head", "input")
    assert net.module_.head.in_features == 16
    assert net.module_(make_inputs()).shape == (6, 3)


def test_weights_of_another_network(tmp_path):
    config = transformers.BertConfig(**TINY)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)  # it has no pooler
    with pytest.raises(ValueError, match=r"2 are missing, pooler.dense.bias for one"):
        BertClassifier(2, weights=tmp_path)


def test_dropout_is_that_of_the_configuration():
    assert BertClassifier(2, weights=None, config=TINY).dropout.p == 0.1
    assert (
        BertClassifier(2, weights=None, config=TINY | {"hidden_dropout_prob": 0.3}).dropout.p == 0.3
    )


def test_random_weights_of_any_size():
    net = BertClassifier(3, weights=None, config=TINY)
    assert net(make_inputs()).shape == (6, 3)
    assert sum(p.numel() for p in net.parameters()) < 10_000


def test_sentences_are_tokenized(pretrained, tmp_path):
    root = trees.multinli_tree(tmp_path / "multinli", n_each=1, inputs="sentences")
    bunch = load_multinli(root, tokenizer=pretrained, max_length=16)
    row = int(bunch.test[1])  # contradiction with a negation
    assert bunch.groups[row] == 1
    text = f"[CLS] sentence {row} , number one [SEP] never sentence {row} two [SEP]".split()
    expected = [WORDS.index(word) for word in text]
    pad = 16 - len(expected)
    assert bunch.data[row, :, 0].tolist() == expected + [0] * pad
    assert bunch.data[row, :, 1].tolist() == [1] * len(expected) + [0] * pad
    assert bunch.data[row, :, 2].tolist() == [0] * 7 + [1] * (len(expected) - 7) + [0] * pad


def test_long_pairs_are_cut(pretrained):
    tokenizer = load_tokenizer(pretrained)
    X = tokenize(tokenizer, ["one " * 30, "two"], ["two", "one " * 30], 12)
    assert X[:, :, 1].all()
    one, two = WORDS.index("one"), WORDS.index("two")
    assert X[0, :, 0].tolist() == [2, *[one] * 8, 3, two, 3]
    assert X[1, :, 0].tolist() == [2, two, 3, *[one] * 8, 3]


@pytest.mark.parametrize(
    "load", [load_tokenizer, lambda name: BertClassifier(2, weights=name)], ids=["tokens", "net"]
)
def test_neither_folder_nor_network(load, offline, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not a folder here.*put them into a folder"):
        load("bert-base-uncased")
    with pytest.raises(FileNotFoundError, match="does not hold what is needed"):
        load(tmp_path)


def test_without_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'grmu_sk\[text\]'"):
        BertClassifier(2)
