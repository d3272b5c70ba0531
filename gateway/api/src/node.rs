//! The limits of a node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The limits of this node, by the names of their settings.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeLimitsView {
    /// By section: `limits` has the defaults of functions, `ceilings` the most that a function's
    /// settings may ask for. All other sections apply to the node.
    #[schema(example = json!({"limits": {"cpu_ms": 1000}, "ceilings": {"cpu_ms": 30000}}))]
    #[serde(flatten)]
    pub sections: BTreeMap<String, BTreeMap<String, u64>>,
    /// How this machine enforces limits on guests and compilers.
    pub machine: MachineView,
}

/// Properties that differ between machines.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MachineView {
    /// Which parts of the compiler's sandbox are in place; null until the gateway has tried, which
    /// it does right after its start.
    #[schema(example = json!({"landlock": true, "no_new_privs": true, "seccomp": true}))]
    pub sandbox: Option<BTreeMap<String, bool>>,
    /// Resources that the compiler could reach despite the sandbox. Should be empty.
    pub sandbox_reached: Vec<String>,
    /// How freed instances are reset: `pagemap scan` or `batched decommit`.
    #[schema(example = "pagemap scan")]
    pub instances_reset_by: String,
}
