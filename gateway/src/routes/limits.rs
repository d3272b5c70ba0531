//! What the node allows, as the API shows it.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::Functions;
use crate::problem::Problem;

/// The limits of this node, under the names of their settings.
#[derive(Serialize, ToSchema)]
pub(super) struct NodeLimitsView {
    /// By section: `limits` holds for functions whose owners asked for nothing, `ceilings` is the
    /// most that they may ask for, all others hold for the node.
    #[schema(example = json!({"limits": {"cpu_ms": 1000}, "ceilings": {"cpu_ms": 30000}}))]
    #[serde(flatten)]
    sections: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What this node allows: every setting that is a number, as it holds.
#[utoipa::path(
    get, path = "/v1/limits", tag = "functions", security(("token" = [])),
    responses(
        (status = 200, description = "All limits", body = NodeLimitsView),
        (status = 401, description = "No valid token", body = Problem),
        (status = 403, description = "The token does not allow this", body = Problem),
    ),
)]
pub(super) async fn show(State(functions): State<Functions>) -> Json<NodeLimitsView> {
    Json(NodeLimitsView { sections: (*functions.limits).clone() })
}
