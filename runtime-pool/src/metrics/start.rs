//! How an invocation started, and how long each phase of it took. The words are the same in the
//! API, in metrics, in `Server-Timing` and in benchmarks.

use std::time::Duration;

/// What had to be done before the guest could run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// An instance was waiting.
    Warm,
    /// The code was in memory; the instance was made.
    Loaded,
    /// Only the files existed: the code was mapped and linked.
    Cold,
    /// There was no native code for this host: it was compiled.
    Frozen,
}

impl Tier {
    /// All of them, in the order of their numbers.
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
    /// Waiting: for a slot of the function, or while somebody else loads it.
    Queue,
    /// Finding out where the artifact is.
    Fetch,
    /// Making native code, or verifying that which is on disk.
    Compile,
    /// Mapping native code into memory.
    Load,
    /// Resolving its imports.
    Link,
    /// Making the instance.
    Instantiate,
    /// From the instance's first instruction to the head of the response.
    Guest,
    /// All of it, from the head of the request on.
    Total,
}

impl Phase {
    /// All of them, in the order of their numbers, which is that of time.
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

/// How long the phases took that an invocation went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases([Option<Duration>; Phase::ALL.len()]);

impl Phases {
    /// How long one took; nothing if the invocation did not go through it.
    pub fn get(&self, phase: Phase) -> Option<Duration> {
        self.0[phase as usize]
    }

    /// Notes how long one took.
    pub fn set(&mut self, phase: Phase, took: Duration) {
        self.0[phase as usize] = Some(took);
    }

    /// Adds to what one took.
    pub(crate) fn add(&mut self, phase: Phase, took: Duration) {
        let sum = self.get(phase).unwrap_or_default() + took;
        self.set(phase, sum);
    }

    /// Those that the invocation went through, in the order of time.
    pub fn iter(&self) -> impl Iterator<Item = (Phase, Duration)> {
        Phase::ALL.into_iter().filter_map(|phase| Some((phase, self.get(phase)?)))
    }
}

/// How an invocation started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// From how far it came.
    pub tier: Tier,
    /// What that took.
    pub phases: Phases,
}

impl Start {
    /// Nothing has been done yet.
    pub(crate) fn from(tier: Tier) -> Self {
        Self { tier, phases: Phases::default() }
    }

    /// The start of an invocation whose function was in memory.
    pub fn resident() -> Self {
        Self::from(Tier::Loaded)
    }
}
