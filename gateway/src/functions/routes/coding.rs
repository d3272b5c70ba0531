//! How responses of a route are compressed.

use gateway_api::CompressionView;

/// A content coding (RFC 9110, section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Brotli,
    Zstd,
    Gzip,
}

/// All of them: of those that a client likes equally, the first is used.
const ALL: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

impl Coding {
    /// Its name in header fields.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// Whether a client means it by this name. RFC 9110 has an old one of gzip's.
    pub(crate) fn is_called(self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name)
            || (self == Self::Gzip && name.eq_ignore_ascii_case("x-gzip"))
    }
}

/// The codings that an owner asks for; none without a wish. An error names the member.
pub(super) fn codings(view: Option<&CompressionView>) -> Result<Vec<Coding>, String> {
    let names = match view {
        None | Some(CompressionView::All(false)) => return Ok(Vec::new()),
        Some(CompressionView::All(true)) => return Ok(ALL.to_vec()),
        Some(CompressionView::Codings(names)) => names,
    };
    let mut codings = Vec::new();
    for name in names {
        let coding = ALL.into_iter().find(|coding| coding.name() == name);
        let coding =
            coding.ok_or_else(|| format!("compression: {name:?} is not one of br, zstd, gzip"))?;
        if codings.contains(&coding) {
            return Err(format!("compression: {name:?} is there twice"));
        }
        codings.push(coding);
    }
    if codings.is_empty() {
        return Err("compression: the list is empty; leave it out, or write false".to_owned());
    }
    Ok(codings)
}
