from pathlib import Path

import pytest

import cellnet_sd
from cellnet_sd.settings import Settings


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("INDEX", "CACHE_DIR", "PROGRESS", "BATCH_BYTES"):
        monkeypatch.delenv(f"CELLNET_SD_{name}", raising=False)
    return Settings()


def test_defaults(settings):
    assert settings.index is True
    assert settings.progress is True
    assert settings.batch_bytes == 64 * 1024 * 1024
    assert settings.cache_dir.is_absolute()
    assert "cellnet_sd" in settings.cache_dir.parts


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("CELLNET_SD_INDEX", "0", "index", False),
        ("CELLNET_SD_INDEX", "True", "index", True),
        ("CELLNET_SD_PROGRESS", "off", "progress", False),
        ("CELLNET_SD_BATCH_BYTES", "1024", "batch_bytes", 1024),
        ("CELLNET_SD_CACHE_DIR", "/somewhere/else", "cache_dir", Path("/somewhere/else")),
    ],
)
def test_environment(monkeypatch, variable, text, name, value):
    monkeypatch.setenv(variable, text)
    assert getattr(Settings(), name) == value


def test_malformed_environment_names_the_variable(monkeypatch):
    monkeypatch.setenv("CELLNET_SD_BATCH_BYTES", "64 MiB")
    with pytest.raises(ValueError, match=r"CELLNET_SD_BATCH_BYTES.*bytes, not '64 MiB'"):
        Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("index", 1),
        ("index", "maybe"),
        ("progress", None),
        ("cache_dir", 3),
        ("cache_dir", ""),
        ("batch_bytes", 0),
        ("batch_bytes", -1),
        ("batch_bytes", 1.5),
        ("batch_bytes", True),
    ],
)
def test_refuses_and_keeps(settings, name, value):
    before = getattr(settings, name)
    with pytest.raises(ValueError, match=rf"The setting {name} \(environment: .*not {value!r}"):
        setattr(settings, name, value)
    assert getattr(settings, name) == before


def test_no_such_setting(settings):
    with pytest.raises(AttributeError, match="no setting 'indexx'; there are index, cache_dir, progress, batch_bytes"):
        settings.indexx = False
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del settings.index


def test_home_is_expanded(settings):
    settings.cache_dir = "~/indexes"
    assert settings.cache_dir == Path.home() / "indexes"


def test_override_restores(settings):
    with settings.override(index=False, batch_bytes=10):
        assert (settings.index, settings.batch_bytes) == (False, 10)
        with settings.override(batch_bytes=20):
            assert settings.batch_bytes == 20
        assert settings.batch_bytes == 10
    assert (settings.index, settings.batch_bytes) == (True, 64 * 2**20)


def test_override_restores_after_errors(settings):
    with pytest.raises(ValueError, match="progress"), settings.override(index=False, progress="perhaps"):
        pytest.fail("the block must not run")
    assert settings.index is True
    with pytest.raises(ZeroDivisionError), settings.override(index=False):
        _ = 1 / 0
    assert settings.index is True


def test_repr_shows_every_setting(settings):
    text = repr(settings)
    assert text.startswith("Settings(\n    index=True,\n    cache_dir=")
    assert "    progress=True,\n    batch_bytes=67108864,\n    engine='auto',\n    n_threads=" in text


@pytest.mark.parametrize("value", ["libhdf5", "", None, 1])
def test_engine_takes_one_of_three_words(settings, value):
    with pytest.raises(ValueError, match=r"engine.*'auto', 'native' or 'h5py'"):
        settings.engine = value


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many"])
def test_n_threads_takes_a_positive_number(settings, value):
    with pytest.raises(ValueError, match=r"n_threads.*a positive whole number of threads"):
        settings.n_threads = value


def test_package_attribute_is_the_object():
    assert isinstance(cellnet_sd.settings, Settings)
