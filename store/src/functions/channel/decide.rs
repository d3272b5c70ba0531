//! Carrying out what was decided of a canary.

use serde_json::Value;

use crate::{
    Canary, CanaryDecision, DecidedCanary, Error, Published, Result, Store, Tenant,
    functions::{
        channel::{Channel, canary_weights, channels, set::touch},
        function::find,
        history::{Actor, DEFAULT_CHANNEL, Made, Moved, record},
        published::{active, read},
    },
    sql::{WriteTransaction, to_json},
};

/// Who makes the changes that a canary makes by itself.
const GATEWAY: Actor<'static> = Actor { token: "gateway", origin: "" };

impl Store {
    /// Carries out what was decided after a step of a canary, and records it with its figures.
    /// `None` if the canary is not in that step any more.
    ///
    /// # Errors
    ///
    /// As [`Store::describe`].
    pub async fn decide_canary(
        &self,
        tenant: &Tenant,
        decided: DecidedCanary<'_>,
        decision: CanaryDecision,
        figures: &Value,
        now_ms: i64,
    ) -> Result<Option<Published>> {
        let mut tx = self.main_db().begin().await?;
        let outcome = decide(&mut tx, tenant, decided, decision, figures, now_ms).await;
        match &outcome {
            Ok(Some(_)) => tx.commit().await?,
            _ => tx.rollback().await?,
        }
        outcome
    }
}

async fn decide(
    tx: &mut WriteTransaction,
    tenant: &Tenant,
    decided: DecidedCanary<'_>,
    decision: CanaryDecision,
    figures: &Value,
    now_ms: i64,
) -> Result<Option<Published>> {
    let DecidedCanary { function_id, function, channel, canary } = decided;
    let found = find(&mut **tx, tenant, function).await?;
    if found.is_none_or(|found| found.function.id != function_id) {
        return Ok(None);
    }
    let all = channels(tx, function_id).await?.into_iter();
    let Some(current) = all.into_iter().find(|current| current.name == channel) else {
        return Ok(None);
    };
    if current.canary.as_ref() != Some(canary) {
        return Ok(None);
    }
    let action = decision.action();
    let after = after(&current, canary, decision, now_ms);
    write(tx, function_id, &after).await?;
    let moved = (after.revision != current.revision).then_some(after.revision);
    touch(tx, function_id, moved.filter(|_| channel == DEFAULT_CHANNEL), now_ms).await?;
    let moved = Moved {
        channel,
        before: Some(current.revision),
        after: after.revision,
        detail: Some(figures.to_string()),
    };
    record(tx, function_id, moved, Made { action, actor: GATEWAY, now_ms }).await?;
    let active = active(tx, tenant, function).await?;
    read(tx, active, None).await.map(Some)
}

/// The channel after a decision.
fn after(current: &Channel, canary: &Canary, decision: CanaryDecision, now_ms: i64) -> Channel {
    let mut after = Channel { updated_ms: now_ms, ..current.clone() };
    let next = match decision {
        CanaryDecision::Advance(old) => {
            Some(Canary { step: canary.step + 1, since_ms: now_ms, old, ..canary.clone() })
        }
        CanaryDecision::Promote => {
            after.revision = canary.revision;
            None
        }
        CanaryDecision::RollBack => None,
    };
    after.weights = next.as_ref().map(canary_weights).unwrap_or_default();
    after.canary = next;
    after
}

async fn write(tx: &mut WriteTransaction, function_id: i64, channel: &Channel) -> Result<()> {
    let written = sqlx::query(
        "UPDATE channels SET revision = $1, weights = $2, canary = $3, updated_ms = $4
         WHERE function_id = $5 AND name = $6",
    )
    .bind(channel.revision)
    .bind(to_json(&channel.weights))
    .bind(channel.canary.as_ref().map(to_json))
    .bind(channel.updated_ms)
    .bind(function_id)
    .bind(&channel.name)
    .execute(&mut **tx)
    .await?;
    match written.rows_affected() {
        1 => Ok(()),
        _ => Err(Error::Inconsistent { reason: "a channel that was read is absent".to_owned() }),
    }
}
