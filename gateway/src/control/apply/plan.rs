//! What a manifest changes: what is wanted, compared with what is there.

use std::collections::{BTreeMap, BTreeSet};

use gateway_api::{PlanChangeView, PlanStepView};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use store::{
    ActiveFunction, Channel, Follow, FunctionChanges, ProjectChanges, ProjectItem, ProjectRevision,
    ProjectState, PutDocument, PutSchedule, Release, Revision, Tenant,
};

use crate::{
    control::{
        apply::{
            places::{kind, name},
            wanted::{Wanted, WantedFunction},
        },
        resources::diff::{differing, is_secret},
        state::ControlState,
    },
    functions::{
        catalog::target::TargetName,
        channels::{AskedChannel, sticky_text},
        deploy::{Deployer, upload::Actor},
    },
};

/// What becomes of one thing.
struct PlannedStep {
    action: &'static str,
    item: ProjectItem,
    /// What it is, and what it is to be.
    from: Value,
    to: Value,
    /// The project that it belongs to, if it is taken over.
    taken_from: Option<Option<String>>,
}

/// The plan of a manifest.
#[derive(Default)]
pub(super) struct ManifestPlan {
    steps: Vec<PlannedStep>,
    functions: Vec<PlannedFunction>,
    routes: Vec<(String, String)>,
    schedules: BTreeSet<String>,
    queues: Vec<(String, String)>,
    flows: Vec<(String, String)>,
    pub(super) deleted: Vec<ProjectItem>,
    owned: Vec<ProjectItem>,
}

/// A function that is made or changed.
pub(super) struct PlannedFunction {
    pub(super) name: String,
    expected: Option<u64>,
    /// Without its kind, which is known once it was tried.
    pub(super) revision: Option<ProjectRevision>,
    description: Option<String>,
    pub(super) channels: Vec<(String, AskedChannel)>,
}

impl ManifestPlan {
    /// Compares what is wanted with what is there.
    pub(super) async fn make(state: &ControlState, wanted: &Wanted) -> store::Result<Self> {
        let named = wanted.named();
        let there = state.store.project_state(&state.tenant, &wanted.project, &named).await?;
        let mut plan = Self::default();
        for (name, function) in &wanted.functions {
            let known = match there.functions.get(name) {
                Some((active, _)) => state.deployer.waiting(active).await?,
                None => None,
            };
            plan.function(name, function, &there, known.as_ref());
        }
        plan.queues = plan.documents(&wanted.queues, ProjectItem::Queue, &there);
        plan.flows = plan.documents(&wanted.flows, ProjectItem::Flow, &there);
        let schedules = plan.documents(&wanted.schedules, ProjectItem::Schedule, &there);
        plan.schedules = schedules.into_iter().map(|(name, _)| name).collect();
        plan.routes = plan.documents(&wanted.routes, ProjectItem::Route, &there);
        plan.take_over(&there, &wanted.project);
        if wanted.prune {
            plan.prune(&there, &named, &wanted.project);
        }
        Ok(plan)
    }

    fn function(
        &mut self,
        name: &str,
        wanted: &WantedFunction,
        there: &ProjectState,
        waiting: Option<&Revision>,
    ) {
        let before = there.functions.get(name);
        let same = |revision: &Revision| {
            revision.digest == wanted.digest
                && revision.settings == wanted.settings
                && wanted.says_nothing_new_of(&revision.release)
        };
        let active = before.map(|(active, _)| &active.revision);
        // A revision that waits for its owner is not made again.
        let current = active.into_iter().chain(waiting).find(|revision| same(revision));
        let from = match (before, current.or(active)) {
            (Some((active, _)), Some(revision)) => function_value(active, revision),
            _ => Value::Null,
        };
        let release = current.map_or(&wanted.release, |current| &current.release);
        let to = wanted_value(wanted, release);
        let revision = current.is_none().then(|| ProjectRevision {
            digest: wanted.digest,
            kind: String::new(),
            settings: wanted.settings.clone(),
            release: wanted.release.clone(),
        });
        let described = before.map_or("", |(active, _)| active.function.description.as_str());
        let description = (described != wanted.description).then(|| wanted.description.clone());
        let mut planned = PlannedFunction {
            name: name.to_owned(),
            expected: before.map(|(active, _)| active.function.version),
            revision,
            description,
            channels: Vec::new(),
        };
        let changes = planned.revision.is_some() || planned.description.is_some();
        self.step(ProjectItem::Function(name.to_owned()), from, to, changes);
        for (channel, asked) in &wanted.channels {
            let mut known = before.into_iter().flat_map(|(_, channels)| channels);
            let known = known.find(|known| known.name == *channel);
            let from = known.map_or(Value::Null, channel_value);
            let to = asked_value(asked);
            let changes = from != to && !known.is_some_and(|known| is_promoted(known, asked));
            if changes {
                planned.channels.push((channel.clone(), asked.clone()));
            }
            self.step(ProjectItem::Channel(name.to_owned(), channel.clone()), from, to, changes);
        }
        if changes || !planned.channels.is_empty() {
            self.functions.push(planned);
        }
    }

    /// Compares documents. Returns those that change.
    fn documents<S: Serialize + DeserializeOwned + PartialEq>(
        &mut self,
        wanted: &BTreeMap<String, S>,
        item: fn(String) -> ProjectItem,
        there: &ProjectState,
    ) -> Vec<(String, String)> {
        let mut changed = Vec::new();
        for (name, spec) in wanted {
            let item = item(name.clone());
            let known = there.documents.get(&item);
            let read: Option<S> = known.and_then(|known| serde_json::from_str(known).ok());
            let from = known.map_or(Value::Null, |known| {
                // With its defaults, as what is wanted has them.
                read.as_ref().map_or_else(
                    || serde_json::from_str(known).unwrap_or_default(),
                    |read| serde_json::to_value(read).unwrap_or_default(),
                )
            });
            let to = serde_json::to_value(spec).unwrap_or_default();
            let changes = read.as_ref() != Some(spec);
            if changes {
                changed.push((name.clone(), to.to_string()));
            }
            self.step(item, from, to, changes);
        }
        changed
    }

    fn step(&mut self, item: ProjectItem, from: Value, to: Value, changes: bool) {
        let action = match (from.is_null(), changes) {
            (true, _) => "create",
            (false, true) => "change",
            (false, false) => "keep",
        };
        self.steps.push(PlannedStep { action, item, from, to, taken_from: None });
    }

    /// What is named belongs to the project.
    fn take_over(&mut self, there: &ProjectState, project: &str) {
        for step in &mut self.steps {
            let owner = there.projects.get(&step.item);
            if owner.is_some_and(|owner| owner == project) {
                continue;
            }
            self.owned.push(step.item.clone());
            if step.action != "create" {
                step.action = "change";
                step.taken_from = Some(owner.cloned());
            }
        }
    }

    /// What belongs to the project, and is not named, goes.
    fn prune(&mut self, there: &ProjectState, named: &BTreeSet<ProjectItem>, project: &str) {
        let own = there.projects.iter().filter(|(_, owner)| *owner == project);
        let gone: Vec<&ProjectItem> =
            own.map(|(item, _)| item).filter(|item| !named.contains(item)).collect();
        for item in &gone {
            if let ProjectItem::Channel(function, _) = item {
                if gone.contains(&&ProjectItem::Function(function.clone())) {
                    continue;
                }
                self.touch(function, there);
            }
            self.deleted.push((*item).clone());
            let (from, to) = (json!({}), Value::Null);
            let item = (*item).clone();
            self.steps.push(PlannedStep { action: "delete", item, from, to, taken_from: None });
        }
    }

    /// Has a function shown again that loses a channel.
    fn touch(&mut self, name: &str, there: &ProjectState) {
        if self.functions.iter().any(|planned| planned.name == name) {
            return;
        }
        let expected = there.functions.get(name).map(|(active, _)| active.function.version);
        self.functions.push(PlannedFunction {
            name: name.to_owned(),
            expected,
            revision: None,
            description: None,
            channels: Vec::new(),
        });
    }

    /// Whether nothing changes.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| step.action == "keep")
    }

    /// Names the plan together with the state that it was made from.
    pub(super) fn tag(&self) -> String {
        let mut hasher = Sha256::new();
        for PlannedStep { action, item, from, to, taken_from } in &self.steps {
            let parts = json!([action, kind(item), name(item), from, to, taken_from]).to_string();
            // With its length, so that no two lists of steps have the same bytes.
            hasher.update((parts.len() as u64).to_le_bytes());
            hasher.update(parts);
        }
        hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The steps, with the numbers of the revisions that were made. Values of environments are not shown.
    pub(super) fn shown(
        &self,
        project: &str,
        revisions: &BTreeMap<String, u32>,
    ) -> Vec<PlanStepView> {
        let shown = |step: &PlannedStep| {
            let made = match &step.item {
                ProjectItem::Function(name) => revisions.get(name).copied(),
                _ => None,
            };
            let changes = if step.action == "change" { step.changes(project) } else { Vec::new() };
            PlanStepView {
                action: step.action.to_owned(),
                kind: kind(&step.item).to_owned(),
                name: name(&step.item),
                changes,
                revision: made,
            }
        };
        self.steps.iter().map(shown).collect()
    }

    /// The functions that are made or changed.
    pub(super) fn functions(&self) -> &[PlannedFunction] {
        &self.functions
    }

    /// The schedules that are set.
    pub(super) fn schedules(&self) -> &BTreeSet<String> {
        &self.schedules
    }

    /// The names of what is deleted of one kind.
    pub(super) fn deleted(&self, of: fn(&ProjectItem) -> Option<&String>) -> BTreeSet<String> {
        self.deleted.iter().filter_map(of).cloned().collect()
    }

    /// The functions and channels that go.
    pub(super) fn removed_targets(&self) -> Vec<TargetName> {
        let targets = self.deleted.iter().filter_map(|item| match item {
            ProjectItem::Function(name) => Some((name.clone(), None)),
            ProjectItem::Channel(function, channel) => {
                Some((function.clone(), Some(channel.clone())))
            }
            _ => None,
        });
        targets.collect()
    }

    /// The changes for the store. `kinds` has the kind of each revision that was tried, by the function.
    pub(super) fn changes<'a>(
        &'a self,
        (tenant, project): (&Tenant, &'a str),
        (deployer, actor): (&Deployer, &'a Actor),
        schedules: Vec<PutSchedule>,
        (kinds, now_ms): (&BTreeMap<String, String>, i64),
    ) -> ProjectChanges<'a> {
        let function = |planned: &'a PlannedFunction| FunctionChanges {
            name: &planned.name,
            expected: planned.expected,
            revision: planned.revision.clone().map(|revision| ProjectRevision {
                kind: kinds.get(&planned.name).cloned().unwrap_or_default(),
                ..revision
            }),
            description: planned.description.as_deref(),
            channels: planned
                .channels
                .iter()
                .map(|(name, asked)| deployer.new_channel(actor, name, asked.clone()))
                .collect(),
        };
        let documents = |documents: &[(String, String)]| {
            let put = |(name, document): &(String, String)| {
                let (tenant, name, document) = (tenant.clone(), name.clone(), document.clone());
                PutDocument { tenant, name, document, now_ms }
            };
            documents.iter().map(put).collect()
        };
        ProjectChanges {
            tenant: tenant.clone(),
            project,
            functions: self.functions.iter().map(function).collect(),
            routes: documents(&self.routes),
            schedules,
            queues: documents(&self.queues),
            flows: documents(&self.flows),
            deleted: self.deleted.clone(),
            owned: self.owned.clone(),
            quotas: deployer.project_quotas(),
            actor: actor.recorded(),
            now_ms,
        }
    }
}

impl PlannedStep {
    fn changes(&self, project: &str) -> Vec<PlanChangeView> {
        let secret = |path: &str| path.strip_prefix("settings.").is_some_and(is_secret);
        let differing = differing(self.from.clone(), self.to.clone(), secret).into_iter();
        let mut changes: Vec<_> =
            differing.map(|(path, from, to)| PlanChangeView { path, from, to }).collect();
        if let Some(owner) = &self.taken_from {
            let from = owner.clone().map(Value::from);
            let (path, to) = ("project".to_owned(), Some(project.into()));
            changes.push(PlanChangeView { path, from, to });
        }
        changes
    }
}

fn function_value(active: &ActiveFunction, revision: &Revision) -> Value {
    json!({
        "artifact": revision.digest,
        "description": active.function.description,
        "version": revision.release.semver,
        "labels": revision.release.labels,
        "settings": revision.settings,
    })
}

fn wanted_value(wanted: &WantedFunction, release: &Release) -> Value {
    json!({
        "artifact": wanted.digest,
        "description": wanted.description,
        "version": release.semver,
        "labels": release.labels,
        "settings": wanted.settings,
    })
}

fn channel_value(channel: &Channel) -> Value {
    let canary = channel.canary.as_ref();
    // A canary decides the weights.
    let weights = if canary.is_some() { &[][..] } else { &channel.weights };
    json!({
        "revision": channel.range.is_none().then_some(channel.revision),
        "range": channel.range,
        "weights": weights,
        "sticky": sticky_text(&channel.sticky),
        "settings": channel.options.settings,
        "tester_header": channel.options.tester_header,
        "shadow": channel.options.shadow,
        "canary": canary.map(|it| json!([it.revision, it.steps, it.requests])),
    })
}

fn asked_value(asked: &AskedChannel) -> Value {
    let (revision, range) = match &asked.follow {
        Follow::Revision(revision) => (Some(revision), None),
        Follow::Range(range) => (None, Some(range)),
    };
    let canary = asked.canary.as_ref();
    json!({
        "revision": revision,
        "range": range,
        "weights": asked.weights,
        "sticky": sticky_text(&asked.sticky),
        "settings": asked.options.settings,
        "tester_header": asked.options.tester_header,
        "shadow": asked.options.shadow,
        "canary": canary.map(|it| json!([it.revision, it.steps, it.requests])),
    })
}

/// Whether the candidate of a canary that is asked for has won already: it does not run again.
fn is_promoted(known: &Channel, asked: &AskedChannel) -> bool {
    let Some(canary) = &asked.canary else { return false };
    known.canary.is_none()
        && known.range.is_none()
        && known.revision == canary.revision
        && known.weights.is_empty()
        && known.options == asked.options
        && known.sticky == asked.sticky
}
