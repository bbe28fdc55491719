"""What the reloader looks at."""

import os

from windlass.runtime import reload


def test_it_sees_the_project_and_its_changes(tmp_path, monkeypatch):
    class App:
        path = str(tmp_path)

    class Installed:
        path = "/venv/lib/site-packages/somebody"

    monkeypatch.setattr(reload.apps, "get_app_configs", lambda: [App, Installed])
    module = tmp_path / "deep" / "tasks.py"
    module.parent.mkdir()
    module.write_text("")
    seen = reload.snapshot()
    assert module in seen
    assert reload._difference(seen) is None

    os.utime(module, (1, 1))
    assert reload._difference(seen) == module

    seen = reload.snapshot()
    module.unlink()
    assert reload._difference(seen) == module

    seen = reload.snapshot()
    new = tmp_path / "new.py"
    new.write_text("")
    assert reload._difference(seen) == new


def test_a_file_that_goes_away_while_it_looks_is_no_error(tmp_path, monkeypatch):
    class App:
        path = str(tmp_path)

    monkeypatch.setattr(reload.apps, "get_app_configs", lambda: [App])
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nothing")

    assert tmp_path / "dangling.py" not in reload.snapshot()
