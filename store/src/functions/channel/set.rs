//! Setting and deleting channels.

use serde_json::Value;

use crate::{
    Error, Follow, NewChannel, Published, Quota, Result, Store, Tenant,
    functions::{
        channel::{canary_weights, channels, newest_in},
        function::find,
        history::{Action, Actor, DEFAULT_CHANNEL, Made, Moved, record},
        published::{active, commit, read},
    },
    sql::{WriteTransaction, to_json},
};

impl Store {
    /// Makes a channel what its owner asks for, and creates it if it does not exist. Nothing is
    /// changed if `admit` refuses the outcome. `None` when the function does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRevision`], [`Error::RangeNotMet`], [`Error::Quota`], that of `admit`;
    /// otherwise as [`Store::describe`].
    pub async fn put_channel<E: From<Error>>(
        &self,
        tenant: &Tenant,
        function: &str,
        new: NewChannel<'_>,
        admit: impl FnOnce(&Published) -> Result<(), E> + Send,
    ) -> Result<Option<Published>, E> {
        let mut tx = self.main_db().begin().await?;
        let outcome = match set(&mut tx, tenant, function, &new).await {
            Ok(Some(published)) => admit(&published).map(|()| Some(published)),
            Ok(None) => Ok(None),
            Err(error) => Err(error.into()),
        };
        match &outcome {
            Ok(Some(_)) => tx.commit().await.map_err(Error::from)?,
            _ => tx.rollback().await.map_err(Error::from)?,
        }
        outcome
    }

    /// What [`Self::put_channel`] would make of the function. Changes nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::put_channel`].
    pub async fn planned_channel(
        &self,
        tenant: &Tenant,
        function: &str,
        new: &NewChannel<'_>,
    ) -> Result<Option<Published>> {
        let mut tx = self.main_db().begin().await?;
        let planned = set(&mut tx, tenant, function, new).await;
        tx.rollback().await?;
        planned
    }

    /// Removes a channel. `None` when it has no row. Without a row, `default` stays where it is until
    /// the next publish.
    ///
    /// # Errors
    ///
    /// As [`Store::describe`].
    pub async fn delete_channel(
        &self,
        tenant: &Tenant,
        function: &str,
        channel: &str,
        actor: Actor<'_>,
        now_ms: i64,
    ) -> Result<Option<Published>> {
        let mut tx = self.main_db().begin().await?;
        let found = find(&mut *tx, tenant, function).await?;
        let removed = match found {
            Some(found) => remove(&mut tx, found.function.id, channel, (actor, now_ms)).await?,
            None => false,
        };
        if !removed {
            tx.rollback().await?;
            return Ok(None);
        }
        let active = active(&mut tx, tenant, function).await?;
        Ok(Some(commit(tx, active, None).await?))
    }
}

/// Sets a channel, and returns the state of its function after it.
async fn set(
    tx: &mut WriteTransaction,
    tenant: &Tenant,
    function: &str,
    new: &NewChannel<'_>,
) -> Result<Option<Published>> {
    let Some(before) = find(&mut **tx, tenant, function).await? else { return Ok(None) };
    put(tx, before.function.id, before.revision.number, new).await?;
    let active = active(tx, tenant, function).await?;
    read(tx, active, None).await.map(Some)
}

/// Removes a channel's row, and returns whether there was one.
pub(crate) async fn remove(
    tx: &mut WriteTransaction,
    function_id: i64,
    channel: &str,
    (actor, now_ms): (Actor<'_>, i64),
) -> Result<bool> {
    let revision: Option<u32> = sqlx::query_scalar(
        "DELETE FROM channels WHERE name = $2 AND function_id = $1 RETURNING revision",
    )
    .bind(function_id)
    .bind(channel)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(revision) = revision else { return Ok(false) };
    let made = Made { action: Action::ChannelDeleted, actor, now_ms };
    let moved = Moved { channel, before: Some(revision), after: revision, detail: None };
    record(tx, function_id, moved, made).await?;
    touch(tx, function_id, None, now_ms).await?;
    Ok(true)
}

/// Writes a channel's row, and moves the function if the channel is the default one.
pub(crate) async fn put(
    tx: &mut WriteTransaction,
    function_id: i64,
    active: u32,
    new: &NewChannel<'_>,
) -> Result<()> {
    let mut existing = channels(tx, function_id).await?.into_iter();
    let before = existing.find(|channel| channel.name == new.name);
    if before.is_none() {
        admit(tx, function_id, new).await?;
    }
    let (range, revision) = match &new.follow {
        Follow::Revision(revision) => (None, *revision),
        Follow::Range(range) => {
            let met = newest_in(tx, function_id, range).await?;
            (Some(range.as_str()), met.ok_or(Error::RangeNotMet)?)
        }
    };
    let weights = new.canary.as_ref().map_or_else(|| new.weights.clone(), canary_weights);
    let shadow = new.options.shadow.map(|shadow| shadow.revision);
    let others = weights.iter().map(|weight| weight.revision).chain(shadow);
    for number in others.chain([revision]) {
        check_revision(tx, function_id, number).await?;
    }
    let is_default = new.name == DEFAULT_CHANNEL;
    let was = before.map(|before| before.revision).or(is_default.then_some(active));
    sqlx::query(
        "INSERT INTO channels
             (function_id, name, range, revision, weights, sticky, options, updated_ms, canary)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (function_id, name) DO UPDATE
         SET range = $3, revision = $4, weights = $5, sticky = $6, options = $7, updated_ms = $8,
             canary = $9",
    )
    .bind(function_id)
    .bind(new.name)
    .bind(range)
    .bind(revision)
    .bind(to_json(&weights))
    .bind(to_json(&new.sticky))
    .bind(to_json(&new.options))
    .bind(new.now_ms)
    .bind(new.canary.as_ref().map(to_json))
    .execute(&mut **tx)
    .await?;
    touch(tx, function_id, is_default.then_some(revision), new.now_ms).await?;
    let mut detail = serde_json::json!({ "range": range, "weights": weights, "sticky": new.sticky, "canary": new.canary });
    if let (Value::Object(detail), Value::Object(options)) = (&mut detail, new.options.recorded()) {
        detail.extend(options);
    }
    let moved =
        Moved { channel: new.name, before: was, after: revision, detail: Some(detail.to_string()) };
    let made = Made { action: Action::Channel, actor: new.actor, now_ms: new.now_ms };
    record(tx, function_id, moved, made).await
}

async fn admit(tx: &mut WriteTransaction, function_id: i64, new: &NewChannel<'_>) -> Result<()> {
    let others: u32 = sqlx::query_scalar("SELECT COUNT(*) FROM channels WHERE function_id = $1")
        .bind(function_id)
        .fetch_one(&mut **tx)
        .await?;
    if others >= new.max {
        return Err(Error::Quota { quota: Quota::Channels, max: new.max.into() });
    }
    Ok(())
}

async fn check_revision(tx: &mut WriteTransaction, function_id: i64, number: u32) -> Result<()> {
    let exists: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM revisions WHERE function_id = $1 AND number = $2)",
    )
    .bind(function_id)
    .bind(number)
    .fetch_one(&mut **tx)
    .await?;
    if exists { Ok(()) } else { Err(Error::NoSuchRevision { number }) }
}

/// Counts a change of the function, and makes `active` its active revision.
pub(crate) async fn touch(
    tx: &mut WriteTransaction,
    function_id: i64,
    active: Option<u32>,
    now_ms: i64,
) -> Result<()> {
    sqlx::query(
        "UPDATE functions SET version = version + 1, updated_ms = $1,
                              active_revision = COALESCE($2, active_revision)
         WHERE id = $3",
    )
    .bind(now_ms)
    .bind(active)
    .bind(function_id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
