//! Channels: what moves them, and what they keep.

use std::collections::BTreeMap;

use proptest::prelude::*;
use semver::{Version, VersionReq};
use store::{
    Action, Canary, CanaryDecision, Channel, ChannelOptions, DEFAULT_CHANNEL, DecidedCanary, Error,
    Follow, NewChannel, NewRevision, Published, Quotas, Release, Shadow, Sticky, Weight,
};

use crate::support::{ACTOR, TestStore, new, ours, publish};

fn set(name: &str, follow: Follow) -> NewChannel<'_> {
    NewChannel {
        name,
        follow,
        weights: Vec::new(),
        sticky: Sticky::None,
        options: ChannelOptions::default(),
        canary: None,
        max: 8,
        actor: ACTOR,
        now_ms: 3_000,
    }
}

async fn put(
    test: &TestStore,
    function: &str,
    new: NewChannel<'_>,
) -> store::Result<Option<Published>> {
    test.store.put_channel(&ours(), function, new, |_| Ok(())).await
}

fn range(range: &str) -> Follow {
    Follow::Range(range.to_owned())
}

async fn publish_version(test: &TestStore, version: &str) -> store::Published {
    let release = Release { semver: Some(version.to_owned()), ..Release::default() };
    publish(&test.store, NewRevision { release, ..new("f") }, version.as_bytes()).await.unwrap()
}

async fn at(test: &TestStore, name: &str) -> Option<u32> {
    let channels = test.store.channels(&ours(), "f").await.unwrap();
    channels.into_iter().find(|channel| channel.name == name).map(|channel| channel.revision)
}

#[tokio::test]
async fn a_publish_moves_only_the_channels_whose_range_takes_its_version() {
    let test = TestStore::new().await;
    for version in ["1.2.8", "1.3.0", "2.0.0-rc.1"] {
        publish_version(&test, version).await;
    }
    for (name, follow) in [
        ("old", range("~1.2")),
        ("stable", range("1")),
        ("next", range(">=2.0.0-0")),
        ("fixed", Follow::Revision(1)),
    ] {
        put(&test, "f", set(name, follow)).await.unwrap().unwrap();
    }
    let all = async || {
        [at(&test, "old").await, at(&test, "stable").await, at(&test, "next").await]
            .map(Option::unwrap)
    };
    assert_eq!(all().await, [1, 2, 3]);

    assert_eq!(publish_version(&test, "1.2.9").await.revision.number, 4);
    assert_eq!(all().await, [4, 2, 3], "1.2.9 moves only those that want ~1.2");
    publish_version(&test, "2.0.0").await;
    assert_eq!(all().await, [4, 2, 5]);
    test.publish("f", b"no version").await;
    assert_eq!(all().await, [4, 2, 5]);
    assert_eq!(at(&test, "fixed").await, Some(1));

    let history = test.store.history(&ours(), "f", None, 100).await.unwrap();
    let of = |channel: &str| {
        let changes = history.iter().rev().filter(|change| change.channel == channel);
        changes.map(|change| (change.action, change.before, change.after)).collect::<Vec<_>>()
    };
    assert_eq!(of("old"), [(Action::Channel, None, 1), (Action::Deploy, Some(1), 4)]);
}

#[tokio::test]
async fn a_default_channel_that_is_tied_leaves_a_publish_inactive() {
    let test = TestStore::new().await;
    publish_version(&test, "1.0.0").await;
    let tied = set(DEFAULT_CHANNEL, Follow::Revision(1));
    put(&test, "f", tied).await.unwrap().unwrap();

    let second = publish_version(&test, "1.1.0").await;
    assert_eq!((second.revision.number, second.active.number), (2, 1));
    assert_eq!(second.function.active_revision, 1);

    let in_range = set(DEFAULT_CHANNEL, range("~1"));
    let moved = put(&test, "f", in_range).await.unwrap().unwrap();
    assert_eq!(moved.active.number, 2);
    assert_eq!(publish_version(&test, "2.0.0").await.active.number, 2);
    assert_eq!(publish_version(&test, "1.2.0").await.active.number, 4);

    let deleted = test.store.delete_channel(&ours(), "f", DEFAULT_CHANNEL, ACTOR, 1).await.unwrap();
    assert_eq!(deleted.unwrap().active.number, 4);
    assert_eq!(publish_version(&test, "2.1.0").await.active.number, 5, "the newest again");
}

#[tokio::test]
async fn a_roll_back_ends_the_weights_of_the_default_channel() {
    let test = TestStore::new().await;
    publish_version(&test, "1.0.0").await;
    publish_version(&test, "1.1.0").await;
    let weights = vec![Weight { revision: 1, percent: 10 }];
    let canary = NewChannel { weights, ..set(DEFAULT_CHANNEL, Follow::Revision(2)) };
    let put = put(&test, "f", canary).await.unwrap().unwrap();
    let numbers: Vec<u32> = put.channels[0].revisions.iter().map(|r| r.number).collect();
    assert_eq!(numbers, [2, 1]);

    let back = test.store.roll_back(&ours(), "f", ACTOR, 4_000).await.unwrap().unwrap();

    assert_eq!(back.active.number, 1);
    assert_eq!(back.channels[0].channel.weights, []);
    assert_eq!(back.channels[0].channel.revision, 1);
}

#[tokio::test]
async fn what_cannot_be_a_channel_is_refused_and_changes_nothing() {
    let test = TestStore::new().await;
    publish_version(&test, "1.0.0").await;
    let set_to = async |new| put(&test, "f", new).await;
    let weighted = NewChannel {
        weights: vec![Weight { revision: 7, percent: 1 }],
        ..set("a", Follow::Revision(1))
    };
    let none_left = NewChannel { max: 0, ..set("a", Follow::Revision(1)) };

    let refused = set_to(set("a", Follow::Revision(9))).await;
    assert!(matches!(refused, Err(Error::NoSuchRevision { number: 9 })), "{refused:?}");
    let refused = set_to(weighted).await;
    assert!(matches!(refused, Err(Error::NoSuchRevision { number: 7 })), "{refused:?}");
    assert!(matches!(set_to(set("a", range("~2"))).await, Err(Error::RangeNotMet)));
    assert!(matches!(set_to(none_left).await, Err(Error::Quota { max: 0, .. })));
    let absent = put(&test, "g", set("a", Follow::Revision(1))).await;
    assert_eq!(absent.unwrap(), None);
    assert_eq!(test.store.channels(&ours(), "f").await.unwrap(), []);
    let deleted = test.store.delete_channel(&ours(), "f", "a", ACTOR, 1).await.unwrap();
    assert_eq!(deleted, None);
}

#[tokio::test]
async fn revisions_that_a_channel_points_to_are_not_removed() {
    let test = TestStore::new().await;
    publish_version(&test, "1.0.0").await;
    publish_version(&test, "1.1.0").await;
    publish_version(&test, "1.2.0").await;
    let weights = vec![Weight { revision: 2, percent: 5 }];
    let shadow = Some(Shadow { revision: 3, percent: 5, all_methods: false });
    let options = ChannelOptions { shadow, ..ChannelOptions::default() };
    let pinned = NewChannel { weights, options, ..set("prod", Follow::Revision(1)) };
    put(&test, "f", pinned).await.unwrap().unwrap();
    let quotas = Quotas { revisions_per_function: 2, ..Quotas::default() };
    for artifact in [b"4".as_slice(), b"5", b"6"] {
        publish(&test.store, NewRevision { quotas, ..new("f") }, artifact).await.unwrap();
    }

    let kept = test.store.revisions(&ours(), "f", None, 9).await.unwrap();

    assert_eq!(kept.iter().map(|r| r.number).collect::<Vec<_>>(), [6, 5, 3, 2, 1]);
    assert_eq!(test.store.channel_targets(kept[0].function_id).await.unwrap().len(), 1);
}

/// One step of an owner, or of the gateway.
#[derive(Clone, Debug)]
enum Step {
    Publish(Option<(u64, u64)>),
    /// A channel, what it follows, and a revision with a share.
    Set(usize, Result<u32, usize>, Option<u32>),
    /// A channel, its revision, and the candidate.
    Canary(usize, u32, u32),
    /// A channel, which decision, and whether the canary has changed since it was judged.
    Decide(usize, usize, bool),
    Delete(usize),
    Activate(u32),
    RollBack,
}

const CHANNELS: [&str; 3] = [DEFAULT_CHANNEL, "prod", "next"];
const RANGES: [&str; 3] = ["~1.1", "1", ">=2.0.0-0"];
const STEPS: [u8; 3] = [5, 25, 100];

fn step() -> impl Strategy<Value = Step> {
    let follow = prop_oneof![(1u32..8).prop_map(Ok), (0..RANGES.len()).prop_map(Err)];
    let weight = prop::option::weighted(0.3, 1u32..6);
    let channel = || 0..CHANNELS.len();
    prop_oneof![
        4 => prop::option::of((1u64..3, 0u64..3)).prop_map(Step::Publish),
        3 => (channel(), follow, weight).prop_map(|(channel, to, weight)| Step::Set(channel, to, weight)),
        3 => (channel(), 1u32..6, 1u32..6).prop_map(|(channel, old, new)| Step::Canary(channel, old, new)),
        4 => (channel(), 0usize..3, prop::bool::weighted(0.2))
            .prop_map(|(channel, decision, stale)| Step::Decide(channel, decision, stale)),
        1 => channel().prop_map(Step::Delete),
        1 => (1u32..8).prop_map(Step::Activate),
        1 => Just(Step::RollBack),
    ]
}

/// A channel as the store must show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ModelChannel {
    range: Option<&'static str>,
    revision: u32,
    weights: Vec<(u32, u8)>,
    /// The candidate of a canary and the index of its step.
    canary: Option<(u32, usize)>,
}

impl ModelChannel {
    /// Sends everything to one revision.
    fn settle(&mut self, revision: u32) {
        (self.revision, self.weights, self.canary) = (revision, Vec::new(), None);
    }
}

/// What the store must say, kept in the plainest way.
#[derive(Default)]
struct Model {
    versions: Vec<Option<Version>>,
    channels: BTreeMap<&'static str, ModelChannel>,
    active: u32,
}

impl Model {
    fn newest_in(&self, range: &str) -> Option<u32> {
        let range = VersionReq::parse(range).unwrap();
        let numbered = self.versions.iter().zip(1u32..);
        let met = numbered.filter_map(|(version, number)| Some((version.clone()?, number)));
        met.filter(|(version, _)| range.matches(version)).max().map(|(_, number)| number)
    }

    fn has(&self, revision: u32) -> bool {
        revision as usize <= self.versions.len()
    }

    fn publish(&mut self, version: Option<Version>) {
        self.versions.push(version);
        let moved: Vec<_> = self
            .channels
            .iter()
            .filter_map(|(name, channel)| Some((*name, self.newest_in(channel.range?)?)))
            .collect();
        for (name, revision) in moved {
            self.channels.get_mut(name).unwrap().revision = revision;
        }
        self.active = match self.channels.get(DEFAULT_CHANNEL) {
            Some(channel) => channel.revision,
            None => self.versions.len() as u32,
        };
    }

    /// Sets a channel if its revisions exist, and returns whether they do.
    fn set(&mut self, name: &'static str, to: ModelChannel) -> bool {
        let revision = match to.range {
            None => Some(to.revision).filter(|revision| self.has(*revision)),
            Some(range) => self.newest_in(range),
        };
        let Some(revision) = revision.filter(|_| to.weights.iter().all(|(own, _)| self.has(*own)))
        else {
            return false;
        };
        self.channels.insert(name, ModelChannel { revision, ..to });
        if name == DEFAULT_CHANNEL {
            self.active = revision;
        }
        true
    }

    fn activate(&mut self, revision: u32) {
        self.active = revision;
        if let Some(default) = self.channels.get_mut(DEFAULT_CHANNEL) {
            default.settle(revision);
        }
    }

    /// Carries out a decision about a canary that was not changed meanwhile.
    fn decide(&mut self, name: &'static str, decision: &CanaryDecision) -> bool {
        let Some(channel) = self.channels.get_mut(name) else { return false };
        let Some((candidate, step)) = channel.canary else { return false };
        match decision {
            CanaryDecision::Advance(_) => {
                channel.canary = Some((candidate, step + 1));
                channel.weights = vec![(candidate, STEPS[step + 1])];
            }
            CanaryDecision::Promote => channel.settle(candidate),
            CanaryDecision::RollBack => channel.settle(channel.revision),
        }
        if name == DEFAULT_CHANNEL {
            self.active = channel.revision;
        }
        true
    }
}

/// Carries out one step in the store and in the model.
async fn take(
    test: &TestStore,
    function: &str,
    model: &mut Model,
    step: Step,
) -> Result<(), TestCaseError> {
    match step {
        Step::Publish(version) => {
            // The patch counts up, so that no version comes twice.
            let patch = model.versions.len() as u64;
            let version = version.map(|(major, minor)| Version::new(major, minor, patch));
            let release =
                Release { semver: version.as_ref().map(ToString::to_string), ..Release::default() };
            let bytes = patch.to_string();
            let new = NewRevision { release, function, ..new("f") };
            publish(&test.store, new, bytes.as_bytes()).await.unwrap();
            model.publish(version);
        }
        Step::Set(channel, follow, weight) => {
            let name = CHANNELS[channel];
            let (asked, mut to) = match follow {
                Ok(revision) => {
                    (Follow::Revision(revision), ModelChannel { revision, ..Default::default() })
                }
                Err(index) => {
                    let text = RANGES[index];
                    (range(text), ModelChannel { range: Some(text), ..Default::default() })
                }
            };
            to.weights = weight.map(|revision| (revision, 10)).into_iter().collect();
            let weights = weight.map(|revision| Weight { revision, percent: 10 });
            let new = NewChannel { weights: weights.into_iter().collect(), ..set(name, asked) };
            prop_assert_eq!(put(test, function, new).await.is_ok(), model.set(name, to));
        }
        Step::Canary(channel, old, revision) => {
            let name = CHANNELS[channel];
            let steps = STEPS.to_vec();
            let old_sample = serde_json::Value::Null;
            let canary =
                Canary { revision, steps, requests: 20, step: 0, since_ms: 1, old: old_sample };
            let new = NewChannel { canary: Some(canary), ..set(name, Follow::Revision(old)) };
            let to = ModelChannel {
                range: None,
                revision: old,
                weights: vec![(revision, STEPS[0])],
                canary: Some((revision, 0)),
            };
            prop_assert_eq!(put(test, function, new).await.is_ok(), model.set(name, to));
        }
        Step::Decide(channel, decision, stale) => {
            decide(test, function, model, CHANNELS[channel], (decision, stale)).await?;
        }
        Step::Delete(channel) => {
            let name = CHANNELS[channel];
            let deleted = test.store.delete_channel(&ours(), function, name, ACTOR, 1).await;
            prop_assert_eq!(deleted.unwrap().is_some(), model.channels.remove(name).is_some());
        }
        Step::Activate(revision) => {
            let went = test.store.activate(&ours(), function, revision, ACTOR, 1).await.unwrap();
            prop_assert_eq!(went.is_some(), model.has(revision));
            if model.has(revision) {
                model.activate(revision);
            }
        }
        // Where to is what the history's own model says; here, that it goes there wholly.
        Step::RollBack => match test.store.roll_back(&ours(), function, ACTOR, 1).await {
            Ok(back) => model.activate(back.unwrap().active.number),
            Err(error) => prop_assert!(matches!(error, Error::Conflict), "{error:?}"),
        },
    }
    Ok(())
}

/// Decides about the canary of a channel, or about one that has changed since.
async fn decide(
    test: &TestStore,
    function: &str,
    model: &mut Model,
    name: &'static str,
    (decision, stale): (usize, bool),
) -> Result<(), TestCaseError> {
    let id = test.store.function(&ours(), function).await.unwrap().unwrap().function.id;
    let channels = test.store.channels(&ours(), function).await.unwrap();
    let running = channels.into_iter().find(|channel| channel.name == name);
    let Some(mut canary) = running.and_then(|channel| channel.canary) else { return Ok(()) };
    let decision = match decision {
        0 if !canary.is_last() => CanaryDecision::Advance(serde_json::json!({"requests": 20})),
        0 | 1 => CanaryDecision::Promote,
        _ => CanaryDecision::RollBack,
    };
    if stale {
        canary.since_ms += 1;
    }
    let decided = DecidedCanary { function_id: id, function, channel: name, canary: &canary };
    let figures = serde_json::json!({"figures": true});
    let outcome = test.store.decide_canary(&ours(), decided, decision.clone(), &figures, 7).await;
    let carried_out = !stale && model.decide(name, &decision);
    prop_assert_eq!(outcome.unwrap().is_some(), carried_out);
    if carried_out {
        let history = test.store.history(&ours(), function, None, 1).await.unwrap();
        prop_assert_eq!(&history[0].detail, &figures);
    }
    Ok(())
}

async fn run(test: &TestStore, function: &str, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    publish(&test.store, NewRevision { function, ..new("f") }, b"first").await.unwrap();
    model.publish(None);
    for step in steps {
        take(test, function, &mut model, step).await?;
        let active = test.store.function(&ours(), function).await.unwrap().unwrap();
        prop_assert_eq!(active.revision.number, model.active);
        let stored = test.store.channels(&ours(), function).await.unwrap();
        let stored: BTreeMap<_, _> = stored.iter().map(state).collect();
        let expected: BTreeMap<_, _> = model
            .channels
            .iter()
            .map(|(name, channel)| ((*name).to_owned(), shown(channel)))
            .collect();
        prop_assert_eq!(stored, expected);
    }
    Ok(())
}

/// The name of a channel, and what a [`ModelChannel`] knows of it.
type Shown = (Option<String>, u32, Vec<(u32, u8)>, Option<(u32, usize)>);

fn shown(channel: &ModelChannel) -> Shown {
    let ModelChannel { range, revision, weights, canary } = channel;
    (range.map(str::to_owned), *revision, weights.clone(), *canary)
}

fn state(channel: &Channel) -> (String, Shown) {
    let weights = channel.weights.iter().map(|weight| (weight.revision, weight.percent)).collect();
    let canary = channel.canary.as_ref().map(|canary| (canary.revision, canary.step));
    (channel.name.clone(), (channel.range.clone(), channel.revision, weights, canary))
}

/// 200 walks, or 10,000 with `MAYFLY_LONG=1`. Each has a function of its own in the same store.
#[test]
fn channels_are_where_a_model_says_after_any_changes() {
    let long = std::env::var_os("MAYFLY_LONG").is_some_and(|value| value == "1");
    let cases = if long { 10_000 } else { 200 };
    let config = ProptestConfig { cases, ..ProptestConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = runtime.block_on(TestStore::new());
    let walks = std::cell::Cell::new(0);
    proptest!(config, |(steps in prop::collection::vec(step(), 1..20))| {
        walks.set(walks.get() + 1);
        runtime.block_on(run(&test, &format!("f{}", walks.get()), steps))?;
    });
}
