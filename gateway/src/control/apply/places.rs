//! Where in a manifest something is.

use gateway_api::MistakeView;
use store::ProjectItem;

/// The kind of a thing, as plans name it.
pub(super) fn kind(item: &ProjectItem) -> &'static str {
    match item {
        ProjectItem::Function(_) => "function",
        ProjectItem::Channel(..) => "channel",
        ProjectItem::Route(_) => "route",
        ProjectItem::Schedule(_) => "schedule",
        ProjectItem::Queue(_) => "queue",
        ProjectItem::Flow(_) => "flow",
    }
}

/// The name of a thing, as plans write it.
pub(super) fn name(item: &ProjectItem) -> String {
    match item {
        ProjectItem::Channel(function, channel) => format!("{function}:{channel}"),
        ProjectItem::Function(name)
        | ProjectItem::Route(name)
        | ProjectItem::Schedule(name)
        | ProjectItem::Queue(name)
        | ProjectItem::Flow(name) => name.clone(),
    }
}

/// Where a manifest has a thing.
pub(super) fn path(item: &ProjectItem) -> String {
    match item {
        ProjectItem::Function(name) => format!("functions.{name}"),
        ProjectItem::Channel(function, name) => format!("functions.{function}.channels.{name}"),
        ProjectItem::Route(name) => format!("routes.{name}"),
        ProjectItem::Schedule(name) => format!("schedules.{name}"),
        ProjectItem::Queue(name) => format!("queues.{name}"),
        ProjectItem::Flow(name) => format!("flows.{name}"),
    }
}

/// A mistake at a place, or at the member below it with which the text begins: `steps[0].flow: …`.
pub(super) fn mistake(place: impl Into<String>, why: &str) -> MistakeView {
    let place = place.into();
    let is_member = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte))
    };
    match why.split_once(": ").filter(|(member, _)| is_member(member)) {
        Some((member, why)) => {
            let path =
                if place.is_empty() { member.to_owned() } else { format!("{place}.{member}") };
            MistakeView { path, detail: why.to_owned() }
        }
        None => MistakeView { path: place, detail: why.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_at_the_member_that_its_text_names() {
        for (place, why, path, detail) in [
            ("routes.users", "path: it is empty", "routes.users.path", "it is empty"),
            ("flows.a", "steps[0].flow: x: y", "flows.a.steps[0].flow", "x: y"),
            ("flows.a", "give exactly one", "flows.a", "give exactly one"),
            ("", "project: is no name", "project", "is no name"),
            ("queues.a", "\"A\" cannot be: x", "queues.a", "\"A\" cannot be: x"),
        ] {
            let expected = MistakeView { path: path.to_owned(), detail: detail.to_owned() };
            assert_eq!(mistake(place, why), expected);
        }
    }
}
