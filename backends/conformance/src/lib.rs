//! What every backend for stores must do, as tests: `key_value_suite!` makes them for a backend.
//!
//! The suite knows the seam of `runtime-pool` alone. [`history`] checks what several clients have seen of one
//! store at the same time.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "this is a test, which fails by a panic")]

pub mod batches;
pub mod counters;
pub mod entries;
pub mod expiry;
pub mod history;
pub mod linearizable;
pub mod lists;
pub mod quotas;
mod subject;

pub use subject::{MadeBackend, TestClock, TestedBackend};

/// Makes a test of each thing that a backend must do. `$make` is a function from a
/// [`TestClock`] to what it has [`MadeBackend`].
#[macro_export]
macro_rules! key_value_suite {
    ($make:expr) => {
        $crate::key_value_suite! { @ $make;
            entries::any_bytes_come_back_under_any_key,
            entries::large_values_come_back,
            entries::several_entries_come_in_the_order_of_their_keys_up_to_a_size,
            entries::a_write_happens_only_if_what_is_there_is_as_expected,
            entries::versions_grow_over_removals_and_clearings,
            entries::stores_do_not_see_each_other,
            entries::a_deleted_store_answers_nothing,
            expiry::what_has_expired_is_not_there,
            expiry::what_has_expired_is_removed_from_the_usage,
            expiry::what_has_expired_makes_room,
            lists::keys_are_sorted_by_their_bytes_and_stay_in_their_prefix,
            lists::pages_lose_no_key_and_repeat_none_under_concurrent_writes,
            batches::a_batch_is_written_whole,
            batches::a_batch_without_room_changes_nothing,
            quotas::a_quota_is_exact_at_the_byte,
            quotas::a_quota_is_exact_at_the_key,
            quotas::a_smaller_quota_lets_a_store_shrink,
            quotas::usage_agrees_with_a_recount_after_random_writes,
            quotas::a_cleared_store_is_empty,
            counters::a_counter_is_decimal_text,
            counters::what_is_no_counter_is_an_error,
            counters::concurrent_additions_are_all_counted,
            linearizable::what_eight_clients_see_has_an_order,
        }
    };
    (@ $make:expr; $($group:ident::$case:ident,)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $case() {
            $crate::$group::$case($crate::TestedBackend::new($make)).await;
        })*
    };
}
