"""What the table of stores names for S3 URLs: the bucket, with retries around it."""

from __future__ import annotations

from dedupstore.storage.base import ObjectStore
from dedupstore.storage.options import NO_OPTIONS, StoreOptions
from dedupstore.storage.past import PastStore
from dedupstore.storage.retry import RetryingStore
from dedupstore.storage.s3 import S3Store, client_for
from dedupstore.storage.s3_location import check_storage_class, parse_location


class S3Backend:
    @classmethod
    def open(cls, location: str, options: StoreOptions = NO_OPTIONS) -> ObjectStore:
        """Sends nothing."""
        place = parse_location(location)
        if options.storage_class:
            check_storage_class(place.url, options.storage_class)
        bucket = S3Store(client_for(place), options)
        store = RetryingStore(bucket)
        if place.past_ns is None:
            return store
        versions = store.versions
        assert versions is not None, "a bucket has versions"
        return PastStore(store, versions, place.past_ns)

    @classmethod
    def create(cls, location: str, options: StoreOptions = NO_OPTIONS) -> ObjectStore:
        """As `open`, and the bucket has to be there: who owns it, and what it costs, is not decided by the way."""
        store = cls.open(location, options)
        next(store.list(""), None)
        return store
