"""Measures dedupstore against restic, borg, tar and cp on the same data in the same run."""
