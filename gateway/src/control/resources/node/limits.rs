//! `/v1/limits`: the limits of the node.

use axum::{Json, extract::State};
use gateway_api::{MachineView, NodeLimitsView};
use runtime_pool::reset_strategy;

use crate::control::state::ControlState;

/// Shows the limits of this node: all settings that are numbers, and how this machine enforces
/// them.
#[utoipa::path(
    get, path = "/v1/limits", tag = "functions",
    operation_id = "showLimits",
    responses((status = 200, description = "All limits", body = NodeLimitsView)),
)]
pub(crate) async fn show(State(state): State<ControlState>) -> Json<NodeLimitsView> {
    let sandbox = state.sandbox.get();
    let machine = MachineView {
        sandbox: sandbox.map(|sandbox| {
            let barriers = sandbox.barriers().into_iter();
            barriers.map(|(barrier, stands)| (barrier.to_owned(), stands)).collect()
        }),
        sandbox_reached: sandbox.map(|sandbox| sandbox.reached.clone()).unwrap_or_default(),
        instances_reset_by: reset_strategy().to_owned(),
    };
    Json(NodeLimitsView { sections: (**state.limits.load()).clone(), machine })
}
