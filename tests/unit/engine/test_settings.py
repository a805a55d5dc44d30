import pytest

from pilotboat.settings import BadSetting, Settings


def test_defaults_need_no_environment() -> None:
    settings = Settings.load({})
    assert settings.work.workers == 16
    assert settings.watch_namespaces == ()
    assert settings.namespace
    assert settings.identity


def test_each_group_and_type_is_read() -> None:
    settings = Settings.load(
        {
            "PILOTBOAT_NAMESPACE": "ops",
            "PILOTBOAT_WATCH_NAMESPACES": "a, b,",
            "PILOTBOAT_IMAGES_SERVER": "reg/server:1",
            "PILOTBOAT_IMAGES_PULL_SECRETS": "one,two",
            "PILOTBOAT_WORK_WORKERS": "4",
            "PILOTBOAT_WORK_RESYNC": "2.5",
            "PILOTBOAT_HUB_ENDPOINT": "",
        }
    )
    assert settings.watch_namespaces == ("a", "b")
    assert settings.images.server == "reg/server:1"
    assert settings.images.pull_secrets == ("one", "two")
    assert (settings.work.workers, settings.work.resync) == (4, 2.5)
    assert settings.hub_endpoint is None
    assert settings.progress_url == "https://pilotboat-progress.ops.svc:8443"


@pytest.mark.parametrize("text", ["many", "0", "-3", "1.5"])
def test_a_bad_number_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadSetting, match="PILOTBOAT_WORK_WORKERS"):
        Settings.load({"PILOTBOAT_WORK_WORKERS": text})


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("name", ["LEASE_DURATION", "LEASE_RENEW", "LEASE_RETRY"])
def test_a_time_that_is_none_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(BadSetting, match=f"PILOTBOAT_{name}='{text}' must be above 0"):
        Settings.load({f"PILOTBOAT_{name}": text})


def test_a_url_of_ones_own() -> None:
    assert Settings.load({"PILOTBOAT_PROGRESS_URL": "https://x/"}).progress_url == "https://x"


@pytest.mark.parametrize(
    "address", ["hub.example.org:8080", "https://me:secret@hub.example.org", "https://hub.example.org/?x=1"]
)
def test_a_hub_that_no_path_can_be_added_to_is_refused_before_anything_starts(address: str) -> None:
    with pytest.raises(BadSetting, match="PILOTBOAT_HUB_ENDPOINT") as told:
        Settings.load({"PILOTBOAT_HUB_ENDPOINT": address})
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("PILOTBOAT_LEASE_RENEW=20", {"RENEW": "20"}),
        ("PILOTBOAT_LEASE_RENEW=10 .*PILOTBOAT_LEASE_DURATION=11", {"DURATION": "11.9"}),
        ("PILOTBOAT_LEASE_RETRY=4 must be below PILOTBOAT_LEASE_RENEW=4", {"RENEW": "4", "RETRY": "4"}),
    ],
)
def test_a_lease_that_two_could_hold_or_none_could_keep_is_refused(name: str, given: dict[str, str]) -> None:
    with pytest.raises(BadSetting, match=name):
        Settings.load({f"PILOTBOAT_LEASE_{field}": text for field, text in given.items()})
