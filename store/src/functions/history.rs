//! The history of a function: which revision it was at, who changed that, when and from where.
//!
//! A change and its row are written in one transaction, so the history has no gap. It keeps the
//! newest [`KEPT`] changes.

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    Error, Result, Store, Tenant,
    sql::{WriteTransaction, json},
};

/// The channel that calls of the function itself reach.
pub const DEFAULT_CHANNEL: &str = "default";

/// Changes that a function's history keeps. Arbitrary, several times the revisions that are kept.
const KEPT: i64 = 1_000;

/// Who makes a change, and from where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actor<'a> {
    /// The id of the token.
    pub token: &'a str,
    /// The address of the client.
    pub origin: &'a str,
}

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An artifact was uploaded.
    Deploy,
    /// The settings were changed.
    Settings,
    /// A revision was named and made the active one.
    Activate,
    /// The revision that was active before was made the active one again.
    Rollback,
    /// A channel was set.
    Channel,
    /// A channel was deleted.
    ChannelDeleted,
    /// The next step of a canary began.
    CanaryStep,
    /// A canary's candidate has replaced the old revision.
    CanaryPromoted,
    /// A canary has ended, and the old revision has stayed.
    CanaryRolledBack,
}

impl Action {
    const ALL: [Self; 9] = [
        Self::Deploy,
        Self::Settings,
        Self::Activate,
        Self::Rollback,
        Self::Channel,
        Self::ChannelDeleted,
        Self::CanaryStep,
        Self::CanaryPromoted,
        Self::CanaryRolledBack,
    ];

    /// Its name in the database and for clients.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Settings => "settings",
            Self::Activate => "activate",
            Self::Rollback => "rollback",
            Self::Channel => "channel",
            Self::ChannelDeleted => "channel-deleted",
            Self::CanaryStep => "canary-step",
            Self::CanaryPromoted => "canary-promoted",
            Self::CanaryRolledBack => "canary-rolled-back",
        }
    }
}

/// One change of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Counts from 1 within its function.
    pub number: u64,
    /// When it was made, in Unix milliseconds.
    pub made_ms: i64,
    /// The id of the token that made it.
    pub token: String,
    /// The address of the client.
    pub origin: String,
    /// Its kind.
    pub action: Action,
    /// The channel that it was about.
    pub channel: String,
    /// The channel's revision before; `None` if the change has made the channel.
    pub before: Option<u32>,
    /// The channel's revision after it.
    pub after: u32,
    /// The other state of the channel, as JSON, where its owner has set that; otherwise `null`.
    pub detail: serde_json::Value,
}

impl Store {
    /// At most `limit` changes of a function, newest first, starting below the number `before`.
    /// Empty when the function does not exist.
    ///
    /// # Errors
    ///
    /// As [`Store::function`].
    pub async fn history(
        &self,
        tenant: &Tenant,
        function: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Change>> {
        sqlx::query(
            "SELECT c.number, c.made_ms, c.made_by, c.made_from, c.action, c.channel, c.before,
                    c.after, c.detail
             FROM functions f JOIN changes c ON c.function_id = f.id
             WHERE f.tenant = $1 AND f.name = $2 AND ($3 IS NULL OR c.number < $3)
             ORDER BY c.number DESC LIMIT $4",
        )
        .bind(tenant.as_str())
        .bind(function)
        .bind(before.map(u64::cast_signed))
        .bind(limit)
        .fetch_all(self.main_db().readers())
        .await?
        .iter()
        .map(read_change)
        .collect()
    }
}

/// How and when a change is made, and by whom.
#[derive(Clone, Copy)]
pub(crate) struct Made<'a> {
    pub(crate) action: Action,
    pub(crate) actor: Actor<'a>,
    pub(crate) now_ms: i64,
}

/// The channel that a change is about, and its revisions before and after.
pub(crate) struct Moved<'a> {
    pub(crate) channel: &'a str,
    pub(crate) before: Option<u32>,
    pub(crate) after: u32,
    pub(crate) detail: Option<String>,
}

impl Moved<'_> {
    /// A move of the default channel.
    pub(crate) fn default(before: Option<u32>, after: u32) -> Self {
        Self { channel: DEFAULT_CHANNEL, before, after, detail: None }
    }
}

/// Adds a change to the history of a function, and removes the oldest if there are too many.
pub(crate) async fn record(
    tx: &mut WriteTransaction,
    function_id: i64,
    moved: Moved<'_>,
    made: Made<'_>,
) -> Result<()> {
    let number: i64 = sqlx::query_scalar(
        "INSERT INTO changes
             (function_id, number, made_ms, made_by, made_from, action, before, after,
              channel, detail)
         SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4, $5, $6, $7, $8, $9
         FROM changes WHERE function_id = $1
         RETURNING number",
    )
    .bind(function_id)
    .bind(made.now_ms)
    .bind(made.actor.token)
    .bind(made.actor.origin)
    .bind(made.action.as_str())
    .bind(moved.before)
    .bind(moved.after)
    .bind(moved.channel)
    .bind(moved.detail.as_deref().unwrap_or("null"))
    .fetch_one(&mut **tx)
    .await?;
    sqlx::query("DELETE FROM changes WHERE function_id = $1 AND number <= $2")
        .bind(function_id)
        .bind(number - KEPT)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn read_change(row: &SqliteRow) -> Result<Change> {
    let action: &str = row.try_get("action")?;
    let number: i64 = row.try_get("number")?;
    Ok(Change {
        number: number.cast_unsigned(),
        made_ms: row.try_get("made_ms")?,
        token: row.try_get("made_by")?,
        origin: row.try_get("made_from")?,
        action: Action::ALL
            .into_iter()
            .find(|known| known.as_str() == action)
            .ok_or_else(|| Error::Inconsistent { reason: format!("column action: {action}") })?,
        channel: row.try_get("channel")?,
        before: row.try_get("before")?,
        after: row.try_get("after")?,
        detail: json(row, "detail")?,
    })
}
