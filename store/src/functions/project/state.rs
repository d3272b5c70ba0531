//! What is there of a project, and of what a manifest names besides.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    ActiveFunction, Channel, Error, ProjectItem, Result, Store, Tenant,
    functions::{channel::channels, function::find},
    sql::to_json,
};

/// What is there, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct ProjectState {
    /// Functions with their channels that have a row.
    pub functions: BTreeMap<String, (ActiveFunction, Vec<Channel>)>,
    /// What owners asked for, as JSON, of routes, schedules, queues and flows.
    pub documents: BTreeMap<ProjectItem, String>,
    /// The project of each thing of the tenant that belongs to one.
    pub projects: BTreeMap<ProjectItem, String>,
}

/// Everything of a tenant that belongs to a project.
const PROJECTS: &str = "SELECT 0 AS kind, name, NULL AS channel, project FROM functions
     WHERE tenant = $1 AND project IS NOT NULL
     UNION ALL SELECT 1, f.name, c.name, c.project FROM channels c
     JOIN functions f ON f.id = c.function_id WHERE f.tenant = $1 AND c.project IS NOT NULL
     UNION ALL SELECT 2, name, NULL, project FROM routes
     WHERE tenant = $1 AND project IS NOT NULL
     UNION ALL SELECT 3, name, NULL, project FROM schedules
     WHERE tenant = $1 AND project IS NOT NULL
     UNION ALL SELECT 4, name, NULL, project FROM queues
     WHERE tenant = $1 AND project IS NOT NULL
     UNION ALL SELECT 5, name, NULL, project FROM flows
     WHERE tenant = $1 AND project IS NOT NULL";

/// Documents of a tenant whose names are in the lists, with the numbers of kinds as above.
const DOCUMENTS: &str = "SELECT 2 AS kind, name, NULL AS channel, document FROM routes
     WHERE tenant = $1 AND name IN (SELECT value FROM json_each($2))
     UNION ALL SELECT 3, name, NULL, document FROM schedules
     WHERE tenant = $1 AND name IN (SELECT value FROM json_each($3))
     UNION ALL SELECT 4, name, NULL, document FROM queues
     WHERE tenant = $1 AND name IN (SELECT value FROM json_each($4))
     UNION ALL SELECT 5, name, NULL, document FROM flows
     WHERE tenant = $1 AND name IN (SELECT value FROM json_each($5))";

impl Store {
    /// What is there of the project, and of the things that are named.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn project_state(
        &self,
        tenant: &Tenant,
        project: &str,
        named: &BTreeSet<ProjectItem>,
    ) -> Result<ProjectState> {
        // One transaction: it sees one moment.
        let mut tx = self.main_db().readers().begin().await?;
        let mut state = ProjectState::default();
        for row in sqlx::query(PROJECTS).bind(tenant.as_str()).fetch_all(&mut *tx).await? {
            state.projects.insert(item(&row)?, row.try_get("project")?);
        }
        let own = state.projects.iter().filter(|(_, owner)| *owner == project);
        let wanted: BTreeSet<&ProjectItem> = own.map(|(item, _)| item).chain(named).collect();
        let names = |kind: fn(&ProjectItem) -> Option<&String>| {
            to_json(&wanted.iter().filter_map(|item| kind(item)).collect::<BTreeSet<_>>())
        };
        let documents = sqlx::query(DOCUMENTS)
            .bind(tenant.as_str())
            .bind(names(|item| if let ProjectItem::Route(name) = item { Some(name) } else { None }))
            .bind(names(
                |item| if let ProjectItem::Schedule(name) = item { Some(name) } else { None },
            ))
            .bind(names(|item| if let ProjectItem::Queue(name) = item { Some(name) } else { None }))
            .bind(names(|item| if let ProjectItem::Flow(name) = item { Some(name) } else { None }));
        for row in documents.fetch_all(&mut *tx).await? {
            state.documents.insert(item(&row)?, row.try_get("document")?);
        }
        let functions: BTreeSet<String> = wanted
            .into_iter()
            .filter_map(|item| match item {
                ProjectItem::Function(name) | ProjectItem::Channel(name, _) => Some(name.clone()),
                _ => None,
            })
            .collect();
        for name in functions {
            if let Some(found) = find(&mut *tx, tenant, &name).await? {
                let channels = channels(&mut tx, found.function.id).await?;
                state.functions.insert(name, (found, channels));
            }
        }
        Ok(state)
    }
}

fn item(row: &SqliteRow) -> Result<ProjectItem> {
    let (kind, name): (i64, String) = (row.try_get("kind")?, row.try_get("name")?);
    Ok(match kind {
        0 => ProjectItem::Function(name),
        1 => ProjectItem::Channel(name, row.try_get("channel")?),
        2 => ProjectItem::Route(name),
        3 => ProjectItem::Schedule(name),
        4 => ProjectItem::Queue(name),
        5 => ProjectItem::Flow(name),
        other => return Err(Error::Inconsistent { reason: format!("kind {other} of a project") }),
    })
}
