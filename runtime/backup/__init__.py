"""Backup and restore of all that a plant has stored, `docs/decisions/0011-backup.md`."""
