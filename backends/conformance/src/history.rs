//! Whether what several clients have seen of one key has an order: a search after Wing and Gong.
//!
//! A history is linearizable if its operations can be put in one order that every client could have seen:
//! each takes effect at one moment between its call and its answer, and answers what it must after those
//! before it. The search takes one of the operations that may come next, and goes back where none fits. What
//! it has tried in vain it remembers, as Lowe has proposed.

use std::collections::HashSet;

/// An operation on one key, and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A read: the value and its version, or nothing.
    Read(Option<(i64, u64)>),
    /// A write of a value without an expectation: the version that it got.
    Write(i64, u64),
    /// A write that expected a version, 0 for nothing, and got one.
    Swapped(u64, i64, u64),
    /// A write that expected a version, 0 for nothing, and found something else.
    Conflict(u64, Option<(i64, u64)>),
    /// A removal: whether there was something.
    Removed(bool),
    /// An addition, and the sum.
    Added(i64, i64),
}

/// An operation, and when it was.
#[derive(Clone, Debug)]
pub struct Event {
    /// The moment before it began. No two events share a moment.
    pub called: u64,
    /// The moment after it was answered.
    pub answered: u64,
    /// What it was.
    pub operation: Operation,
}

/// What is under the key at some point of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Model {
    /// The value, and its version if an answer has shown it.
    entry: Option<(i64, Option<u64>)>,
    /// The greatest version that was seen.
    last: u64,
}

impl Model {
    /// The state after an operation, if it could have had its outcome here.
    fn after(&self, operation: &Operation) -> Option<Self> {
        match operation {
            Operation::Read(seen) => self.seeing(*seen),
            Operation::Write(value, version) => self.writing(*value, *version),
            Operation::Swapped(expected, value, version) => {
                self.is(*expected)?;
                self.writing(*value, *version)
            }
            Operation::Conflict(expected, seen) => {
                let found = seen.map_or(0, |(_, version)| version);
                (found != *expected).then(|| self.seeing(*seen)).flatten()
            }
            Operation::Removed(was_there) => {
                (self.entry.is_some() == *was_there).then(|| Self { entry: None, ..self.clone() })
            }
            Operation::Added(delta, sum) => {
                let before = self.entry.map_or(0, |(value, _)| value);
                (before + delta == *sum).then(|| Self { entry: Some((*sum, None)), ..self.clone() })
            }
        }
    }

    fn writing(&self, value: i64, version: u64) -> Option<Self> {
        (version > self.last).then_some(Self { entry: Some((value, Some(version))), last: version })
    }

    /// The state in which a client sees this.
    fn seeing(&self, seen: Option<(i64, u64)>) -> Option<Self> {
        match (self.entry, seen) {
            (None, None) => Some(self.clone()),
            (Some((value, Some(version))), Some(seen)) => {
                (seen == (value, version)).then(|| self.clone())
            }
            // The version of a sum is seen for the first time: it must be a new one.
            (Some((value, None)), Some(seen)) if seen.0 == value => self.writing(value, seen.1),
            (Some(_), Some(_) | None) | (None, Some(_)) => None,
        }
    }

    /// Whether the entry has this version, or may have it.
    fn is(&self, expected: u64) -> Option<()> {
        let is = match self.entry {
            None => expected == 0,
            Some((_, Some(version))) => version == expected,
            Some((_, None)) => expected > self.last,
        };
        is.then_some(())
    }
}

/// Whether the events of one key, which has nothing at first, can be put in an order.
pub fn is_linearizable(events: &[Event]) -> bool {
    let mut events = events.to_vec();
    events.sort_by_key(|event| event.called);
    let mut tried = HashSet::new();
    // Events that were put in order, with the state before each and where to go on looking.
    let mut order: Vec<(usize, Model)> = Vec::with_capacity(events.len());
    let mut taken = vec![false; events.len()];
    let (mut model, mut from) = (Model::default(), 0);
    while order.len() < events.len() {
        if let Some((index, next)) = next(&events, &taken, &model, from, &tried) {
            taken[index] = true;
            tried.insert((packed(&taken), next.clone()));
            order.push((index, std::mem::replace(&mut model, next)));
            from = 0;
        } else {
            let Some((index, before)) = order.pop() else { return false };
            taken[index] = false;
            (model, from) = (before, index + 1);
        }
    }
    true
}

/// The next event, at or after `from`, that may come here, and the state after it.
fn next(
    events: &[Event],
    taken: &[bool],
    model: &Model,
    from: usize,
    tried: &HashSet<(Vec<u64>, Model)>,
) -> Option<(usize, Model)> {
    let left = || (0..events.len()).filter(|index| !taken[*index]);
    // An event that began after the answer of another one comes after it.
    let first_answer = left().map(|index| events[index].answered).min()?;
    left()
        .filter(|index| *index >= from)
        .take_while(|index| events[*index].called < first_answer)
        .find_map(|index| {
            let after = model.after(&events[index].operation)?;
            let mut taken = taken.to_vec();
            taken[index] = true;
            (!tried.contains(&(packed(&taken), after.clone()))).then_some((index, after))
        })
}

fn packed(taken: &[bool]) -> Vec<u64> {
    let word = |bits: &[bool]| bits.iter().rev().fold(0, |word, bit| word << 1 | u64::from(*bit));
    taken.chunks(64).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(events: &[(u64, u64, Operation)]) -> Vec<Event> {
        let event = |(called, answered, operation): &(u64, u64, Operation)| Event {
            called: *called,
            answered: *answered,
            operation: operation.clone(),
        };
        events.iter().map(event).collect()
    }

    #[test]
    fn concurrent_operations_may_be_seen_in_either_order() {
        use Operation::{Added, Conflict, Read, Removed, Swapped, Write};
        let good = history(&[
            (1, 10, Write(1, 1)),
            (2, 3, Read(None)),
            (4, 9, Added(5, 6)),
            (5, 8, Read(Some((1, 1)))),
            (11, 12, Read(Some((6, 2)))),
            (13, 20, Swapped(2, 7, 3)),
            (14, 19, Conflict(2, Some((7, 3)))),
            (21, 22, Removed(true)),
            (23, 24, Conflict(3, None)),
        ]);

        assert!(is_linearizable(&good));
    }

    #[test]
    fn what_no_order_explains_is_found() {
        use Operation::{Added, Read, Removed, Swapped, Write};
        let stale = [(1, 2, Write(1, 1)), (3, 4, Write(2, 2)), (5, 6, Read(Some((1, 1))))];
        let lost = [(1, 5, Added(1, 1)), (2, 6, Added(1, 1))];
        let twice = [(1, 2, Write(1, 1)), (3, 7, Swapped(1, 2, 2)), (4, 8, Swapped(1, 3, 3))];
        let back = [(1, 2, Write(1, 2)), (3, 4, Removed(true)), (5, 6, Write(1, 1))];
        let flicker = [
            (1, 2, Write(1, 1)),
            (3, 20, Write(2, 2)),
            (4, 5, Read(Some((2, 2)))),
            (6, 7, Read(Some((1, 1)))),
        ];

        for (name, events) in [
            ("stale", &stale[..]),
            ("lost", &lost),
            ("twice", &twice),
            ("back", &back),
            ("flicker", &flicker),
        ] {
            assert!(!is_linearizable(&history(events)), "{name}");
        }
    }
}
