//! How an invocation started, and how long each phase of it took. The words are the same in the
//! API, in metrics, in `Server-Timing` and in benchmarks.

use std::time::Duration;

/// How much work an invocation's start took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// A warm instance took the invocation.
    Warm,
    /// The code was in memory, and an instance was made.
    Loaded,
    /// The code was on disk: it was mapped and linked.
    Cold,
    /// There was no native code for this host: it was compiled.
    Frozen,
}

impl Start {
    /// How long it took until the function was in memory; zero if it was there.
    pub(crate) fn loading(&self) -> Duration {
        match self.tier {
            Tier::Warm | Tier::Loaded => Duration::ZERO,
            Tier::Cold | Tier::Frozen => self.phases.iter().map(|(_, took)| took).sum(),
        }
    }
}

impl Tier {
    /// Every tier, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Warm, Self::Loaded, Self::Cold, Self::Frozen];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Loaded => "loaded",
            Self::Cold => "cold",
            Self::Frozen => "frozen",
        }
    }
}

/// A part of an invocation, up to the head of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Waiting for a concurrency slot, in the run queue, or for another invocation that loads the
    /// function.
    Queue,
    /// Looking up the artifact.
    Fetch,
    /// Compiling the artifact.
    Compile,
    /// Verifying native code from the disk, and mapping it into memory.
    Load,
    /// Resolving its imports.
    Link,
    /// Making the instance.
    Instantiate,
    /// From the instance's first instruction to the head of the response.
    Guest,
    /// From the head of the request to the head of the response.
    Total,
}

impl Phase {
    /// Every phase, in the order of their discriminants, which is the order in time.
    pub const ALL: [Self; 8] = [
        Self::Queue,
        Self::Fetch,
        Self::Compile,
        Self::Load,
        Self::Link,
        Self::Instantiate,
        Self::Guest,
        Self::Total,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Fetch => "fetch",
            Self::Compile => "compile",
            Self::Load => "load",
            Self::Link => "link",
            Self::Instantiate => "instantiate",
            Self::Guest => "guest",
            Self::Total => "total",
        }
    }
}

/// The time of each phase that an invocation went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases([Option<Duration>; Phase::ALL.len()]);

impl Phases {
    /// The time of one phase, if the invocation went through it.
    pub fn get(&self, phase: Phase) -> Option<Duration> {
        self.0[phase as usize]
    }

    /// Sets the time of one phase.
    pub fn set(&mut self, phase: Phase, took: Duration) {
        self.0[phase as usize] = Some(took);
    }

    /// Adds to the time of one phase.
    pub(crate) fn add(&mut self, phase: Phase, took: Duration) {
        let sum = self.get(phase).unwrap_or_default() + took;
        self.set(phase, sum);
    }

    /// The phases that the invocation went through, in the order in time.
    pub fn iter(&self) -> impl Iterator<Item = (Phase, Duration)> {
        Phase::ALL.into_iter().filter_map(|phase| Some((phase, self.get(phase)?)))
    }
}

/// How an invocation started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its tier.
    pub tier: Tier,
    /// The time of its phases.
    pub phases: Phases,
}

impl Start {
    /// A start of this tier, without phases yet.
    pub(crate) fn from(tier: Tier) -> Self {
        Self { tier, phases: Phases::default() }
    }

    /// The start of an invocation whose function was in memory.
    pub fn resident() -> Self {
        Self::from(Tier::Loaded)
    }
}
