"""Reading configurations: what is wrong is named, with where and what to write instead."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from flows.config import PipelineConfig, read_config
from flows.pretrain import PretrainConfig
from tasks.errors import ConfigurationError
from tasks.train.methods import METHODS
from tasks.train.methods.linear import Linear

CONFIGS = Path(__file__).parent.parent.parent / "configs"


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "pipeline.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_ready_configuration_is_valid(path: Path) -> None:
    read_config(path, (), PretrainConfig if path.stem == "pretrain" else PipelineConfig)


def test_a_name_is_all_that_is_needed(write) -> None:
    config = read_config(write("name: mine"), (), PipelineConfig)
    assert config.ingest.source.embedded == "digits" and config.extract.weights == "builtin"


def test_overrides_reach_into_sections_and_keep_their_types(write) -> None:
    config = read_config(
        write("name: mine"),
        [
            "train.epochs=5",
            "train.method=mlp",
            "extract.layer=null",
            "ingest.source={folder: x}",
            "ingest.source.layout=*/label",
        ],
        PipelineConfig,
    )
    assert (config.train.epochs, config.train.method, config.extract.layer) == (5, "mlp", None)
    assert (config.ingest.source.folder, config.ingest.source.layout) == ("x", "*/label")


def test_a_section_of_train_is_the_method_s_that_it_names(write) -> None:
    assert read_config(write("name: x"), (), PipelineConfig).train == Linear()
    for name, kind in METHODS.items():
        able = name != "auto" and not kind.unlabelled  # one searches by itself, of others no image tells which is best
        searches = ", search: {}" if able else ""
        config = read_config(write(f"name: x\ntrain: {{method: {name}, seed: 3{searches}}}"), (), PipelineConfig)
        assert type(config.train) is kind and config.train.seed == 3
        assert not able or config.train.search.trials == 20
        assert PipelineConfig.model_validate(config.model_dump(by_alias=True)) == config


@pytest.mark.parametrize(
    ("text", "overrides", "told"),
    [
        ("name: x\ntrain: {method: mlp, epoch: 3}", [],
         ["pipeline.yaml: ", "unknown key 'train.epoch'; did you mean 'epochs'?"]),
        ("name: x\ningest: {source: {version: abc, tasks: {s: {knd: class}}}}", [],
         ["unknown key 'ingest.source.tasks.s.knd'; did you mean 'kind'?"]),
        ("name: x\ningest: {source: {version: abc, tasks: {kind: {zzz: class}}}}", [],
         ["unknown key 'ingest.source.tasks.kind.zzz'; known here: kind, unit"]),
        ("name: x\ningest: {source: {table: t.csv, split: {column: fold}}}", [],
         ["pipeline.yaml: ingest.source.split: say which cells of fold"]),
        ("name: x\ningest: {source: {table: t.csv, split: {column: fold, tset: 4}}}", [],
         ["unknown key 'ingest.source.split.tset'; did you mean 'test'"]),
        ("name: x\ningest: {source: {table: t.csv, split: {column: fold, val: [4, 5], test: '5.0'}}}", [],
         ["ingest.source.split: 5 cannot be of several splits"]),
        ("name: x\ningest: {source: {table: t.csv, split: {column: fold, val: {a: 4}}}}", [],
         ["ingest.source.split.val: give one value of a cell, or a list"]),
        ("name: x\ningest: {source: {table: t.csv, split: 7}}", [],
         ["ingest.source.split: input should be a valid string"]),
        ("name: x\ntrain: {epochs: 5}", [],
         ["unknown key 'train.epochs'; it belongs to ", "mlp, ", "partial, ", ", and train.method is linear"]),
        ("name: x\ntrain: {epoch: 5}", [],
         ["unknown key 'train.epoch'; did you mean 'epochs'? It belongs to ", ", and train.method is linear"]),
        ("name: x\ntrain: {method: knn, hiden: 5}", [],
         ["'hidden'? It belongs to ", ", mlp, ", ", and train.method is knn"]),
        ("name: x\ntrain: {quux: 1}", [], ["unknown key 'train.quux'; known here: ", "seeds", "balance"]),
        ("name: x\ntrain: {seeds: [0, -1]}", [], ["train.seeds.1", "greater than or equal to 0"]),
        ("name: x\ntrain: {method: mpl}", [], ["train.method: there is no method 'mpl'; did you mean 'mlp'?"]),
        ("name: x\ntrain: {method: auto, budget: ten}", [], ["train.budget: write a time, such as 90s, 10m or 1.5h"]),
        ("name: x\ntrain: {method: auto, budget: 0m}", [], ["train.budget: write a time"]),
        ("name: x\ntrain: {method: auto, search: {}}", [], ["auto searches by itself: leave search and seeds out"]),
        ("name: x\ntrain: {method: auto, methods: [lp_fd]}", [], ["there is no method 'lp_fd'", "'lp_ft'"]),
        ("name: x\ntrain: {method: auto, methods: [auto]}", [], ["there is no method 'auto'"]),
        ("name: x\ntrain: {method: zzz}", [], ["there is no method 'zzz'; known here: ", "linear", "ridge"]),
        ("name: x\ntrain: {search: {trails: 3}}", [],
         ["unknown key 'train.search.trails'; did you mean 'trials'?"]),
        ("name: x", ["train.method=mlp", "train.search.trials=0"], ["train.search.trials: input", "(given: 0)"]),
        ("name: x\ntrain: {search: {methods: [linear, mpl]}}", [],
         ["train.search.methods: there is no method 'mpl'; did you mean 'mlp'?"]),
        ("name: x\ntrain: {balance: sampling}", [], ["train.balance: ", "'weights'", "'sampling'"]),
        ("name: x\nextract: {beside: [{backbone: resnet18, layr: fc}]}", [],
         ["unknown key 'extract.beside.0.layr'; did you mean 'layer'?"]),
        ("name: x\nextract: {beside: [{weights: builtin}]}", [], ["the key 'extract.beside.0.backbone' is missing"]),
        ("name: x\ntrian: {}", [], ["'trian'", "'train'"]),
        ("name: x\ningest: {source: {foldr: a}}", [], ["ingest.source", "given: foldr; did you mean 'folder'?"]),
        ("name: x\nregister: {promotes: never}", [], ["'register.promotes'", "'promote'"]),
        ("name: x\ntrain: {method: mlp, epochs: many}", [], ["train.epochs", "'many'", "integer"]),
        ("name: x", ["train.method=mlp", "train.epochs=0"], ["train.epochs", "greater than or equal to 1"]),
        ("name: x", ["train.epochs"], ["section.key=value"]),
        ("name: x", ["name.first=3"], ["'name' is a value"]),
        ("name: x\ningest: {source: {folder: a, archive: b}}", [], ["exactly one of", "folder", "archive"]),
        ("train: {}", [], ["'name' is missing"]),
        ("name: [", [], ["no valid YAML"]),
        ("- a", [], ["keys and values"]),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_file_key_and_remedy(write, text: str, overrides: list[str], told: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_config(write(text), overrides, PipelineConfig)
    assert all(part in str(caught.value) for part in told), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("probe", "told"),
    [
        ("{soruce: {embedded: digits}}", "unknown key 'probes.cifar.soruce'; did you mean 'source'?"),
        ("{split: {vall: 0.1}}", "unknown key 'probes.cifar.split.vall'; did you mean 'val'?"),
        ("{zzz: 1}", "unknown key 'probes.cifar.zzz'; known here: source, "),
    ],
)
def test_a_mistake_below_a_name_is_named(write, probe: str, told: str) -> None:
    path = write(f"name: x\nsource: {{embedded: digits}}\nprobes: {{cifar: {probe}}}")
    with pytest.raises(ConfigurationError) as caught:
        read_config(path, (), PretrainConfig)
    assert told in str(caught.value)


def test_a_probe_may_be_called_like_a_key(write) -> None:
    path = write("name: x\nsource: {embedded: digits}\nprobes: {source: {poool: avg}}")
    with pytest.raises(ConfigurationError, match=r"'probes\.source\.poool'; did you mean 'pool'"):
        read_config(path, (), PretrainConfig)


@pytest.mark.parametrize("value", ["2026-13-45", "2026-01-01 99:00:00", "*/label"])
def test_what_is_no_yaml_in_an_override_is_text(write, value: str) -> None:
    config = read_config(write("name: x"), [f"ingest.source.folder={value}"], PipelineConfig)
    assert config.ingest.source.folder == value


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml"):
        read_config(tmp_path / "nowhere.yaml", (), PipelineConfig)


def test_the_page_of_all_keys_is_the_code_s() -> None:
    page = runpy.run_path(str(CONFIGS.parent / "docs" / "configuration.py"))["page"]()
    assert page == (CONFIGS.parent / "docs" / "configuration.md").read_text()
