//! `/v1/apply`: makes all that a project has what its manifest says, or changes nothing.
//!
//! A plan is made of the manifest and of what is there; what is new is compiled and tried; then the plan is
//! made again while nothing else can change, and, if it is still the same, stored in one transaction and
//! shown to calls: functions first, then what calls them, then all routes at once, and what is deleted goes
//! last. So no request meets a route that leads to nothing.

mod places;
mod plan;
mod turns;
mod wanted;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{Extension, Json, extract::State};
use gateway_api::{Manifest, MistakeView, PlanView};
use store::{AppliedProject, ProjectError, ProjectItem};

use crate::{
    control::{
        apply::{
            plan::ManifestPlan,
            turns::{Deleted, Turns},
            wanted::{Wanted, place_of_trial},
        },
        auth::tokens::Scope,
        extract::ManifestDocument,
        resources::functions::check_sandbox,
        state::ControlState,
    },
    functions::{
        deploy::{error::DeployError, upload::Actor},
        name::FunctionName,
        qualified_name::QualifiedName,
    },
    problem::{Problem, table},
    telemetry::clock::now_ms,
};

/// How often a plan is made again because something has changed meanwhile. Arbitrary, as for a deploy.
const ATTEMPTS: usize = 8;

/// Applies a manifest.
///
/// Everything that it names is made to be as it says, all at once, or nothing changes. The answer is the plan,
/// also if it is only asked for.
#[utoipa::path(
    post, path = "/v1/apply", tag = "apply",
    operation_id = "applyManifest",
    request_body = Manifest,
    responses(
        (status = 200, description = "The plan, and whether it was applied", body = PlanView),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The plan is another one now, or a quota is used up", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Something in it is not valid: `mistakes` says what and where", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many changes or compilations within a minute", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many compilations are waiting, or the database is busy", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn apply(
    State(state): State<ControlState>,
    Extension(scope): Extension<Scope>,
    Extension(actor): Extension<Actor>,
    ManifestDocument(manifest): ManifestDocument,
) -> Result<Json<PlanView>, Problem> {
    // Boxed: the future is large, and manifests are rare.
    Box::pin(applied(&state, scope, actor, manifest)).await.map(Json)
}

async fn applied(
    state: &ControlState,
    scope: Scope,
    actor: Actor,
    manifest: Manifest,
) -> Result<PlanView, Problem> {
    let (dry_run, tag) = (manifest.dry_run, manifest.plan.clone());
    let wanted = Wanted::new(manifest, &state.deployer).map_err(bad_manifest)?;
    let apply = Arc::new(Apply { state: state.clone(), actor, wanted });
    apply.claim().await?;
    for _ in 0..ATTEMPTS {
        let plan = apply.plan().await?;
        if tag.as_ref().is_some_and(|tag| *tag != plan.tag()) {
            return Err(plan_changed());
        }
        if dry_run || plan.is_empty() {
            return Ok(apply.view(&plan, !dry_run, &BTreeMap::new()));
        }
        check_sandbox(state, scope).await?;
        state.deployer.admit(&apply.actor.token)?;
        let kinds = apply.try_out(&plan).await?;
        let commit = Arc::clone(&apply).commit(plan.tag(), kinds);
        let commit = Box::pin(async move { Ok(commit.await) });
        let committed = state.deployer.exclusively(commit).await?;
        if let Some((plan, revisions)) = committed? {
            return Ok(apply.view(&plan, true, &revisions));
        }
    }
    Err(store::Error::Conflict.into())
}

/// A manifest that is being applied.
struct Apply {
    state: ControlState,
    actor: Actor,
    wanted: Wanted,
}

impl Apply {
    /// Keeps the artifacts that are named from being collected, and refuses those that are not there.
    async fn claim(&self) -> Result<(), Problem> {
        let Self { state, wanted, .. } = self;
        let unknown =
            state.store.claim_artifacts(&state.tenant, wanted.digests(), now_ms()).await?;
        let naming = wanted.functions.values().filter(|it| unknown.contains(&it.digest));
        let mistakes: Vec<_> = naming
            .map(|function| MistakeView {
                path: format!("functions.{}.artifact", function.name),
                detail: format!(
                    "there is no artifact sha256:{}; upload it first: `PUT /v1/artifacts/{{digest}}`",
                    function.digest
                ),
            })
            .collect();
        if mistakes.is_empty() { Ok(()) } else { Err(bad_manifest(mistakes)) }
    }

    /// The plan as of now, after all checks that need no trial.
    async fn plan(&self) -> Result<ManifestPlan, Problem> {
        let Self { state, actor, wanted } = self;
        let plan = ManifestPlan::make(state, wanted).await?;
        let schedules = {
            let targets = turns::targets(state, wanted, &plan);
            state.triggers.schedules.check(&targets, &wanted.schedules).await
        };
        let wrong =
            |(name, why): (String, String)| places::mistake(format!("schedules.{name}"), &why);
        let mut mistakes: Vec<_> = schedules.into_iter().map(wrong).collect();
        let turns = Turns::take(state).await;
        mistakes.extend(turns.check(state, wanted, &plan).await?);
        if !mistakes.is_empty() {
            return Err(bad_manifest(mistakes));
        }
        let schedules = turns.schedules(state, wanted, &plan).await?;
        let names = (&state.tenant, &*wanted.project);
        let kinds = (&BTreeMap::new(), now_ms());
        let changes = plan.changes(names, (&state.deployer, actor), schedules, kinds);
        let planned = state.store.planned_project(changes).await.map_err(refused)?;
        self.admit(&plan, &planned)?;
        Ok(plan)
    }

    /// Refuses settings of channels that cannot be, and more settings than there may be.
    fn admit(&self, plan: &ManifestPlan, planned: &AppliedProject) -> Result<(), Problem> {
        for (planned, published) in plan.functions().iter().zip(&planned.functions) {
            for (channel, _) in &planned.channels {
                let checked = self.state.deployer.settings_in(channel, published);
                checked.map_err(|error| {
                    let place = format!("functions.{}.channels.{channel}", planned.name);
                    bad_manifest(vec![places::mistake(place, &error.to_string())])
                })?;
            }
        }
        Ok(self.state.deployer.admit_settings(planned, &self.deleted_functions(plan))?)
    }

    fn deleted_functions(&self, plan: &ManifestPlan) -> Vec<QualifiedName> {
        let names = plan.deleted.iter().filter_map(|item| match item {
            ProjectItem::Function(name) => FunctionName::try_from(&**name).ok(),
            _ => None,
        });
        names.map(|name| self.state.qualified(name)).collect()
    }

    /// Compiles what is new, and starts an instance of each revision with its settings, also with those of
    /// channels. Returns the kinds of the revisions, by their functions.
    async fn try_out(&self, plan: &ManifestPlan) -> Result<BTreeMap<String, String>, Problem> {
        let Self { state, actor, wanted } = self;
        let mut kinds = BTreeMap::new();
        for planned in plan.functions() {
            let Some(function) = wanted.functions.get(&planned.name) else { continue };
            let name = state.qualified(function.name.clone());
            if let Some(revision) = &planned.revision {
                let tried = (revision.digest, &revision.settings);
                let kind = state.deployer.try_out(actor, &name, tried).await;
                let kind = kind.map_err(|error| {
                    let place = place_of_trial(&planned.name, &error);
                    Problem::from(error).at(place)
                })?;
                kinds.insert(planned.name.clone(), kind);
            }
        }
        if plan.functions().iter().any(|planned| !planned.channels.is_empty()) {
            self.try_channels(plan, &kinds).await?;
        }
        Ok(kinds)
    }

    async fn try_channels(
        &self,
        plan: &ManifestPlan,
        kinds: &BTreeMap<String, String>,
    ) -> Result<(), Problem> {
        let Self { state, actor, wanted } = self;
        let names = (&state.tenant, &*wanted.project);
        let by = (&state.deployer, actor);
        let changes = plan.changes(names, by, Vec::new(), (kinds, now_ms()));
        let published = state.store.planned_project(changes).await.map_err(refused)?.functions;
        for (planned, published) in plan.functions().iter().zip(&published) {
            let Some(function) = wanted.functions.get(&planned.name) else { continue };
            let name = state.qualified(function.name.clone());
            for (channel, _) in &planned.channels {
                for (digest, settings) in state.deployer.settings_in(channel, published)? {
                    let tried = state.deployer.try_out(actor, &name, (digest, &settings)).await;
                    tried.map_err(|error| {
                        let at = format!("functions.{}.channels.{channel}.settings", planned.name);
                        Problem::from(error).at(at)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Stores the plan, if it is still the one that was tried, and has calls see it. `None` if it is another
    /// one. Nothing else changes meanwhile.
    async fn commit(
        self: Arc<Self>,
        tag: String,
        kinds: BTreeMap<String, String>,
    ) -> Result<Option<(ManifestPlan, BTreeMap<String, u32>)>, Problem> {
        let Self { state, actor, wanted } = &*self;
        let mut turns = Turns::take(state).await;
        let plan = ManifestPlan::make(state, wanted).await?;
        if plan.tag() != tag {
            return Ok(None);
        }
        let mistakes = turns.check(state, wanted, &plan).await?;
        if !mistakes.is_empty() {
            return Err(bad_manifest(mistakes));
        }
        let gone = Deleted::of(&plan);
        let (leaving, deleted) =
            (turns.leaving(state, &gone).await?, self.deleted_functions(&plan));
        let schedules = turns.schedules(state, wanted, &plan).await?;
        let names = (&state.tenant, &*wanted.project);
        let changes = plan.changes(names, (&state.deployer, actor), schedules, (&kinds, now_ms()));
        let admit = |applied: &AppliedProject| {
            state.deployer.admit_settings(applied, &deleted).map_err(NotStored::Refused)
        };
        let mut applied = state.store.apply_project(changes, admit).await.map_err(Problem::from)?;
        let kept = kept_channels(&plan);
        state.deployer.show(&applied.functions, &kept).await;
        turns.show(state, &mut applied, &gone);
        if !kept.is_empty() {
            state.deployer.show(&applied.functions, &BTreeSet::new()).await;
        }
        state.deployer.forget(&deleted).await;
        turns.forget(state, &gone, leaving).await;
        state.deployer.count_removed(&applied.functions);
        let made = plan.functions().iter().zip(&applied.functions);
        let made = made.filter(|(planned, _)| planned.revision.is_some());
        let revisions =
            made.map(|(planned, published)| (planned.name.clone(), published.revision.number));
        let revisions = revisions.collect();
        Ok(Some((plan, revisions)))
    }

    fn view(
        &self,
        plan: &ManifestPlan,
        applied: bool,
        revisions: &BTreeMap<String, u32>,
    ) -> PlanView {
        let project = self.wanted.project.clone();
        let steps = plan.shown(&project, revisions);
        PlanView { project, plan: plan.tag(), applied, steps }
    }
}

/// The channels that go while their functions stay.
fn kept_channels(plan: &ManifestPlan) -> BTreeSet<(String, String)> {
    let channels = plan.deleted.iter().filter_map(|item| match item {
        ProjectItem::Channel(function, channel) => Some((function.clone(), channel.clone())),
        _ => None,
    });
    channels.collect()
}

/// Why a plan was not stored.
enum NotStored {
    Project(ProjectError),
    Refused(DeployError),
}

impl From<ProjectError> for NotStored {
    fn from(error: ProjectError) -> Self {
        Self::Project(error)
    }
}

impl From<NotStored> for Problem {
    fn from(error: NotStored) -> Self {
        match error {
            NotStored::Project(error) => refused(error),
            NotStored::Refused(error) => error.into(),
        }
    }
}

/// The problem of changes that the store refuses.
fn refused(ProjectError { item, error }: ProjectError) -> Problem {
    use store::Error::{NoSuchArtifact, NoSuchRevision, NoSuchTree, RangeNotMet, VersionTaken};
    let Some(item) = item else { return error.into() };
    let place = places::path(&item);
    let member = match &error {
        NoSuchArtifact => ".artifact",
        NoSuchTree => ".settings.files",
        VersionTaken => ".version",
        RangeNotMet => ".range",
        NoSuchRevision { .. } => "",
        _ => return Problem::from(error).at(place),
    };
    bad_manifest(vec![MistakeView { path: place + member, detail: error.to_string() }])
}

fn bad_manifest(mistakes: Vec<MistakeView>) -> Problem {
    let detail = match &*mistakes {
        [MistakeView { path, detail }] if path.is_empty() => detail.clone(),
        [MistakeView { path, detail }] => format!("{path}: {detail}"),
        [first, others @ ..] => {
            format!("{}: {}; and {} more", first.path, first.detail, others.len())
        }
        [] => String::new(),
    };
    Problem::new(&table::BAD_MANIFEST)
        .detail(detail)
        .hint("`mistakes` says what is wrong and where. Nothing was changed.")
        .mistakes(mistakes)
}

fn plan_changed() -> Problem {
    Problem::new(&table::PLAN_CHANGED)
        .detail("the plan that was sent is not the one that there is now")
        .hint("Ask for the new plan with `dry_run`, or `mayfly diff`, and look at it.")
}
