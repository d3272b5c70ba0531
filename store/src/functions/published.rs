//! The state of a function after a change of its revisions or channels.

use crate::{
    ActiveFunction, ChannelTargets, Error, FunctionRecord, Result, Revision, Tenant,
    functions::{channel::targets, function::find, revision::revision_of},
    sql::WriteTransaction,
};

/// A function after a change of its revisions or channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The function.
    pub function: FunctionRecord,
    /// The revision that the change has added; where it added none, the active one.
    pub revision: Revision,
    /// The active revision.
    pub active: Revision,
    /// Its channels that have a row.
    pub channels: Vec<ChannelTargets>,
    /// Whether the function was created with the change.
    pub created_function: bool,
    /// The numbers of older revisions that were removed because of the quota.
    pub removed_revisions: Vec<u32>,
}

/// The function with its active revision, which must exist.
pub(crate) async fn active(
    tx: &mut WriteTransaction,
    tenant: &Tenant,
    function: &str,
) -> Result<ActiveFunction> {
    let absent = || Error::Inconsistent { reason: "a changed function is absent".to_owned() };
    find(&mut **tx, tenant, function).await?.ok_or_else(absent)
}

/// Reads the rest of the state, with the revision `added`, and commits.
pub(crate) async fn commit(
    mut tx: WriteTransaction,
    active: ActiveFunction,
    added: Option<u32>,
) -> Result<Published> {
    let published = read(&mut tx, active, added).await?;
    tx.commit().await?;
    Ok(published)
}

/// Reads the rest of the state, with the revision `added`.
pub(crate) async fn read(
    tx: &mut WriteTransaction,
    active: ActiveFunction,
    added: Option<u32>,
) -> Result<Published> {
    let ActiveFunction { function, revision: active } = active;
    let revision = match added {
        Some(number) if number != active.number => {
            revision_of(&mut **tx, function.id, number).await?
        }
        _ => active.clone(),
    };
    let channels = targets(tx, function.id).await?;
    Ok(Published {
        function,
        revision,
        active,
        channels,
        created_function: false,
        removed_revisions: Vec::new(),
    })
}
