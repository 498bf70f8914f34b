"""Where twistd looks; the plugin itself is twisted_bulk/plugins/bulkwav.py."""

from twisted_bulk.plugins.bulkwav import bulkwav as bulkwav
