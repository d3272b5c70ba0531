//! What calls wait in: one function's, its deliveries, a named queue, or a flow.

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Error, Result, Tenant, access::tenant::read_tenant};

/// What a call waits in. How many of a lane run at once is bounded, and a full lane does not hold up
/// another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Calls of the function with this id.
    Function(i64),
    /// Deliveries to addresses that the function with this id has named.
    Delivery(i64),
    /// Messages of the named queue with this id.
    Queue(i64),
    /// Runs of the flow with this id.
    Flow(i64),
}

impl Lane {
    /// The text in the database.
    pub(crate) fn to_text(self) -> String {
        match self {
            Self::Function(id) => format!("function/{id}"),
            Self::Delivery(id) => format!("delivery/{id}"),
            Self::Queue(id) => format!("queue/{id}"),
            Self::Flow(id) => format!("flow/{id}"),
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('/')?;
        match kind {
            "function" => Some(Self::Function(rest.parse().ok()?)),
            "delivery" => Some(Self::Delivery(rest.parse().ok()?)),
            "queue" => Some(Self::Queue(rest.parse().ok()?)),
            "flow" => Some(Self::Flow(rest.parse().ok()?)),
            _ => None,
        }
    }

    /// Reads the column `lane`.
    pub(crate) fn read(row: &SqliteRow) -> Result<Self> {
        let text: &str = row.try_get("lane")?;
        Self::from_text(text)
            .ok_or_else(|| Error::Inconsistent { reason: format!("lane {text:?} of a call") })
    }
}

/// How much is in a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneTotals {
    /// The lane.
    pub lane: Lane,
    /// Its owner.
    pub tenant: Tenant,
    /// The name of its function when the lane began; empty for a queue or a flow.
    pub function: String,
    /// The id of its function, 0 for a queue or a flow.
    pub function_id: i64,
    /// Calls that wait.
    pub due: u64,
    /// Calls that run.
    pub running: u64,
    /// Calls that have failed for good.
    pub dead: u64,
    /// Calls that have succeeded or were cancelled, and are kept.
    pub done: u64,
    /// Bytes of those that wait or run.
    pub waiting_bytes: u64,
    /// When the first that waits is due, in Unix milliseconds.
    pub first_due_ms: Option<i64>,
    /// When the oldest that waits was made, in Unix milliseconds, where that is asked for.
    pub oldest_ms: Option<i64>,
}

/// Reads a row of totals.
pub(crate) fn read_totals(row: &SqliteRow) -> Result<LaneTotals> {
    let count = |column| Ok::<_, Error>(row.try_get::<i64, _>(column)?.cast_unsigned());
    Ok(LaneTotals {
        lane: Lane::read(row)?,
        tenant: read_tenant(row)?,
        function: row.try_get("function")?,
        function_id: row.try_get("function_id")?,
        due: count("due")?,
        running: count("running")?,
        dead: count("dead")?,
        done: count("done")?,
        waiting_bytes: count("waiting_bytes")?,
        first_due_ms: row.try_get("first_due_ms")?,
        oldest_ms: row.try_get("oldest_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_read_as_it_was_written() {
        for lane in [Lane::Function(7), Lane::Delivery(7), Lane::Queue(7), Lane::Flow(7)] {
            assert_eq!(Lane::from_text(&lane.to_text()), Some(lane));
        }
        for other in ["", "function", "function/x", "queue/a", "other/1"] {
            assert_eq!(Lane::from_text(other), None, "{other}");
        }
    }
}
