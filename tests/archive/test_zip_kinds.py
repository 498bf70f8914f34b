"""Archives of all kinds; see :mod:`tests.support.zip_kinds`."""

import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.zip_kinds import KINDS, check, make


class KindTests(SynchronousTestCase):
    """Python, unzip, bsdtar and 7-Zip accept each, with equal content."""

    def test_each(self) -> None:
        """Fifty of them."""
        self.assertGreaterEqual(len(KINDS), 50)
        for title, kind in KINDS.items():
            folder = Path(tempfile.mkdtemp(prefix="bw"))
            self.addCleanup(shutil.rmtree, folder)
            try:
                check(kind, *make(folder, kind))
            except AssertionError as wrong:
                self.fail(f"{title}: {wrong}")
