//! What a call through a channel does besides running a revision.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, Method};

use crate::functions::channels::{
    counts::{ChannelCounts, ChannelLabel, Role},
    meters::CanaryMeter,
    split::Split,
};

/// A revision of a channel, by its number.
#[derive(Debug)]
pub(crate) struct Member<T> {
    pub(crate) revision: u32,
    pub(crate) entry: Arc<T>,
}

/// What a call through a channel does besides running a revision. A call that reaches a function
/// otherwise has none.
#[derive(Debug)]
pub(crate) struct ChannelPlan<T> {
    /// The number of the channel's own revision.
    own: u32,
    /// The revisions with a share.
    split: Option<Box<Split<Member<T>>>>,
    /// The header field by which a tester names a revision.
    tester_header: Option<HeaderName>,
    shadow: Option<ShadowPlan<T>>,
    pub(crate) counts: ChannelCounts,
    /// Where the calls of a canary are counted.
    pub(crate) meter: Option<Arc<CanaryMeter>>,
}

/// Which requests of a channel are copied, and to which revision.
#[derive(Debug)]
pub(crate) struct ShadowPlan<T> {
    pub(crate) entry: Arc<T>,
    pub(crate) percent: u8,
    pub(crate) all_methods: bool,
}

/// The revision that a call goes to.
#[derive(Debug)]
pub(crate) struct Choice<T> {
    /// `None` for the channel's own.
    pub(crate) entry: Option<Arc<T>>,
    pub(crate) role: Role,
}

/// The caller has named a revision that the channel does not have.
#[derive(Debug)]
pub(crate) struct NotInChannel {
    /// The header field.
    pub(crate) header: HeaderName,
    /// The revisions of the channel.
    pub(crate) revisions: Vec<u32>,
}

impl<T> ChannelPlan<T> {
    pub(crate) fn new(
        own: u32,
        split: Option<Box<Split<Member<T>>>>,
        tester_header: Option<&str>,
        shadow: Option<ShadowPlan<T>>,
        label: Arc<ChannelLabel>,
        meter: Option<Arc<CanaryMeter>>,
    ) -> Self {
        // Names are checked when the channel is set.
        let tester_header = tester_header.and_then(|name| HeaderName::try_from(name).ok());
        Self { own, split, tester_header, shadow, counts: ChannelCounts::new(label), meter }
    }

    /// The revision that this request goes to. Removes the tester's header field: functions do not see
    /// it, so that they cannot pass it on to other functions.
    pub(crate) fn choose(
        &self,
        headers: &mut HeaderMap,
        client: IpAddr,
        request: u128,
    ) -> Result<Choice<T>, NotInChannel> {
        if let Some(header) = &self.tester_header
            && let Some(value) = headers.remove(header)
        {
            let named = value.to_str().ok().and_then(|text| text.trim().parse().ok());
            return self.named(named).ok_or_else(|| NotInChannel {
                header: header.clone(),
                revisions: self.revisions().collect(),
            });
        }
        let split = self.split.as_ref();
        let picked = split.and_then(|split| split.pick(headers, client, request));
        let role = if picked.is_some() { Role::Weight } else { Role::Own };
        let entry = picked.map(|member| Arc::clone(&member.entry));
        Ok(Choice { entry, role })
    }

    fn named(&self, revision: Option<u32>) -> Option<Choice<T>> {
        let revision = revision?;
        if revision == self.own {
            return Some(Choice { entry: None, role: Role::Tester });
        }
        let member = self.members().find(|member| member.revision == revision)?;
        let entry = Some(Arc::clone(&member.entry));
        Some(Choice { entry, role: Role::Tester })
    }

    /// The revision that gets a copy of a request with this method, if one does. The draw is not the
    /// one that picks a revision.
    pub(crate) fn shadow(&self, method: &Method, request: u128) -> Option<&Arc<T>> {
        let shadow = self.shadow.as_ref()?;
        let copied = request / 100 % 100 < u128::from(shadow.percent)
            && (shadow.all_methods || method.is_safe());
        copied.then_some(&shadow.entry)
    }

    /// Whether answers say which revision gave them.
    pub(crate) fn names_revision(&self) -> bool {
        self.split.is_some() || self.tester_header.is_some()
    }

    /// The header field that answers depend on.
    pub(crate) fn tester_header(&self) -> Option<&HeaderName> {
        self.tester_header.as_ref()
    }

    fn members(&self) -> impl Iterator<Item = &Member<T>> {
        self.split.iter().flat_map(|split| split.entries())
    }

    fn revisions(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.own).chain(self.members().map(|member| member.revision))
    }

    /// The entries of the channel besides its own.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Arc<T>> {
        let shadow = self.shadow.iter().map(|shadow| &shadow.entry);
        self.members().map(|member| &member.entry).chain(shadow)
    }
}

#[cfg(test)]
mod tests {
    use store::{Sticky, Weight};

    use super::*;

    fn plan(tester_header: Option<&str>) -> ChannelPlan<u32> {
        let member = Member { revision: 8, entry: Arc::new(8) };
        let weighted = vec![(Weight { revision: 8, percent: 10 }, member)];
        let split = Split::new(weighted, Sticky::None, 1);
        let label = ChannelLabel { function: "f".into(), channel: "prod".into() };
        ChannelPlan::new(7, split, tester_header, None, Arc::new(label), None)
    }

    fn choose(plan: &ChannelPlan<u32>, headers: &mut HeaderMap) -> Result<(u32, bool), Vec<u32>> {
        let choice = plan.choose(headers, IpAddr::from([192, 0, 2, 1]), 50);
        let choice = choice.map_err(|refused| refused.revisions)?;
        Ok((choice.entry.map_or(7, |entry| *entry), choice.role == Role::Tester))
    }

    #[test]
    fn a_tester_names_a_revision_of_the_channel_and_functions_do_not_see_the_name() {
        let plan = plan(Some("x-revision"));
        for (value, expected) in [
            ("8", Ok((8, true))),
            (" 7", Ok((7, true))),
            ("9", Err(vec![7, 8])),
            ("", Err(vec![7, 8])),
            ("prod", Err(vec![7, 8])),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-revision", value.parse().unwrap());
            assert_eq!(choose(&plan, &mut headers), expected, "{value}");
            assert!(headers.is_empty());
        }
        assert_eq!(choose(&plan, &mut HeaderMap::new()), Ok((7, false)));
    }

    #[test]
    fn a_header_that_no_owner_has_named_is_left_alone() {
        let mut headers = HeaderMap::new();
        headers.insert("x-revision", "8".parse().unwrap());
        assert_eq!(choose(&plan(None), &mut headers), Ok((7, false)));
        assert_eq!(headers.len(), 1);
    }
}
