//! Channels as owners ask for them: which are valid?

pub(crate) mod channel_labels;
pub(crate) mod counts;
pub(crate) mod judge;
pub(crate) mod meters;
pub(crate) mod ok_counter;
pub(crate) mod overlay;
pub(crate) mod plan;
pub(crate) mod revision_urls;
pub(crate) mod split;

use std::ops::RangeInclusive;

use gateway_api::{PutCanary, PutChannel, ShadowView};
use http::HeaderName;
use semver::VersionReq;
use serde_json::Value;
use store::{Canary, ChannelOptions, Follow, Shadow, Sticky, Weight};

use crate::functions::name::is_name;

/// Bytes of a channel's name, so that it fits into the label of a host before a function's name.
const NAME_BYTES: usize = 32;
/// Revisions with a weight. Arbitrary, more than a release needs.
const WEIGHTS: usize = 8;
/// Bytes of a range. Arbitrary, large enough.
const RANGE_BYTES: usize = 128;
/// The steps of a canary whose owner asks for no others.
const CANARY_STEPS: [u8; 3] = [5, 25, 100];
/// The requests of each revision before a step is judged, unless the owner asks for another number: enough
/// to see eight percent of errors among one, and few enough to be had soon.
const CANARY_REQUESTS: u64 = 200;
/// With fewer, chance hides a function that fails half of the time.
const CANARY_REQUESTS_RANGE: RangeInclusive<u64> = 20..=1_000_000;
/// Bytes of the name of a header field or cookie. Arbitrary, large enough.
const FIELD_BYTES: usize = 64;

/// Whether `text` can be the name of a channel. One like `r7` names a revision.
pub(crate) fn is_channel_name(text: &str) -> bool {
    let is_revision =
        text.strip_prefix('r').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= NAME_BYTES && is_name(text) && !text.contains("--") && !is_revision
}

/// A channel as its owner asks for it, checked but for its revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AskedChannel {
    pub(crate) follow: Follow,
    pub(crate) weights: Vec<Weight>,
    pub(crate) sticky: Sticky,
    pub(crate) options: ChannelOptions,
    pub(crate) canary: Option<AskedCanary>,
}

/// An automatic canary as an owner asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AskedCanary {
    pub(crate) revision: u32,
    pub(crate) steps: Vec<u8>,
    pub(crate) requests: u64,
}

impl AskedCanary {
    /// The same at its beginning.
    pub(crate) fn begun(self, now_ms: i64) -> Canary {
        let Self { revision, steps, requests } = self;
        Canary { revision, steps, requests, step: 0, since_ms: now_ms, old: Value::Null }
    }
}

/// Checks a channel's document. An error says what is wrong, and names the member.
pub(crate) fn asked(name: &str, put: PutChannel) -> Result<AskedChannel, String> {
    if !is_channel_name(name) {
        return Err(format!(
            "{name:?} cannot be the name of a channel: that has 1 to {NAME_BYTES} of a-z, 0-9 and -, \
             begins with a letter, has no `--`, does not end with - and is not like `r7`"
        ));
    }
    let follow = match (put.revision, put.range) {
        (Some(revision), None) => Follow::Revision(revision),
        (None, Some(range)) => Follow::Range(checked_range(&range)?),
        _ => return Err("give either `revision` or `range`".to_owned()),
    };
    let weights: Vec<Weight> = put
        .weights
        .into_iter()
        .map(|weight| Weight { revision: weight.revision, percent: weight.percent })
        .collect();
    check_weights(&follow, &weights)?;
    let canary = put.canary.map(|put| canary(put, &follow, &weights)).transpose()?;
    let sticky = sticky(put.sticky.as_deref().unwrap_or("none"))?;
    let options = ChannelOptions {
        settings: overlay::asked(put.settings)?,
        tester_header: put.tester_header.map(|name| tester_header(&name)).transpose()?,
        shadow: put.shadow.map(shadow).transpose()?,
    };
    Ok(AskedChannel { follow, weights, sticky, options, canary })
}

fn checked_range(range: &str) -> Result<String, String> {
    if range.len() > RANGE_BYTES {
        return Err(format!("range: at most {RANGE_BYTES} bytes are allowed"));
    }
    match VersionReq::parse(range) {
        Ok(_) => Ok(range.to_owned()),
        Err(error) => Err(format!("range: {range:?} is no range of versions like ~1.2: {error}")),
    }
}

fn check_weights(follow: &Follow, weights: &[Weight]) -> Result<(), String> {
    if weights.len() > WEIGHTS {
        return Err(format!("weights: at most {WEIGHTS} revisions may have one"));
    }
    if weights.iter().any(|weight| !(1..=100).contains(&weight.percent)) {
        return Err("weights: a percent is from 1 to 100".to_owned());
    }
    let sum: u32 = weights.iter().map(|weight| u32::from(weight.percent)).sum();
    if sum > 100 {
        return Err(format!("weights: they add up to {sum} percent, which is more than 100"));
    }
    let mut numbers: Vec<u32> = weights.iter().map(|weight| weight.revision).collect();
    if let Follow::Revision(own) = follow {
        numbers.push(*own);
    }
    numbers.sort_unstable();
    match numbers.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!(
            "weights: revision {} is named twice; the channel's own gets what the others leave",
            pair[0]
        )),
        None => Ok(()),
    }
}

fn canary(put: PutCanary, follow: &Follow, weights: &[Weight]) -> Result<AskedCanary, String> {
    let PutCanary { revision, steps, requests } = put;
    let wrong = match follow {
        Follow::Range(_) => "a channel with a range moves by itself; give a `revision` instead",
        Follow::Revision(own) if *own == revision => "its revision is the channel's own",
        Follow::Revision(_) if !weights.is_empty() => "it decides the weights; leave them out",
        Follow::Revision(_) => "",
    };
    if !wrong.is_empty() {
        return Err(format!("canary: {wrong}"));
    }
    let steps = if steps.is_empty() { CANARY_STEPS.to_vec() } else { steps };
    let grow = steps.windows(2).all(|pair| pair[0] < pair[1]);
    let valid = (2..=WEIGHTS).contains(&steps.len()) && steps[0] > 0 && grow;
    if !valid || steps.last() != Some(&100) {
        return Err(format!(
            "canary: `steps` are 2 to {WEIGHTS} percentages that grow and end with 100, such as 5, 25, 100"
        ));
    }
    let requests = requests.unwrap_or(CANARY_REQUESTS);
    if !CANARY_REQUESTS_RANGE.contains(&requests) {
        let (least, most) = (CANARY_REQUESTS_RANGE.start(), CANARY_REQUESTS_RANGE.end());
        return Err(format!("canary: `requests` are {least} to {most}"));
    }
    Ok(AskedCanary { revision, steps, requests })
}

/// Reads `none`, `client`, `header:x-user` or `cookie:session`.
fn sticky(text: &str) -> Result<Sticky, String> {
    let wrong = || {
        format!(
            "sticky: {text:?} must be `none`, `client`, `header:NAME` or `cookie:NAME`, with a name of \
             at most {FIELD_BYTES} bytes"
        )
    };
    let field = |name: &str| {
        let valid = name.len() <= FIELD_BYTES && HeaderName::try_from(name).is_ok();
        valid.then(|| name.to_owned()).ok_or_else(wrong)
    };
    match text.split_once(':') {
        None if text == "none" => Ok(Sticky::None),
        None if text == "client" => Ok(Sticky::Client),
        Some(("header", name)) => field(&name.to_ascii_lowercase()).map(Sticky::Header),
        Some(("cookie", name)) => field(name).map(Sticky::Cookie),
        _ => Err(wrong()),
    }
}

fn shadow(asked: ShadowView) -> Result<Shadow, String> {
    let ShadowView { revision, percent, methods } = asked;
    if !(1..=100).contains(&percent) {
        return Err("shadow: a percent is from 1 to 100".to_owned());
    }
    let all_methods = match methods.as_str() {
        "safe" => false,
        "all" => true,
        other => return Err(format!("shadow: {other:?} must be `safe` or `all`")),
    };
    Ok(Shadow { revision, percent, all_methods })
}

/// Checks the name of the header field by which testers name a revision. Functions do not see it, so it
/// must not be one that means something to them.
fn tester_header(name: &str) -> Result<String, String> {
    let name = name.to_ascii_lowercase();
    let valid = name.len() <= FIELD_BYTES
        && name.starts_with("x-")
        && !name.starts_with("x-forwarded-")
        && HeaderName::try_from(&name).is_ok();
    if valid {
        return Ok(name);
    }
    Err(format!(
        "tester_header: {name:?} must be the name of a header field of at most {FIELD_BYTES} bytes that \
         begins with `x-`, and not with `x-forwarded-`"
    ))
}

/// The text that [`sticky`] reads.
pub(crate) fn sticky_text(sticky: &Sticky) -> String {
    match sticky {
        Sticky::None => "none".to_owned(),
        Sticky::Client => "client".to_owned(),
        Sticky::Header(name) => format!("header:{name}"),
        Sticky::Cookie(name) => format!("cookie:{name}"),
    }
}

#[cfg(test)]
mod tests {
    use gateway_api::WeightView;
    use proptest::prelude::*;

    use super::*;

    fn put(revision: u32, weights: &[(u32, u8)]) -> PutChannel {
        let weights =
            weights.iter().map(|&(revision, percent)| WeightView { revision, percent }).collect();
        PutChannel { revision: Some(revision), weights, ..PutChannel::default() }
    }

    #[test]
    fn a_name_is_a_short_label_that_is_no_revision() {
        for name in ["prod", "a", "r7a", "canary-2", "default", &"a".repeat(NAME_BYTES)] {
            assert!(is_channel_name(name), "{name}");
        }
        for name in
            ["", "7", "r", "r7", "r007", "a--b", "-a", "a-", "A", &"a".repeat(NAME_BYTES + 1)]
        {
            assert!(!is_channel_name(name), "{name}");
        }
    }

    #[test]
    fn a_channel_names_its_mistake() {
        let range =
            |range: &str| PutChannel { range: Some(range.to_owned()), ..PutChannel::default() };
        let canary_of = |put: PutChannel| PutChannel {
            canary: Some(PutCanary { revision: 2, steps: Vec::new(), requests: None }),
            ..put
        };
        let canary = |revision, steps: &[u8], requests| PutChannel {
            canary: Some(PutCanary { revision, steps: steps.to_vec(), requests }),
            ..put(1, &[])
        };
        let tester =
            |name: &str| PutChannel { tester_header: Some(name.to_owned()), ..put(1, &[]) };
        let sticky = |text: &str| PutChannel { sticky: Some(text.to_owned()), ..put(1, &[]) };
        for (asked_for, expected) in [
            (PutChannel::default(), "give either `revision` or `range`"),
            (PutChannel { revision: Some(1), ..range("~1.2") }, "give either"),
            (range("1.2.3.4"), "range: \"1.2.3.4\" is no range"),
            (put(1, &[(2, 60), (3, 41)]), "weights: they add up to 101 percent"),
            (put(1, &[(2, 0)]), "weights: a percent is from 1 to 100"),
            (put(1, &[(2, 5), (2, 5)]), "weights: revision 2 is named twice"),
            (put(1, &[(1, 5)]), "weights: revision 1 is named twice"),
            (sticky("ip"), "sticky: \"ip\" must be"),
            (sticky("header:a b"), "sticky: \"header:a b\" must be"),
            (sticky("cookie:"), "sticky: \"cookie:\" must be"),
            (canary(1, &[], None), "canary: its revision is the channel's own"),
            (canary(2, &[5], None), "canary: `steps` are"),
            (canary(2, &[25, 5, 100], None), "canary: `steps` are"),
            (canary(2, &[0, 100], None), "canary: `steps` are"),
            (canary(2, &[], Some(19)), "canary: `requests` are 20 to"),
            (
                PutChannel { revision: None, ..canary_of(range("1")) },
                "canary: a channel with a range",
            ),
            (canary_of(put(1, &[(3, 1)])), "canary: it decides the weights"),
            (tester("authorization"), "tester_header: \"authorization\" must be"),
            (tester("x-forwarded-for"), "tester_header: \"x-forwarded-for\" must be"),
            (tester("x-a b"), "tester_header: \"x-a b\" must be"),
        ] {
            let refused = asked("prod", asked_for).unwrap_err();
            assert!(refused.starts_with(expected), "{refused}");
        }
        let asked =
            asked("prod", PutChannel { sticky: Some("header:X-User".into()), ..range("~1.2") });
        let asked = asked.unwrap();
        assert_eq!(asked.follow, Follow::Range("~1.2".to_owned()));
        assert_eq!(sticky_text(&asked.sticky), "header:x-user");
    }

    proptest! {
        #[test]
        fn what_is_accepted_has_shares_that_add_up(
            own in 1u32..5, weights in prop::collection::vec((1u32..5, any::<u8>()), 0..4),
        ) {
            if let Ok(asked) = asked("prod", put(own, &weights)) {
                let sum: u32 = asked.weights.iter().map(|weight| u32::from(weight.percent)).sum();
                prop_assert!(sum <= 100);
                prop_assert!(asked.weights.iter().all(|weight| weight.revision != own));
            }
        }
    }
}
