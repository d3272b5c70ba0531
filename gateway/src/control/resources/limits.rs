//! What the node allows, as the API shows it.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use runtime_pool::reset_strategy;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{config::Numbers, control::state::ControlState, problem::Problem};

/// The limits of this node, under the names of their settings.
#[derive(Serialize, ToSchema)]
pub(crate) struct NodeLimitsView {
    /// By section: `limits` holds for functions whose owners asked for nothing, `ceilings` is the
    /// most that they may ask for, all others hold for the node.
    #[schema(example = json!({"limits": {"cpu_ms": 1000}, "ceilings": {"cpu_ms": 30000}}))]
    #[serde(flatten)]
    sections: Numbers,
    /// What this machine has to hold guests and compilers to them.
    machine: MachineView,
}

/// What differs between machines.
#[derive(Serialize, ToSchema)]
pub(crate) struct MachineView {
    /// Which barriers stand around the compiler: null as long as that was not tried, which is done
    /// right after the start.
    #[schema(example = json!({"landlock": true, "no_new_privs": true, "seccomp": true}))]
    sandbox: Option<BTreeMap<&'static str, bool>>,
    /// What the compiler could reach all the same when it tried. Empty unless something is badly
    /// wrong.
    sandbox_reached: Vec<String>,
    /// How freed instances are reset: `pagemap scan` or `batched decommit`.
    #[schema(example = "pagemap scan")]
    instances_reset_by: &'static str,
}

/// What this node allows: every setting that is a number, as it holds, and what the machine has to
/// hold to it.
#[utoipa::path(
    get, path = "/v1/limits", tag = "functions", security(("token" = [])),
    responses(
        (status = 200, description = "All limits", body = NodeLimitsView),
        (status = 401, description = "No valid token", body = Problem),
        (status = 403, description = "The token does not allow this", body = Problem),
    ),
)]
pub(crate) async fn show(State(state): State<ControlState>) -> Json<NodeLimitsView> {
    let sandbox = state.sandbox.get();
    let machine = MachineView {
        sandbox: sandbox.map(|sandbox| sandbox.barriers().into_iter().collect()),
        sandbox_reached: sandbox.map(|sandbox| sandbox.reached.clone()).unwrap_or_default(),
        instances_reset_by: reset_strategy(),
    };
    Json(NodeLimitsView { sections: (**state.limits.load()).clone(), machine })
}
