//! Channels: named pointers to revisions of a function.

pub(crate) mod canary;
pub(crate) mod decide;
pub(crate) mod options;
pub(crate) mod set;

use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    Canary, ChannelOptions, Error, Result, Revision, Store, Tenant,
    functions::{
        history::{Actor, DEFAULT_CHANNEL, Made, Moved, record},
        revision::revision_of,
    },
    sql::{WriteTransaction, json},
};

/// A channel of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Unique within its function.
    pub name: String,
    /// The range of versions that it follows; `None` if only its owner moves it.
    pub range: Option<String>,
    /// The revision that gets the requests that the weights leave over.
    pub revision: u32,
    /// The shares of other revisions. Together at most 100 percent.
    pub weights: Vec<Weight>,
    /// By what a caller stays with a revision.
    pub sticky: Sticky,
    /// What it has besides its revisions.
    pub options: ChannelOptions,
    /// The canary that runs in it.
    pub canary: Option<Canary>,
    /// When it was last changed, in Unix milliseconds.
    pub updated_ms: i64,
}

/// The share of a revision in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// The number of the revision.
    pub revision: u32,
    /// From 1 to 100.
    pub percent: u8,
}

/// By what a caller stays with a revision while the weights stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sticky {
    /// By nothing: each request is drawn anew.
    #[default]
    None,
    /// By its address.
    Client,
    /// By the value of this header field.
    Header(String),
    /// By the value of this cookie.
    Cookie(String),
}

/// Where a channel points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follow {
    /// To this revision, until its owner moves it.
    Revision(u32),
    /// To the newest version in this range.
    Range(String),
}

/// What an owner asks a channel to be.
#[derive(Clone, Debug)]
pub struct NewChannel<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it points.
    pub follow: Follow,
    /// The shares of other revisions.
    pub weights: Vec<Weight>,
    /// By what a caller stays with a revision.
    pub sticky: Sticky,
    /// What it has besides its revisions.
    pub options: ChannelOptions,
    /// A canary to begin, in its first step. It decides the shares.
    pub canary: Option<Canary>,
    /// The channels that the function may have.
    pub max: u32,
    /// Who asks.
    pub actor: Actor<'a>,
    /// When, in Unix milliseconds.
    pub now_ms: i64,
}

/// A channel with the revisions that it points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelTargets {
    /// The channel.
    pub channel: Channel,
    /// Its revision, those with weights in their order, and that of the shadow.
    pub revisions: Vec<Revision>,
}

impl Store {
    /// The channels of a function that have a row, by name. Empty when the function does not exist.
    ///
    /// # Errors
    ///
    /// As [`Store::function`].
    pub async fn channels(&self, tenant: &Tenant, function: &str) -> Result<Vec<Channel>> {
        sqlx::query(
            "SELECT c.name, c.range, c.revision, c.weights, c.sticky, c.options, c.canary,
                    c.updated_ms
             FROM functions f JOIN channels c ON c.function_id = f.id
             WHERE f.tenant = $1 AND f.name = $2 ORDER BY c.name",
        )
        .bind(tenant.as_str())
        .bind(function)
        .fetch_all(self.main_db().readers())
        .await?
        .iter()
        .map(read_channel)
        .collect()
    }

    /// The ids of all functions that have channels of their own, for the start.
    ///
    /// # Errors
    ///
    /// As [`Store::function`].
    pub async fn functions_with_channels(&self) -> Result<Vec<i64>> {
        let ids = sqlx::query_scalar("SELECT DISTINCT function_id FROM channels");
        Ok(ids.fetch_all(self.main_db().readers()).await?)
    }

    /// The channels of a function with their revisions.
    ///
    /// # Errors
    ///
    /// As [`Store::function`].
    pub async fn channel_targets(&self, function_id: i64) -> Result<Vec<ChannelTargets>> {
        let mut db = self.main_db().readers().acquire().await?;
        targets(&mut db, function_id).await
    }
}

/// The share that a canary gives its candidate.
pub(crate) fn canary_weights(canary: &Canary) -> Vec<Weight> {
    vec![Weight { revision: canary.revision, percent: canary.percent() }]
}

/// Moves the channels whose range takes a version that was just published. Returns the revision of the
/// default channel, if that has a row: a publish moves it only within its range.
pub(crate) async fn follow(
    tx: &mut WriteTransaction,
    function_id: i64,
    made: Made<'_>,
) -> Result<Option<u32>> {
    let mut default = None;
    for channel in channels(tx, function_id).await? {
        let mut revision = channel.revision;
        if let Some(range) = &channel.range
            && let Some(newest) = newest_in(tx, function_id, range).await?
            && newest != revision
        {
            revision = newest;
            sqlx::query(
                "UPDATE channels SET revision = $1, updated_ms = $2
                 WHERE function_id = $3 AND name = $4",
            )
            .bind(revision)
            .bind(made.now_ms)
            .bind(function_id)
            .bind(&channel.name)
            .execute(&mut **tx)
            .await?;
            // The move of the default channel is recorded with the publish itself.
            if channel.name != DEFAULT_CHANNEL {
                let before = Some(channel.revision);
                let moved = Moved { channel: &channel.name, before, after: revision, detail: None };
                record(tx, function_id, moved, made).await?;
            }
        }
        if channel.name == DEFAULT_CHANNEL {
            default = Some(revision);
        }
    }
    Ok(default)
}

/// Sends the whole default channel to a revision: its owner has named that, or rolls back.
pub(crate) async fn settle_default(
    tx: &mut WriteTransaction,
    function_id: i64,
    revision: u32,
    now_ms: i64,
) -> Result<()> {
    sqlx::query(
        "UPDATE channels SET revision = $1, weights = '[]', canary = NULL, updated_ms = $2
         WHERE function_id = $3 AND name = $4",
    )
    .bind(revision)
    .bind(now_ms)
    .bind(function_id)
    .bind(DEFAULT_CHANNEL)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The revision with the newest version in a range; of several, the newest revision.
pub(crate) async fn newest_in(
    tx: &mut WriteTransaction,
    function_id: i64,
    range: &str,
) -> Result<Option<u32>> {
    let inconsistent = |what: &str| Error::Inconsistent { reason: format!("{what} is not valid") };
    let range = VersionReq::parse(range).map_err(|_| inconsistent("the range of a channel"))?;
    let rows = sqlx::query(
        "SELECT number, semver FROM revisions WHERE function_id = $1 AND semver IS NOT NULL",
    )
    .bind(function_id)
    .fetch_all(&mut **tx)
    .await?;
    let mut newest: Option<(Version, u32)> = None;
    for row in rows {
        let version = Version::parse(row.try_get("semver")?)
            .map_err(|_| inconsistent("the version of a revision"))?;
        let found = (version, row.try_get("number")?);
        if range.matches(&found.0) && newest.as_ref().is_none_or(|newest| *newest < found) {
            newest = Some(found);
        }
    }
    Ok(newest.map(|(_, number)| number))
}

/// The channels of a function, by name.
pub(crate) async fn channels(
    db: &mut sqlx::SqliteConnection,
    function_id: i64,
) -> Result<Vec<Channel>> {
    sqlx::query(
        "SELECT name, range, revision, weights, sticky, options, canary, updated_ms
         FROM channels WHERE function_id = $1 ORDER BY name",
    )
    .bind(function_id)
    .fetch_all(db)
    .await?
    .iter()
    .map(read_channel)
    .collect()
}

/// The channels of a function with their revisions.
pub(crate) async fn targets(
    db: &mut sqlx::SqliteConnection,
    function_id: i64,
) -> Result<Vec<ChannelTargets>> {
    let mut found = Vec::new();
    for channel in channels(&mut *db, function_id).await? {
        let mut revisions = Vec::new();
        let weighted = channel.weights.iter().map(|weight| weight.revision);
        let shadow = channel.options.shadow.map(|shadow| shadow.revision);
        for number in [channel.revision].into_iter().chain(weighted).chain(shadow) {
            revisions.push(revision_of(&mut *db, function_id, number).await?);
        }
        found.push(ChannelTargets { channel, revisions });
    }
    Ok(found)
}

fn canary(row: &SqliteRow) -> Result<Option<Canary>> {
    let text: Option<&str> = row.try_get("canary")?;
    text.map(|_| json(row, "canary")).transpose()
}

fn read_channel(row: &SqliteRow) -> Result<Channel> {
    Ok(Channel {
        name: row.try_get("name")?,
        range: row.try_get("range")?,
        revision: row.try_get("revision")?,
        weights: json(row, "weights")?,
        sticky: json(row, "sticky")?,
        options: json(row, "options")?,
        canary: canary(row)?,
        updated_ms: row.try_get("updated_ms")?,
    })
}
