//! Calls that wait to be made, and what became of them: the durable queue below asynchronous calls,
//! schedules, named queues and flows.
//!
//! A call is enqueued once, and is acknowledged when it would survive a power cut. It is claimed for a
//! time (its lease), run, and finished; if the process dies in between, it is claimed again, under the
//! same id. So a call runs at least once, and the id tells the runs of one call from another call.
//!
//! The queue has a database file of its own, so that its writes and those of deploys do not wait for
//! each other. The writes of many callers share transactions.

pub(crate) mod claim;
pub(crate) mod enqueue;
pub(crate) mod finish;
pub(crate) mod kept;
pub(crate) mod lane;

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Error, Result, Tenant, access::tenant::read_tenant, activity::invocation::lane::Lane};

/// What a row takes in the file besides what its owner has sent, roughly: columns, indexes, pages.
const ROW_BYTES: usize = 512;

/// The cause of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A request that asked for an answer later.
    Http,
    /// A schedule.
    Schedule,
    /// A message in a named queue.
    Queue,
    /// A run of a flow.
    Flow,
    /// The end of another call.
    Callback,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 5] =
        [Self::Http, Self::Schedule, Self::Queue, Self::Flow, Self::Callback];

    /// The name, as the database and the API have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Schedule => "schedule",
            Self::Queue => "queue",
            Self::Flow => "flow",
            Self::Callback => "callback",
        }
    }
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallState {
    /// It waits until it is due, or for a free slot.
    Due,
    /// It runs.
    Running,
    /// It has its answer.
    Succeeded,
    /// It has failed for good, and waits for its owner.
    Dead,
    /// It was cancelled before it ran.
    Cancelled,
}

impl CallState {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Due, Self::Running, Self::Succeeded, Self::Dead, Self::Cancelled];

    /// The name, as the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// The number in the database.
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Due => 0,
            Self::Running => 1,
            Self::Succeeded => 2,
            Self::Dead => 3,
            Self::Cancelled => 4,
        }
    }

    pub(crate) fn from_number(number: i64) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|state| state.number() == number);
        found.ok_or_else(|| Error::Inconsistent { reason: format!("state {number} of a call") })
    }
}

/// Header fields, in order. A name has no colon, and neither part a line break.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredFields(pub Vec<(String, Vec<u8>)>);

impl StoredFields {
    /// One field in a line. StoredFields that would not be read back are left out.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in &self.0 {
            if name.contains([':', '\n']) || value.contains(&b'\n') {
                continue;
            }
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(b':');
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let fields = lines.filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = std::str::from_utf8(&line[..colon]).ok()?;
            Some((name.to_owned(), line[colon + 1..].to_vec()))
        });
        Self(fields.collect())
    }
}

/// What a call sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRequest {
    /// The method.
    pub method: String,
    /// The path and the query, as the function sees them; for a delivery its whole address.
    pub target: String,
    /// The header fields.
    pub fields: StoredFields,
    /// The body.
    pub body: Vec<u8>,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The status.
    pub status: u16,
    /// The header fields.
    pub fields: StoredFields,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// Whether the body was longer.
    pub cut: bool,
}

/// A name that a client has given to a call, so that it can send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dedup {
    /// The same for each repetition, and different for each other call of the lane.
    pub key: [u8; 32],
    /// A hash of all else that the client sent: tells a repetition from another call of the same name.
    pub fingerprint: [u8; 32],
}

/// A call to be enqueued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInvocation {
    /// Unguessable and unique. The function sees it as its idempotency key.
    pub id: String,
    /// The owner.
    pub tenant: Tenant,
    /// What it waits in.
    pub lane: Lane,
    /// The name of the function; empty for a message or a run.
    pub function: String,
    /// The id of the function, 0 for a message or a run. A function of the same name that comes later has another
    /// id, and does not get the call.
    pub function_id: i64,
    /// The channel that it goes to, unless that is the default one.
    pub channel: Option<String>,
    /// The revision that it goes to, if it goes to no channel.
    pub revision: Option<u32>,
    /// What caused it.
    pub cause: Cause,
    /// The name of the route, schedule, queue or flow that it came through, or the id of the call that it tells
    /// about.
    pub source: Option<String>,
    /// What the gateway must know of the caller when it makes the call. The store does not read it.
    pub context: String,
    /// What is sent.
    pub request: StoredRequest,
    /// When it was made, in Unix milliseconds.
    pub created_ms: i64,
    /// When it may run.
    pub due_ms: i64,
    /// When it is given up.
    pub expires_ms: i64,
    /// What its client has named it.
    pub dedup: Option<Dedup>,
}

impl NewInvocation {
    /// What it counts for.
    fn bytes(&self, fields: &[u8]) -> i64 {
        let StoredRequest { method, target, body, .. } = &self.request;
        let bytes = fields.len() + method.len() + target.len() + body.len() + self.context.len();
        i64::try_from(bytes + ROW_BYTES).unwrap_or(i64::MAX)
    }
}

/// A stored call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Grows with every call and is never used again, so that it serves as a cursor.
    pub seq: i64,
    /// Unguessable and unique.
    pub id: String,
    /// The owner.
    pub tenant: Tenant,
    /// What it waits in.
    pub lane: Lane,
    /// The name of the function; empty for a message or a run.
    pub function: String,
    /// The id of the function, 0 for a message or a run.
    pub function_id: i64,
    /// The channel that it goes to, unless that is the default one.
    pub channel: Option<String>,
    /// The revision that it goes to, if it goes to no channel.
    pub revision: Option<u32>,
    /// What caused it.
    pub cause: Cause,
    /// The name of the route, schedule, queue or flow that it came through, or the id of the call that it tells
    /// about.
    pub source: Option<String>,
    /// What the gateway must know of the caller.
    pub context: String,
    /// What is sent. A call that has succeeded keeps no body.
    pub request: StoredRequest,
    /// How far it is.
    pub state: CallState,
    /// How many attempts have begun.
    pub attempt: u32,
    /// When it was made, in Unix milliseconds.
    pub created_ms: i64,
    /// When it may run.
    pub due_ms: i64,
    /// When it is given up.
    pub expires_ms: i64,
    /// When it got its last state, if that is its last.
    pub finished_ms: Option<i64>,
    /// Why the last attempt has failed.
    pub last_error: Option<String>,
    /// The answer to the last attempt that had one.
    pub answer: Option<StoredAnswer>,
}

/// Reads the columns of a call.
fn read_invocation(row: &SqliteRow) -> Result<Invocation> {
    let status: Option<u16> = row.try_get("answer_status")?;
    let answer = match status {
        None => None,
        Some(status) => Some(StoredAnswer {
            status,
            fields: StoredFields::from_bytes(
                row.try_get::<Option<&[u8]>, _>("answer_fields")?.unwrap_or_default(),
            ),
            body: row.try_get::<Option<Vec<u8>>, _>("answer_body")?.unwrap_or_default(),
            cut: row.try_get("answer_cut")?,
        }),
    };
    let request = StoredRequest {
        method: row.try_get("method")?,
        target: row.try_get("target")?,
        fields: StoredFields::from_bytes(row.try_get("fields")?),
        body: row.try_get("body")?,
    };
    Ok(Invocation {
        seq: row.try_get("seq")?,
        id: row.try_get("id")?,
        tenant: read_tenant(row)?,
        lane: Lane::read(row)?,
        function: row.try_get("function")?,
        function_id: row.try_get("function_id")?,
        channel: row.try_get("channel")?,
        revision: row.try_get("revision")?,
        cause: read_cause(row)?,
        source: row.try_get("source")?,
        context: row.try_get("context")?,
        request,
        state: read_state(row)?,
        attempt: row.try_get("attempt")?,
        created_ms: row.try_get("created_ms")?,
        due_ms: row.try_get("due_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        finished_ms: row.try_get("finished_ms")?,
        last_error: row.try_get("last_error")?,
        answer,
    })
}

fn read_cause(row: &SqliteRow) -> Result<Cause> {
    let text: &str = row.try_get("cause")?;
    let found = Cause::ALL.into_iter().find(|cause| cause.as_str() == text);
    found.ok_or_else(|| Error::Inconsistent { reason: format!("cause {text:?} of a call") })
}

fn read_state(row: &SqliteRow) -> Result<CallState> {
    CallState::from_number(row.try_get("state")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_they_were_written() {
        let fields = StoredFields(vec![
            ("accept".to_owned(), b"text/html, */*".to_vec()),
            ("x".to_owned(), b"a:b: c".to_vec()),
            ("x".to_owned(), vec![0xff, b' ', 0xe9]),
            ("empty".to_owned(), Vec::new()),
        ]);

        assert_eq!(StoredFields::from_bytes(&fields.to_bytes()), fields);
        assert_eq!(StoredFields::from_bytes(b""), StoredFields::default());
    }

    #[test]
    fn a_field_cannot_become_two() {
        let fields = StoredFields(vec![("a".to_owned(), b"1\nb:2".to_vec())]);

        assert_eq!(StoredFields::from_bytes(&fields.to_bytes()), StoredFields::default());
    }
}
