//! The limits of a function, in one table.
//!
//! The operator's `[limits]` and `[ceilings]`, their ranges, the checks of an owner's settings, the
//! API's views and its description, the command line, the hints in problems and a test of
//! `docs/configuration.md` read [`LIMITS`].
//!
//! A new limit touches three places:
//! 1. its row below;
//! 2. the code that enforces it. A field of the pool's `Limits` with the same key gets its value by
//!    itself; other code asks the catalog (`Catalog::limits`);
//! 3. its row in `docs/configuration.md`, and there what happens at the limit.

pub(crate) mod values;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// The unit of a limit. The key ends with it: `_bytes`, `_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Milliseconds,
    /// A plain number.
    Count,
}

/// A limit in the table of limits.
#[derive(Clone, Copy, Debug)]
pub struct LimitRow {
    /// Which one.
    pub limit: FunctionLimit,
    /// Its name in settings, in the API and on the command line.
    pub key: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// The least that the operator may set.
    pub minimum: u64,
    /// The most that the operator may set. Where nothing physical decides, it only catches a slip,
    /// such as a number of bytes in place of milliseconds.
    pub maximum: u64,
    /// The limit of functions whose settings choose none, unless the operator sets another value.
    pub default: u64,
    /// The most that an owner may ask for, unless the operator sets another value.
    pub ceiling: u64,
    /// Whether an owner may ask for 0. Otherwise a 0 is taken for a mistake.
    pub may_be_zero: bool,
    /// One sentence for the reference.
    pub meaning: &'static str,
}

/// Makes [`FunctionLimit`] and [`LIMITS`] of the rows. A row's comment is its meaning.
macro_rules! limits {
    ($(
        #[doc = $meaning:literal]
        $limit:ident = $key:literal in $unit:ident,
        from $minimum:expr, to $maximum:expr,
        default $default:expr, ceiling $ceiling:expr, zero $zero:literal;
    )*) => {
        /// A limit that the owner of a function can ask for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FunctionLimit { $( #[doc = $meaning] $limit, )* }

        /// One row for each limit, in the order of [`FunctionLimit`].
        pub const LIMITS: &[LimitRow] = &[ $( LimitRow {
            limit: FunctionLimit::$limit,
            key: $key,
            unit: Unit::$unit,
            minimum: $minimum,
            maximum: $maximum,
            default: $default,
            ceiling: $ceiling,
            may_be_zero: $zero,
            meaning: $meaning.trim_ascii(),
        }, )* ];

        /// The keys of all limits.
        pub(crate) const KEYS: &[&str] = &[ $( $key, )* ];
    };
}

limits! {
    /// All linear memories of one instance together.
    MemoryBytes = "memory_bytes" in Bytes,
        // From one page of linear memory to all that 32 bits can address.
        from 64 * KIB, to 4 * GIB, default 128 * MIB, ceiling 512 * MIB, zero false;
    /// CPU time of one invocation; waiting for the network does not count.
    CpuMs = "cpu_ms" in Milliseconds,
        from 1, to HOUR_MS, default 1_000, ceiling 30_000, zero false;
    /// Wall-clock time of one invocation: loading the function, and from its slot to the last byte of its response.
    TimeoutMs = "timeout_ms" in Milliseconds,
        from 1, to DAY_MS, default 30_000, ceiling 300_000, zero false;
    /// Invocations of one function that may run at once: its concurrency slots.
    Concurrency = "concurrency" in Count,
        from 1, to 100_000, default 64, ceiling 1_024, zero false;
    /// Invocations that may wait for a slot; 0 refuses at once.
    Queue = "queue" in Count,
        // Ten times the concurrency: a burst waits a moment, a flood is refused.
        from 0, to 1_000_000, default 640, ceiling 10_240, zero true;
    /// How long an invocation may wait in that queue.
    QueueWaitMs = "queue_wait_ms" in Milliseconds,
        from 0, to HOUR_MS, default 1_000, ceiling 10_000, zero true;
    /// Time without a call after which a function leaves memory.
    IdleMs = "idle_ms" in Milliseconds,
        from 1_000, to 365 * DAY_MS, default 300_000, ceiling DAY_MS, zero false;
    /// A response's body.
    ResponseBytes = "response_bytes" in Bytes,
        from 0, to 16 * TIB, default 100 * MIB, ceiling 10 * GIB, zero false;
    /// A request's body.
    RequestBytes = "request_bytes" in Bytes,
        from 0, to 16 * TIB, default 100 * MIB, ceiling 10 * GIB, zero true;
    /// Names and values of a function's environment together.
    EnvironmentBytes = "environment_bytes" in Bytes,
        from 0, to MIB, default 32 * KIB, ceiling 64 * KIB, zero true;
    /// Output of one invocation that is kept.
    LogBytes = "log_bytes" in Bytes,
        from 0, to 64 * MIB, default 64 * KIB, ceiling MIB, zero true;
    /// The scratch directory of one invocation, which counts as its memory; with 0 there is none.
    ScratchBytes = "scratch_bytes" in Bytes,
        from 0, to 4 * GIB, default 0, ceiling 256 * MIB, zero true;
    /// Calls that were enqueued and wait or run; with 0 none can be enqueued.
    Queued = "queued" in Count,
        from 0, to 10_000_000, default 10_000, ceiling 1_000_000, zero true;
    /// Enqueued calls of one function that run at once.
    QueuedConcurrency = "queued_concurrency" in Count,
        from 1, to 10_000, default 8, ceiling 256, zero false;
    /// Attempts of an enqueued call, the first included.
    QueuedAttempts = "queued_attempts" in Count,
        from 1, to 1_000, default 3, ceiling 20, zero false;
    /// Time after which an enqueued call that has not succeeded is given up.
    QueuedAgeMs = "queued_age_ms" in Milliseconds,
        from 1_000, to 365 * DAY_MS, default 6 * HOUR_MS, ceiling 14 * DAY_MS, zero false;
    /// Warm instances that are kept even without calls.
    MinWarm = "min_warm" in Count,
        from 0, to 10_000, default 0, ceiling 16, zero true;
    /// The most warm instances.
    MaxWarm = "max_warm" in Count,
        from 0, to 10_000, default 8, ceiling 64, zero true;
}

impl FunctionLimit {
    /// Its row of the table.
    #[must_use]
    pub const fn row(self) -> &'static LimitRow {
        &LIMITS[self as usize]
    }

    /// Its name in settings, in the API and on the command line.
    #[must_use]
    pub const fn key(self) -> &'static str {
        self.row().key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_finds_its_own_row() {
        for row in LIMITS {
            assert_eq!(row.limit.row().key, row.key);
        }
    }

    #[test]
    fn a_key_ends_with_its_unit() {
        for row in LIMITS {
            let by_key = match row.key {
                key if key.ends_with("_bytes") => Unit::Bytes,
                key if key.ends_with("_ms") => Unit::Milliseconds,
                _ => Unit::Count,
            };
            assert_eq!(row.unit, by_key, "{}", row.key);
        }
    }

    #[test]
    fn a_default_is_within_the_ceiling_and_both_are_within_the_range() {
        for row in LIMITS {
            let LimitRow { minimum, maximum, default, ceiling, .. } = *row;
            assert!(minimum <= default && default <= ceiling && ceiling <= maximum, "{}", row.key);
        }
    }

    #[test]
    fn a_meaning_is_a_sentence() {
        for row in LIMITS {
            let meaning = row.meaning;
            assert!(meaning.starts_with(char::is_uppercase) && meaning.ends_with('.'), "{meaning}");
        }
    }
}
