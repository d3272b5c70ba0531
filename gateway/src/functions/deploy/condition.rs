//! What must hold for a change to be made (RFC 9110, 13.1).

use http::{HeaderMap, HeaderName, header};
use store::ActiveFunction;

use super::Error;

/// In which state the function must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    if_match: Option<Vec<String>>,
    if_none_match: Option<Vec<String>>,
}

/// The tag of a function's state: another deploy or another function has another.
pub(crate) fn entity_tag(active: &ActiveFunction) -> String {
    format!("\"{}.{}\"", active.function.id, active.revision.number)
}

impl Condition {
    pub(crate) fn parse(headers: &HeaderMap) -> Self {
        Self {
            if_match: tags(headers, &header::IF_MATCH),
            if_none_match: tags(headers, &header::IF_NONE_MATCH),
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Says in which state the function is if that is none that was meant.
    pub(crate) fn check(&self, active: Option<&ActiveFunction>) -> Result<(), Error> {
        let tag = active.map(entity_tag);
        let names = |tags: &Vec<String>| {
            tag.as_ref().is_some_and(|tag| tags.iter().any(|named| named == "*" || named == tag))
        };
        let holds = self.if_match.as_ref().is_none_or(names)
            && !self.if_none_match.as_ref().is_some_and(names);
        if holds { Ok(()) } else { Err(Error::Precondition { tag }) }
    }
}

/// The tags that a header lists; a weak one is none that we give.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<String>> {
    headers.contains_key(name).then(|| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(|tag| tag.trim().to_owned()).collect()
    })
}
