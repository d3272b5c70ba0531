//! Going to a revision that exists: any one, or the one that was active before.

use crate::{
    ActiveFunction, Error, Published, Result, Store, Tenant,
    functions::{
        channel::settle_default,
        function::find,
        history::{Action, Actor, Made, Moved, record},
        published::commit,
    },
    sql::WriteTransaction,
};

impl Store {
    /// Makes `revision` the active one. `None` when the function or the revision does not exist.
    ///
    /// # Errors
    ///
    /// As [`Store::describe`].
    pub async fn activate(
        &self,
        tenant: &Tenant,
        function: &str,
        revision: u32,
        actor: Actor<'_>,
        now_ms: i64,
    ) -> Result<Option<Published>> {
        let tx = self.main_db().begin().await?;
        let made = Made { action: Action::Activate, actor, now_ms };
        move_to(tx, tenant, function, revision, made).await
    }

    /// Makes the revision active that was active before the current one. `None` when the function
    /// does not exist. A second roll-back goes back one further; [`Store::activate`] undoes them.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when there is no such revision, or it was removed; otherwise as
    /// [`Store::describe`].
    pub async fn roll_back(
        &self,
        tenant: &Tenant,
        function: &str,
        actor: Actor<'_>,
        now_ms: i64,
    ) -> Result<Option<Published>> {
        let mut tx = self.main_db().begin().await?;
        let Some(active) = find(&mut *tx, tenant, function).await? else {
            tx.rollback().await?;
            return Ok(None);
        };
        let Some(previous) = previous(&mut tx, &active).await? else {
            tx.rollback().await?;
            return Err(Error::Conflict);
        };
        let made = Made { action: Action::Rollback, actor, now_ms };
        move_to(tx, tenant, function, previous, made).await
    }
}

/// The revision that was active before the current one, if it still exists.
async fn previous(tx: &mut WriteTransaction, active: &ActiveFunction) -> Result<Option<u32>> {
    let (id, current) = (active.function.id, active.revision.number);
    // A roll-back does not count as the way by which the current revision became active, so that
    // the next one goes further back and not forward again.
    let recorded: Option<u32> = sqlx::query_scalar(
        "SELECT c.before FROM changes c
         JOIN revisions r ON r.function_id = c.function_id AND r.number = c.before
         WHERE c.function_id = $1 AND c.after = $2 AND c.before <> $2 AND c.action <> 'rollback'
           AND c.channel = 'default'
         ORDER BY c.number DESC LIMIT 1",
    )
    .bind(id)
    .bind(current)
    .fetch_optional(&mut **tx)
    .await?;
    if recorded.is_some() {
        return Ok(recorded);
    }
    // Revisions may be older than the history.
    Ok(sqlx::query_scalar(
        "SELECT MAX(number) FROM revisions WHERE function_id = $1 AND number < $2",
    )
    .bind(id)
    .bind(current)
    .fetch_one(&mut **tx)
    .await?)
}

/// Makes a revision that exists the active one, and commits.
async fn move_to(
    mut tx: WriteTransaction,
    tenant: &Tenant,
    function: &str,
    revision: u32,
    made: Made<'_>,
) -> Result<Option<Published>> {
    let before = find(&mut *tx, tenant, function).await?;
    sqlx::query(
        "UPDATE functions SET active_revision = $1, version = version + 1, updated_ms = $2
         WHERE tenant = $3 AND name = $4
           AND EXISTS (SELECT 1 FROM revisions r WHERE r.function_id = id AND r.number = $1)",
    )
    .bind(revision)
    .bind(made.now_ms)
    .bind(tenant.as_str())
    .bind(function)
    .execute(&mut *tx)
    .await?;
    let after = find(&mut *tx, tenant, function).await?;
    let (Some(before), Some(after)) =
        (before, after.filter(|after| after.revision.number == revision))
    else {
        tx.rollback().await?;
        return Ok(None);
    };
    let id = after.function.id;
    settle_default(&mut tx, id, revision, made.now_ms).await?;
    let moved = Moved::default(Some(before.revision.number), revision);
    record(&mut tx, id, moved, made).await?;
    Ok(Some(commit(tx, after, None).await?))
}
