"""The cases of the store in a folder, on object storage."""

from tests.unit.storage.lance.test_store import (
    test_a_changed_row_replaces_the_old_one_and_keeps_its_place as test_a_changed_row,
)
from tests.unit.storage.lance.test_store import (
    test_a_rebuild_that_fails_again_and_again_adds_no_tables as test_a_rebuild_that_fails,
)
from tests.unit.storage.lance.test_store import (
    test_a_rebuilt_bucket_holds_the_newest_versions_and_none_that_are_deleted as test_a_rebuilt_bucket,
)
from tests.unit.storage.lance.test_store import test_a_row_without_a_vector_is_kept as test_a_row_without_a_vector
from tests.unit.storage.lance.test_store import (
    test_an_older_version_that_comes_late_changes_nothing as test_an_older_version,
)
from tests.unit.storage.lance.test_store import test_candidates_are_of_the_newest_versions as test_candidates
from tests.unit.storage.lance.test_store import test_many_small_writes_are_compacted as test_many_small_writes
from tests.unit.storage.lance.test_store import (
    test_memories_are_found_by_id_in_whatever_scope as test_memories_are_found_by_id,
)
from tests.unit.storage.lance.test_store import test_rows_come_back_whole_and_in_order as test_rows_come_back
from tests.unit.storage.lance.test_store import test_scopes_are_kept_apart as test_scopes
from tests.unit.storage.lance.test_store import (
    test_what_may_exist_is_replaced_not_doubled as test_what_may_exist,
)

__all__ = [
    "test_a_changed_row",
    "test_a_rebuild_that_fails",
    "test_a_rebuilt_bucket",
    "test_a_row_without_a_vector",
    "test_an_older_version",
    "test_candidates",
    "test_many_small_writes",
    "test_memories_are_found_by_id",
    "test_rows_come_back",
    "test_scopes",
    "test_what_may_exist",
]
