//! The requirements of each kind of guest: which engine runs it, and which isolation it can have.

use crate::{code::artifact::Kind, engine::EngineKind, error::Refusal, limits::Isolation};

impl Kind {
    /// The engine that runs it.
    pub(crate) fn engine(self) -> EngineKind {
        match self {
            Self::WasiHttp02 | Self::WasiCommand | Self::WasiPreview1 => EngineKind::Lean,
            Self::WasiHttp03 | Self::WasiCommand03 => EngineKind::Concurrent,
        }
    }
}

impl Isolation {
    /// Whether a guest of this kind can have it.
    pub(crate) fn fits(&self, kind: Kind) -> Result<(), Refusal> {
        let Self::Reuse { max_concurrent, .. } = self else { return Ok(()) };
        match kind {
            Kind::WasiCommand | Kind::WasiCommand03 | Kind::WasiPreview1 => {
                Err(Refusal::Isolation(format!(
                    "isolation `reuse` is not available for guests of the kind {}, because they end \
                 with their request; use `request`",
                    kind.as_str()
                )))
            }
            Kind::WasiHttp02 | Kind::WasiHttp03 if *max_concurrent > 1 => Err(Refusal::Isolation(
                "an instance serves one call at a time: max_concurrent must be 1".into(),
            )),
            Kind::WasiHttp02 | Kind::WasiHttp03 => Ok(()),
        }
    }
}
