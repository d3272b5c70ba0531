//! The right to change everything that a manifest names besides functions, and the checks that need it.

use std::collections::BTreeSet;

use gateway_api::MistakeView;
use store::{AppliedProject, ProjectItem, PutSchedule};

use crate::{
    control::{
        apply::{places::mistake, plan::ManifestPlan, wanted::Wanted},
        state::ControlState,
    },
    functions::{catalog::target::NamedTargets, routes::turn::RoutesTurn},
    problem::chain,
    triggers::{flows::turn::FlowsTurn, queues::turn::QueuesTurn, schedules::turn::SchedulesTurn},
};

/// The right to change flows, queues, schedules and routes. Every change of a manifest takes it in this order,
/// and everything else takes at most one of the four.
pub(super) struct Turns {
    flows: FlowsTurn,
    queues: QueuesTurn,
    schedules: SchedulesTurn,
    routes: RoutesTurn,
}

/// The names of what goes.
pub(super) struct Deleted {
    flows: BTreeSet<String>,
    queues: BTreeSet<String>,
    schedules: BTreeSet<String>,
    routes: BTreeSet<String>,
}

impl Deleted {
    pub(super) fn of(plan: &ManifestPlan) -> Self {
        let of = |kind: fn(&ProjectItem) -> Option<&String>| plan.deleted(kind);
        Self {
            flows: of(|item| if let ProjectItem::Flow(name) = item { Some(name) } else { None }),
            queues: of(|item| if let ProjectItem::Queue(name) = item { Some(name) } else { None }),
            schedules: of(
                |item| {
                    if let ProjectItem::Schedule(name) = item { Some(name) } else { None }
                },
            ),
            routes: of(|item| if let ProjectItem::Route(name) = item { Some(name) } else { None }),
        }
    }
}

/// What will be there for others to name.
pub(super) fn targets<'a>(
    state: &'a ControlState,
    wanted: &Wanted,
    plan: &ManifestPlan,
) -> NamedTargets<'a> {
    let functions = wanted.functions.iter().flat_map(|(name, function)| {
        let channels = function.channels.keys().map(|channel| Some(channel.clone()));
        channels.chain([None]).map(|channel| (name.clone(), channel))
    });
    NamedTargets::now(&state.catalog, &state.tenant).after(functions, plan.removed_targets())
}

impl Turns {
    pub(super) async fn take(state: &ControlState) -> Self {
        Self {
            flows: state.triggers.flows.take_turn().await,
            queues: state.triggers.queues.take_turn().await,
            schedules: state.triggers.schedules.take_turn().await,
            routes: state.routes.take_turn().await,
        }
    }

    /// What is wrong with flows, queues and routes as they will be, and with what would go.
    pub(super) async fn check(
        &self,
        state: &ControlState,
        wanted: &Wanted,
        plan: &ManifestPlan,
    ) -> store::Result<Vec<MistakeView>> {
        let (targets, gone) = (targets(state, wanted, plan), Deleted::of(plan));
        let mut mistakes = Vec::new();
        for (name, why) in self.queues.check(&targets, &wanted.queues, &gone.queues) {
            mistakes.push(mistake(format!("queues.{name}"), &why));
        }
        for (name, why) in self.flows.check(&targets, &wanted.flows, &gone.flows) {
            let named = wanted.flows.contains_key(&name);
            let place = if named { format!("flows.{name}") } else { "prune".to_owned() };
            mistakes.push(mistake(place, &why));
        }
        let flow = |name: &str| {
            wanted.flows.contains_key(name)
                || !gone.flows.contains(name) && self.flows.exists(&state.tenant, name)
        };
        for (name, error) in self.routes.check(&targets, flow, &wanted.routes, &gone.routes).await?
        {
            mistakes.push(mistake(format!("routes.{name}"), &chain(&error)));
        }
        for name in &gone.queues {
            let why = self.queues.in_use(&state.tenant, name).await?;
            mistakes.extend(why.map(|why| mistake("prune", &why)));
        }
        for name in &gone.flows {
            let why = self.flows.in_use(&state.tenant, name).await?;
            mistakes.extend(why.map(|why| mistake("prune", &why)));
        }
        Ok(mistakes)
    }

    /// The schedules that change, as they are to be stored.
    pub(super) async fn schedules(
        &self,
        state: &ControlState,
        wanted: &Wanted,
        plan: &ManifestPlan,
    ) -> store::Result<Vec<PutSchedule>> {
        let mut puts = Vec::new();
        for name in plan.schedules() {
            if let Some(spec) = wanted.schedules.get(name) {
                puts.push(self.schedules.stored(&state.tenant, name, spec).await?);
            }
        }
        Ok(puts)
    }

    /// The ids of the schedules that go. Asked for before they are gone.
    pub(super) async fn leaving(
        &self,
        state: &ControlState,
        gone: &Deleted,
    ) -> store::Result<Vec<i64>> {
        self.schedules.ids(&state.tenant, &gone.schedules).await
    }

    /// Has calls see what was stored: first what routes lead to, then all routes at once.
    pub(super) fn show(
        &mut self,
        state: &ControlState,
        applied: &mut AppliedProject,
        gone: &Deleted,
    ) {
        self.queues.show(std::mem::take(&mut applied.queues));
        self.flows.show(std::mem::take(&mut applied.flows));
        for record in &applied.schedules {
            // Both times are those of this change, if it has made it.
            self.schedules.show(record, record.created_ms == record.updated_ms);
        }
        self.routes.show(&state.tenant, &applied.routes, &gone.routes);
    }

    /// Forgets what was deleted. If that fails, the next start does it.
    pub(super) async fn forget(
        &mut self,
        state: &ControlState,
        gone: &Deleted,
        schedules: Vec<i64>,
    ) {
        self.flows.forget(&state.tenant, &gone.flows).await;
        self.queues.forget(&state.tenant, &gone.queues).await;
        for id in schedules {
            if let Err(error) = self.schedules.forget(id).await {
                tracing::error!(%error, "forgetting the runs of a schedule");
            }
        }
    }
}
