//! Projects: everything that a manifest changes, in one transaction.
//!
//! Which project has made a thing is a column of the thing's own row, so that it goes with it.

pub(crate) mod claim;
pub(crate) mod state;

use std::fmt;

use crate::{
    Actor, Digest, DocumentRecord, Error, NewChannel, Published, PutDocument, PutSchedule, Quotas,
    Release, Result, RouteRecord, ScheduleRecord, Settings, Store, Tenant,
    activity::{
        document::{FLOWS, QUEUES},
        schedule,
    },
    functions::{
        channel::set,
        function::find,
        history::{Action, Made},
        project::claim::own_artifact,
        publish::{RevisionRow, insert_function, insert_revision, is_taken, tree_of},
        published::{active, read},
        revision::trim,
        route,
    },
    sql::WriteTransaction,
};

/// Something that can belong to a project, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProjectItem {
    /// A function.
    Function(String),
    /// A channel of the function that is named first.
    Channel(String, String),
    /// A route.
    Route(String),
    /// A schedule.
    Schedule(String),
    /// A named queue.
    Queue(String),
    /// A flow.
    Flow(String),
}

/// The kind and the name.
impl fmt::Display for ProjectItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(name) => write!(f, "function {name:?}"),
            Self::Channel(function, name) => write!(f, "channel {name:?} of {function:?}"),
            Self::Route(name) => write!(f, "route {name:?}"),
            Self::Schedule(name) => write!(f, "schedule {name:?}"),
            Self::Queue(name) => write!(f, "queue {name:?}"),
            Self::Flow(name) => write!(f, "flow {name:?}"),
        }
    }
}

/// The changes of a project: all of them are made, or none.
#[derive(Clone, Debug)]
pub struct ProjectChanges<'a> {
    /// The owner.
    pub tenant: Tenant,
    /// The project.
    pub project: &'a str,
    /// Functions that are made or changed.
    pub functions: Vec<FunctionChanges<'a>>,
    /// Routes that are set.
    pub routes: Vec<PutDocument>,
    /// Schedules that are set.
    pub schedules: Vec<PutSchedule>,
    /// Queues that are set.
    pub queues: Vec<PutDocument>,
    /// Flows that are set.
    pub flows: Vec<PutDocument>,
    /// What is deleted, before anything is made.
    pub deleted: Vec<ProjectItem>,
    /// What belongs to the project from here on, whether it changes or not.
    pub owned: Vec<ProjectItem>,
    /// How much there may be.
    pub quotas: ProjectQuotas,
    /// Who changes it.
    pub actor: Actor<'a>,
    /// The time, in Unix milliseconds.
    pub now_ms: i64,
}

/// The quotas that the store must meet with the changes of a project.
#[derive(Clone, Copy, Debug)]
pub struct ProjectQuotas {
    /// Those of functions.
    pub functions: Quotas,
    /// The number of routes of all tenants.
    pub routes: u64,
    /// The number of schedules of all tenants.
    pub schedules: u64,
    /// The number of queues of all tenants.
    pub queues: u64,
    /// The number of flows of all tenants.
    pub flows: u64,
}

/// The changes of one function.
#[derive(Clone, Debug)]
pub struct FunctionChanges<'a> {
    /// Its name.
    pub name: &'a str,
    /// The version that it must have; `None` if it must not exist.
    pub expected: Option<u64>,
    /// A revision that is published. A function that does not exist needs one.
    pub revision: Option<ProjectRevision>,
    /// A description that replaces its own.
    pub description: Option<&'a str>,
    /// Channels that are set, once the revision is published.
    pub channels: Vec<NewChannel<'a>>,
}

/// A revision that runs an artifact which is stored already.
#[derive(Clone, Debug)]
pub struct ProjectRevision {
    /// The artifact, which the tenant may name.
    pub digest: Digest,
    /// The kind of Wasm binary.
    pub kind: String,
    /// All of its settings.
    pub settings: Settings,
    /// What its publisher says of it.
    pub release: Release,
}

/// What the changes of a project have made.
#[derive(Clone, Debug, Default)]
pub struct AppliedProject {
    /// The functions that were made or changed.
    pub functions: Vec<Published>,
    /// The routes that were set.
    pub routes: Vec<RouteRecord>,
    /// The schedules that were set.
    pub schedules: Vec<ScheduleRecord>,
    /// The queues that were set.
    pub queues: Vec<DocumentRecord>,
    /// The flows that were set.
    pub flows: Vec<DocumentRecord>,
}

/// Why a project was not changed.
#[derive(Debug, thiserror::Error)]
#[error("{}", item.as_ref().map_or_else(|| "the project".to_owned(), ToString::to_string))]
pub struct ProjectError {
    /// What could not be changed, if it was one thing.
    pub item: Option<ProjectItem>,
    /// Why.
    #[source]
    pub error: Error,
}

impl From<Error> for ProjectError {
    fn from(error: Error) -> Self {
        Self { item: None, error }
    }
}

impl Store {
    /// Makes all changes of a project, in one transaction. Nothing is changed if `admit` refuses the
    /// outcome. When this returns, they survive a power cut.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if a function has another version than is expected;
    /// [`Error::NoSuchArtifact`], [`Error::NoSuchTree`], [`Error::VersionTaken`],
    /// [`Error::NoSuchRevision`], [`Error::RangeNotMet`], [`Error::Quota`], that of `admit`;
    /// [`Error::NoSpace`], [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn apply_project<E: From<ProjectError>>(
        &self,
        changes: ProjectChanges<'_>,
        admit: impl FnOnce(&AppliedProject) -> Result<(), E> + Send,
    ) -> Result<AppliedProject, E> {
        let mut tx = self.main_db().begin().await.map_err(ProjectError::from)?;
        let outcome = match apply(&mut tx, changes).await {
            Ok(applied) => admit(&applied).map(|()| applied),
            Err(error) => Err(error.into()),
        };
        let ended = match &outcome {
            Ok(_) => tx.commit().await,
            Err(_) => tx.rollback().await,
        };
        ended.map_err(|error| ProjectError::from(Error::from(error)))?;
        outcome
    }

    /// What [`Self::apply_project`] would make. Changes nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::apply_project`].
    pub async fn planned_project(
        &self,
        changes: ProjectChanges<'_>,
    ) -> Result<AppliedProject, ProjectError> {
        let mut tx = self.main_db().begin().await?;
        let planned = apply(&mut tx, changes).await;
        tx.rollback().await.map_err(Error::from)?;
        planned
    }
}

async fn apply(
    tx: &mut WriteTransaction,
    changes: ProjectChanges<'_>,
) -> Result<AppliedProject, ProjectError> {
    let ProjectChanges {
        tenant, project, functions, deleted, owned, quotas, actor, now_ms, ..
    } = changes;
    let by = |item: ProjectItem| move |error| ProjectError { item: Some(item), error };
    for function in &functions {
        let before = find(&mut **tx, &tenant, function.name).await;
        let item = || ProjectItem::Function(function.name.to_owned());
        let before = before.map_err(by(item()))?;
        if before.map(|before| before.function.version) != function.expected {
            return Err(by(item())(Error::Conflict));
        }
    }
    // First, so that what takes the place of something else needs no room besides.
    for item in deleted {
        let deleted = delete(tx, &tenant, &item, (actor, now_ms)).await;
        deleted.map_err(by(item))?;
    }
    let mut applied = AppliedProject::default();
    for function in functions {
        let made = (actor, now_ms);
        let published = change(tx, &tenant, function, &quotas.functions, made).await?;
        applied.functions.push(published);
    }
    for put in changes.queues {
        let item = ProjectItem::Queue(put.name.clone());
        let set = QUEUES.put_in(tx, put, quotas.queues).await;
        applied.queues.push(set.map_err(by(item))?.0);
    }
    for put in changes.flows {
        let item = ProjectItem::Flow(put.name.clone());
        let set = FLOWS.put_in(tx, put, quotas.flows).await;
        applied.flows.push(set.map_err(by(item))?.0);
    }
    for put in changes.schedules {
        let item = ProjectItem::Schedule(put.name.clone());
        let set = schedule::put(tx, put, quotas.schedules).await;
        applied.schedules.push(set.map_err(by(item))?.0);
    }
    for put in changes.routes {
        let item = ProjectItem::Route(put.name.clone());
        let document = (&*put.name, &*put.document);
        let set = route::put(tx, &tenant, document, quotas.routes, now_ms).await;
        applied.routes.push(set.map_err(by(item))?.0);
    }
    for item in owned {
        let belongs = own(tx, &tenant, &item, project).await;
        belongs.map_err(by(item))?;
    }
    Ok(applied)
}

/// Makes or changes a function.
async fn change(
    tx: &mut WriteTransaction,
    tenant: &Tenant,
    changes: FunctionChanges<'_>,
    quotas: &Quotas,
    (actor, now_ms): (Actor<'_>, i64),
) -> Result<Published, ProjectError> {
    let FunctionChanges { name, revision, description, channels, .. } = changes;
    let of_function =
        |error| ProjectError { item: Some(ProjectItem::Function(name.to_owned())), error };
    let before = find(&mut **tx, tenant, name).await.map_err(of_function)?;
    let created_function = before.is_none();
    let changed = async {
        let was = before.as_ref().map(|before| before.revision.number);
        let id = match &before {
            Some(before) => before.function.id,
            None => insert_function(tx, (tenant, name), (actor.token, now_ms), quotas).await?,
        };
        let (mut added, mut removed) = (None, Vec::new());
        if let Some(ProjectRevision { digest, kind, settings, release }) = &revision {
            if own_artifact(&mut **tx, tenant, digest).await?.is_none() {
                return Err(Error::NoSuchArtifact);
            }
            if is_taken(tx, id, release, digest).await? {
                return Err(Error::VersionTaken);
            }
            let same = before.as_ref().is_some_and(|before| before.revision.digest == *digest);
            let action = if same { Action::Settings } else { Action::Deploy };
            let row = RevisionRow {
                function_id: id,
                digest: *digest,
                kind,
                tree: tree_of(tx, tenant, settings).await?,
                settings,
                release,
                made: Made { action, actor, now_ms },
            };
            added = Some(insert_revision(tx, was, row).await?.0);
            removed = trim(tx, id, quotas).await?;
        }
        if let Some(description) = description {
            describe(tx, id, description, now_ms).await?;
        }
        Ok((id, added, removed))
    };
    let (id, added, removed_revisions) = changed.await.map_err(of_function)?;
    for channel in channels {
        let item = ProjectItem::Channel(name.to_owned(), channel.name.to_owned());
        let set = async {
            let current = active(tx, tenant, name).await?.revision.number;
            set::put(tx, id, current, &channel).await
        };
        set.await.map_err(|error| ProjectError { item: Some(item), error })?;
    }
    let after = active(tx, tenant, name).await.map_err(of_function)?;
    let published = read(tx, after, added).await.map_err(of_function)?;
    Ok(Published { created_function, removed_revisions, ..published })
}

async fn describe(
    tx: &mut WriteTransaction,
    function_id: i64,
    description: &str,
    now_ms: i64,
) -> Result<()> {
    sqlx::query(
        "UPDATE functions SET description = $1, version = version + 1, updated_ms = $2
         WHERE id = $3",
    )
    .bind(description)
    .bind(now_ms)
    .bind(function_id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn delete(
    tx: &mut WriteTransaction,
    tenant: &Tenant,
    item: &ProjectItem,
    made: (Actor<'_>, i64),
) -> Result<()> {
    let (statement, name) = match item {
        ProjectItem::Channel(function, channel) => {
            if let Some(found) = find(&mut **tx, tenant, function).await? {
                set::remove(tx, found.function.id, channel, made).await?;
            }
            return Ok(());
        }
        ProjectItem::Function(name) => {
            ("DELETE FROM functions WHERE tenant = $1 AND name = $2", name)
        }
        ProjectItem::Route(name) => ("DELETE FROM routes WHERE tenant = $1 AND name = $2", name),
        ProjectItem::Schedule(name) => {
            ("DELETE FROM schedules WHERE tenant = $1 AND name = $2", name)
        }
        ProjectItem::Queue(name) => ("DELETE FROM queues WHERE tenant = $1 AND name = $2", name),
        ProjectItem::Flow(name) => ("DELETE FROM flows WHERE tenant = $1 AND name = $2", name),
    };
    sqlx::query(statement).bind(tenant.as_str()).bind(name).execute(&mut **tx).await?;
    Ok(())
}

/// Makes something belong to a project.
async fn own(
    tx: &mut WriteTransaction,
    tenant: &Tenant,
    item: &ProjectItem,
    project: &str,
) -> Result<()> {
    let (statement, name, channel) = match item {
        ProjectItem::Function(name) => {
            ("UPDATE functions SET project = $3 WHERE tenant = $1 AND name = $2", name, None)
        }
        ProjectItem::Channel(function, channel) => (
            "UPDATE channels SET project = $3
             WHERE name = $4 AND function_id =
                 (SELECT id FROM functions WHERE tenant = $1 AND name = $2)",
            function,
            Some(channel),
        ),
        ProjectItem::Route(name) => {
            ("UPDATE routes SET project = $3 WHERE tenant = $1 AND name = $2", name, None)
        }
        ProjectItem::Schedule(name) => {
            ("UPDATE schedules SET project = $3 WHERE tenant = $1 AND name = $2", name, None)
        }
        ProjectItem::Queue(name) => {
            ("UPDATE queues SET project = $3 WHERE tenant = $1 AND name = $2", name, None)
        }
        ProjectItem::Flow(name) => {
            ("UPDATE flows SET project = $3 WHERE tenant = $1 AND name = $2", name, None)
        }
    };
    let update = sqlx::query(statement).bind(tenant.as_str()).bind(name).bind(project);
    let update = match channel {
        Some(channel) => update.bind(channel),
        None => update,
    };
    update.execute(&mut **tx).await?;
    Ok(())
}
